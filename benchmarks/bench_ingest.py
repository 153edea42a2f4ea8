"""How long `ingest` takes on a large CSV of the EmbedLLM release's shape, and how much memory: far less than the file.

    python benchmarks/bench_ingest.py [--mb 300]

Ends with one JSON line. The ingestion runs in a process of its own, whose highest resident size is read.
"""

import argparse
import csv
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

N_LLMS = 112
COLUMNS = ("prompt_id", "model_id", "category_id", "category", "label", "model_name", "prompt")


def write_release(folder: Path, megabytes: int) -> int:
    """Writes train.csv with prompts of about 700 characters, each beside every LLM; returns its rows."""
    rng = random.Random(0)  # noqa: S311 - made-up data
    words = ["which", "train", "leaves", '"noon"', "twelve,", "ratio", "because", "river\n", "energy", "court"]
    rows = 0
    with (folder / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        while file.tell() < megabytes * 1e6:
            prompt = f"{rows} {' '.join(rng.choices(words, k=110))}"
            for llm in range(N_LLMS):
                writer.writerow([rows // N_LLMS, llm, rows % 10, "made_up", rng.randrange(2), f"org/llm-{llm}", prompt])
                rows += 1
    return rows


def run(command: list[str]) -> tuple[float, float]:
    """Seconds a command took, and the highest resident size of any command so far in MB."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3


def main() -> None:
    """Writes the file, ingests it, prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=300)
    megabytes = parser.parse_args().mb
    with tempfile.TemporaryDirectory() as folder:
        rows = write_release(Path(folder), megabytes)
        size = (Path(folder) / "train.csv").stat().st_size / 1e6
        imports, idle = run([sys.executable, "-c", "import embedllm_router.data.ingest"])
        command = [sys.executable, "-m", "embedllm_router", "ingest", folder, "--out", str(Path(folder) / "out")]
        seconds, peak = run(command)
    print(f"{rows:,} rows, {size:,.0f} MB: {seconds:.1f} s, of which imports {imports:.1f} s")
    print(f"peak resident size {peak:,.0f} MB, of which {idle:,.0f} MB before the first row")
    print(json.dumps({"rows": rows, "mb": round(size), "seconds": round(seconds, 1), "peak_rss_mb": round(peak)}))


if __name__ == "__main__":
    main()
