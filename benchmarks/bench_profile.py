"""`profile` against a stand-in for paid LLMs that fails as providers do, killed in the middle and gone on with.

    python benchmarks/bench_profile.py [--n 200] [--concurrency 16]

Six simulated LLMs with planted abilities answer 800 questions of planted difficulty; no LLM is called. 6 % of the
requests are refused with 429, 5 % with 500, 2 % never answered, and 2 % cut off in the middle. The command is killed
with SIGKILL after a third of the answers and started again. The stand-in keeps a ledger; what the command says it spent
is compared with it. Ends with one JSON line.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from paid_llms import PaidLLM, StandIn, paid_llms

from embedllm_router.profiling.journal import Journal
from embedllm_router.profiling.tasks import read_tasks

ABILITIES = {"sim-a": -2.0, "sim-b": -1.0, "sim-c": -0.2, "sim-d": 0.6, "sim-e": 1.5, "sim-f": 3.0}
FAILURES = {"429": 0.06, "500": 0.05, "hang": 0.02, "cut": 0.02}
N_QUESTIONS = 800
HANGS_S, TIMEOUT_S, LATENCY_S = 60.0, 8.0, 0.3
MOST_S = 600.0


def main() -> None:
    """Runs it, kills it, runs it again, and says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args()
    llms = {
        name: PaidLLM(ability, 1e-6 * (i + 1), 4e-6 * (i + 1)) for i, (name, ability) in enumerate(ABILITIES.items())
    }
    stand_in = StandIn(llms, questions(), FAILURES, LATENCY_S, HANGS_S)
    with TemporaryDirectory() as folder, paid_llms(stand_in) as url:
        place = Path(folder)
        write(place, llms, stand_in.key, url)
        command = arguments(place, options.n, options.concurrency)
        started = time.perf_counter()
        killed_after_s = kill_after(command, place / "new.journal.jsonl", options.n * len(llms) // 3)
        done = subprocess.run(command, capture_output=True, check=True, timeout=MOST_S)
        seconds = time.perf_counter() - started
        say(json.loads(done.stdout), stand_in, seconds, killed_after_s, billed_while_dying(place, stand_in))


def questions() -> dict[str, tuple[str, float]]:
    """Right answer and difficulty by question."""
    rng = random.Random(0)  # noqa: S311 - planted questions
    found = {}
    for i in range(N_QUESTIONS):
        a, b = rng.randint(2, 999), rng.randint(2, 999)
        found[f"Question {i}: what is {a} times {b}?"] = (str(a * b), rng.uniform(-1.5, 1.5))
    return found


def write(place: Path, llms: dict[str, PaidLLM], key: Any, url: str) -> None:
    """Writes the configuration and the prompts."""
    rows = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": url,
                "api_key": "simulated",
                "input_cost_per_token": llm.input_usd,
                "output_cost_per_token": llm.output_usd,
            },
        }
        for name, llm in llms.items()
    ]
    (place / "config.yaml").write_text(json.dumps({"model_list": rows}))
    lines = [json.dumps({"prompt": question, "reference": int(right)}) for question, (right, _) in key.items()]
    (place / "prompts.jsonl").write_text("\n".join(lines))


def arguments(place: Path, n: int, concurrency: int) -> list[str]:
    """The command."""
    given = {"config": place / "config.yaml", "prompts": place / "prompts.jsonl", "out": place / "new", "n": n}
    more = {"concurrency": concurrency, "timeout": TIMEOUT_S, "budget-usd": 50}
    words = [f"--{name}={value}" for name, value in {**given, **more}.items()]
    return [sys.executable, "-W", "ignore", "-m", "embedllm_router", "profile", "--json", *words]


def kill_after(command: list[str], journal: Path, n: int) -> float:
    """Starts the command and kills it once so many requests have ended; the seconds that took."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ})
    while time.perf_counter() - started < MOST_S and process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b'"outcome":"answered"') >= n:
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    return time.perf_counter() - started


def billed_while_dying(place: Path, stand_in: StandIn) -> float:
    """What the stand-in billed for requests that were under way when the command was killed, in USD."""
    question = {task.id: task.text for task in read_tasks(place / "prompts.jsonl", "agreement")}
    journal = Journal(place / "new.journal.jsonl")
    lost = [(key.llm, question[key.task]) for key in journal.history.lost]
    journal.close()
    return sum(stand_in.billed.get(one, 0.0) for one in lost)


def say(result: dict[str, Any], stand_in: StandIn, seconds: float, killed_after_s: float, dying_usd: float) -> None:
    """Prints a line for each LLM, and the figures as JSON."""
    for one in result["llms"]:
        print(
            f"{one['name']}: planted {ABILITIES[one['name']]:+.1f}, {one['n_answers']} answers, "
            f"right {one['accuracy']:.3f} "
            f"[{one['accuracy_low']:.3f}, {one['accuracy_high']:.3f}], p_correct {one['p_before']:.3f} before, "
            f"{one['p_after']:.3f} after; {one['failures']}"
        )
    after = [one["p_after"] for one in result["llms"]]
    billed = sum(stand_in.bills.values())
    figures = {
        "seconds": round(seconds, 1),
        "killed_after_s": round(killed_after_s, 1),
        "answers": sum(one["n_answers"] for one in result["llms"]),
        "lost": sum(one["failures"].get("lost", 0) for one in result["llms"]),
        "requests": stand_in.n_requests,
        "ledger_usd": billed,
        "ours_usd": result["spent_usd"],
        "billed_while_dying_usd": dying_usd,
        "equal": math.isclose(billed, result["spent_usd"] + dying_usd, rel_tol=1e-9),
        "ledger_cut_usd": stand_in.cut_usd,
        "unknown_at_most_usd": result["unknown_usd"],
        "paid_twice": sum(n > 1 for n in stand_in.asked.values()),
        "in_order": after == sorted(after),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
