"""Three proxies behind nginx under load, at length: `sh scripts/test-scale-out`.

Needs nginx, redis-server and PostgreSQL. Every part is killed and started again, a new configuration is rolled through
and back, and every request and record is accounted for. Prints each step, then one line of JSON; ends with 1 where
something is wrong.
"""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from fleet import KEY, NAMES, Fleet, fleet
from planted import planted_artifact
from postgres_server import why_absent
from steady_load import Asked, Load, account, await_records, load, stand_in

OLD, NEW = 1.0, 500.0
N_CLIENTS = 6
WITHOUT_S = 5.0
"""How long a part is away."""


def main() -> None:
    """Runs every step; ends with 1 where a request or record is not accounted for."""
    missing = [name for name in ("nginx", "redis-server") if shutil.which(name) is None]
    if missing or why_absent():
        sys.exit(f"not installed: {', '.join(missing) or why_absent()}")
    with tempfile.TemporaryDirectory() as name, stand_in() as (upstream, llms):
        folder = Path(name)
        planted_artifact(folder / "artifact")
        with fleet(folder, folder / "artifact", upstream) as parts:
            started = parts.start(parts.configuration(OLD), *NAMES)
            print(f"three proxies started at once in {max(started):.0f} s")
            with load(f"{parts.nginx.url}/v1", KEY, n_clients=N_CLIENTS) as clients:
                steps = [step(clients) for step in _steps(parts)]
            codes = [one.end() for one in parts.proxies.values()]
            found = account(clients.asked, parts.records(), llms.asked, parts.nginx.log, parts.deaths)
    for sentence in found.wrong:
        print(sentence)
    summary = {**asdict(found), "wrong": len(found.wrong), "exit_codes": codes, "steps": steps}
    print(json.dumps(summary))
    sys.exit(1 if found.wrong or any(codes) else 0)


Step = Callable[[Load], dict[str, object]]


def _steps(parts: Fleet) -> Iterator[Step]:
    yield _step("nothing", partial(_nothing, parts))
    yield _step("Redis killed and started", partial(_redis, parts))
    yield _step("PostgreSQL killed and started", partial(_postgres, parts))
    yield _step("nginx reloaded five times", partial(_reload, parts))
    for name in NAMES:
        yield _step(f"{name} killed and started", partial(_kill, parts, name))
    for config in (NEW, OLD):
        for name in NAMES:
            yield _step(f"{name} rolled to {config:g}", partial(_roll, parts, name, config))
    yield _step("proxy-1 told to end, unannounced", partial(_end, parts))
    yield _step("nothing", partial(_nothing, parts))


def _step(what: str, do: Callable[[Load], object]) -> Step:
    def run(clients: Load) -> dict[str, object]:
        with _watched(clients) as asked:
            begun = time.monotonic()
            do(clients)
            clients.await_answers(N_CLIENTS)
            took = time.monotonic() - begun
        waits = sorted(one.ended - one.began for one in asked if one.answered)
        told = {
            "step": what,
            "seconds": round(took, 1),
            "answered": len(waits),
            "failed": len(asked) - len(waits),
            "p50_s": round(waits[len(waits) // 2], 2),
            "slowest_s": round(waits[-1], 2),
        }
        print("  ".join(f"{name} {value}" for name, value in told.items()), flush=True)
        return told

    return run


@contextmanager
def _watched(clients: Load) -> Iterator[list[Asked]]:
    """The requests that end meanwhile, filled in at the end."""
    before, found = len(clients.asked), list[Asked]()
    yield found
    found += clients.asked[before:]


def _nothing(_parts: Fleet, _clients: Load) -> None:
    time.sleep(WITHOUT_S)


def _redis(parts: Fleet, _clients: Load) -> None:
    parts.redis.kill()
    time.sleep(WITHOUT_S)
    parts.redis.start()


def _postgres(parts: Fleet, clients: Load) -> None:
    parts.postgres.stop("immediate")
    time.sleep(WITHOUT_S)
    parts.postgres.start()
    await_records(clients, parts.records)


def _reload(parts: Fleet, _clients: Load) -> None:
    for _ in range(5):
        parts.nginx.reload()


def _kill(parts: Fleet, name: str, clients: Load) -> None:
    await_records(clients, parts.records, parts.deaths)
    parts.kill(name)
    time.sleep(WITHOUT_S)
    parts.start(parts.configuration(OLD), name)


def _roll(parts: Fleet, name: str, config: float, _clients: Load) -> None:
    if parts.roll(name, parts.configuration(config)) != 0:
        sys.exit(f"{name} did not end with 0")


def _end(parts: Fleet, _clients: Load) -> None:
    parts.end_unannounced("proxy-1")
    parts.start(parts.configuration(OLD), "proxy-1")


if __name__ == "__main__":
    main()
