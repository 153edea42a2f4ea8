"""Scoring a file of prompts on Ray Data: workers load the weights once and make parts, each as `scoring` makes it."""

import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any

from embedllm_router.errors import ConfigError
from embedllm_router.evaluation.scoring import Job, Scored, begin, load_router, score_part

__all__ = ["score_on_ray"]

_OBJECT_STORE_BYTES = 128 << 20  # parts go to files; Ray moves only their numbers


class _Scorer:
    """One worker.

    Args:
        job: What is scored and how; its file, folder and weights must be where the worker finds them.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._router = job, load_router(job)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Makes parts; returns their numbers."""
        for number in batch["part"]:
            score_part(self._job, self._router, int(number))
        return {"part": batch["part"]}


def score_on_ray(
    job: Job,
    *,
    workers: int,
    address: str | None = None,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Scored:
    """Scores what is missing in several processes.

    Args:
        job: What is scored and how.
        workers: How many parts are made at once, one CPU each.
        address: A Ray cluster whose machines see the job's file, folder and weights under the same paths; None starts
            one on this machine and stops it in the end.
        on_progress: Called with what is being done, parts done and parts planned.

    Raises:
        ConfigError: Ray is not installed or cannot be reached, or as `scoring.begin`.
        DataError: As `scoring.begin`.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("several workers need Ray: pip install 'embedllm-router[ray]', or take --workers 1.")
    n_rows, missing = begin(job, load_router(job))
    n_parts = -(-n_rows // job.rows_per_part)
    if not missing:
        return Scored(n_rows, n_parts, 0)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    if address is None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's way to listen on 127.0.0.1 alone, on Linux too
    import ray  # noqa: PLC0415 - seconds, and only this way of scoring needs it

    _join(ray, workers, address)
    try:
        return Scored(n_rows, n_parts, _run(job, missing, workers, on_progress))
    finally:
        ray.shutdown()


def _join(ray: Any, workers: int, address: str | None) -> None:
    try:
        if address is not None:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        else:
            ray.init(
                address="local",
                num_cpus=workers,
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"Ray cannot be used ({str(error).splitlines()[0]}).") from error


def _run(job: Job, missing: list[int], workers: int, on_progress: Callable[[str, int, int], None]) -> int:
    """Makes the parts; returns how many were made."""
    import ray.data  # noqa: PLC0415 - as above

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    numbers = ray.data.from_items([{"part": number} for number in missing], override_num_blocks=len(missing))
    made = numbers.map_batches(
        _Scorer,
        fn_constructor_args=(job,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(missing))),
        num_cpus=1,
    )
    done = 0
    for done, _ in enumerate(made.iter_rows(), start=1):
        on_progress("scoring", done, len(missing))
    return done
