"""Prompts set aside for the verdict: drawn at random, put to every LLM, and learned from by no weights.

What is asked otherwise is chosen by what is not known yet, and the weights learn from it: a verdict by these answers
would flatter routing. Of the prompts set aside every LLM's grade is kept, so that all differences are paired.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from embedllm_router._files import draft_beside, put_in_place, why_no_place
from embedllm_router._hashing import digest_of
from embedllm_router.data.folder import read_folder
from embedllm_router.data.ingest import MANIFEST, ingest
from embedllm_router.errors import ConfigError
from embedllm_router.evaluation.verdict import MIN_REQUESTS
from embedllm_router.profiling.learning import FEWEST
from embedllm_router.profiling.tasks import Task

__all__ = ["SetAside", "check_data_place", "n_set_aside", "set_aside", "write_set_aside"]

_SHARE: Final = 4
_ENOUGH: Final = 80


@dataclass(frozen=True, slots=True)
class SetAside:
    """The prompts that were set aside, with what came of them.

    Attributes:
        folder: Data folder with their grades; it holds the prompts.
        n_prompts: Prompts that were set aside.
        n_complete: Of those, the ones with a grade of every LLM that was asked to the end.
    """

    folder: str
    n_prompts: int
    n_complete: int

    @property
    def is_enough(self) -> bool:
        """Whether a verdict is possible."""
        return self.n_complete >= MIN_REQUESTS


def n_set_aside(tasks: Sequence[Task], n: int, wanted: int | None = None) -> int:
    """How many prompts are set aside.

    Args:
        tasks: What may be asked.
        n: Prompts of each LLM at most.
        wanted: What the user wants; None sets a quarter aside, at least 30, and nothing below 80 prompts.

    Raises:
        ConfigError: So many leave too few to learn from, or are too few for a verdict.
    """
    asked, fit = min(n, len(tasks)), sum(_tells_right(one) for one in tasks)
    if wanted is None:
        return min(max(MIN_REQUESTS, asked // _SHARE), fit) if asked >= _ENOUGH and fit >= MIN_REQUESTS else 0
    if wanted and not MIN_REQUESTS <= wanted <= min(asked - FEWEST, fit):
        raise ConfigError(
            f"--verdict-prompts {wanted}: expected 0, or at least {MIN_REQUESTS} (fewer make no verdict) and at most "
            f"{min(asked - FEWEST, fit)} of the {asked} prompts of each LLM (the others teach; answers graded by "
            "agreement make no verdict)."
        )
    return wanted


def set_aside(tasks: Sequence[Task], n: int) -> list[int]:
    """Rows of the prompts that are set aside: by a hash, so that a run that goes on sets the same ones aside."""
    order = sorted((hashlib.sha256(f"set aside {task.id}".encode()).digest(), row) for row, task in enumerate(tasks))
    return [row for _, row in order if _tells_right(tasks[row])][:n]


def _tells_right(task: Task) -> bool:
    """Whether a grade says that an answer is right; agreement only says that it is another LLM's."""
    return task.grader.type != "agreement"


def check_data_place(folder: Path) -> None:
    """Makes sure that the data folder can be written, before anything is paid for.

    Raises:
        ConfigError: Something else is there, or nothing can be written.
    """
    if (reason := why_no_place(folder, MANIFEST, "made by profile or ingest")) is not None:
        raise ConfigError(reason)


def write_set_aside(rows: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """Writes grades as a data folder, readable by its owner alone, since it holds the prompts.

    Args:
        rows: Grades in the long form of correctness data, at least one.
        folder: The place; an older data folder there is replaced.

    Returns:
        Fingerprint of the prompts, by which weights know them.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        with draft_beside(folder) as draft:
            draft.chmod(0o700)
            grades, made = draft / "grades.jsonl", draft / "data"
            grades.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
            ingest([grades], made)
            made.chmod(0o700)
            put_in_place(made, folder)
    except OSError as error:
        raise ConfigError(f"the data folder {folder} cannot be written ({error.strerror}).") from error
    return digest_of(*sorted(read_folder(folder).prompt_ids))
