"""What is asked: prompts with a way to grade the answers, from a user's file, recorded traffic, or generators."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from embedllm_router.errors import ConfigError, DataError
from embedllm_router.profiling.graders import Grader, GraderKind
from embedllm_router.proxy.call import Message
from embedllm_router.records.reader.recorded import RecordedRequest
from embedllm_router.routing.prompt import read_body

__all__ = ["GENERATED", "Task", "generated", "read_tasks", "recorded_tasks"]

_ID_CHARS: Final = 24
_MOST_BYTES: Final = 1 << 28
_MOST_CHARS: Final = 400_000


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt, and how answers to it are graded.

    Attributes:
        id: Hash of the messages and the grader: the same task has the same id in every run.
        messages: What is sent.
        text: What of it predictions are made from, as the proxy does.
        category: What it is about.
        grader: How answers are graded.
    """

    id: str
    messages: tuple[Message, ...]
    text: str
    category: str
    grader: Grader

    @classmethod
    def of(cls, messages: Sequence[Message], category: str, grader: Grader) -> "Task":
        """The task of some messages."""
        listed = [{"role": one.role, "content": one.content} for one in messages]
        content = orjson.dumps([listed, grader.model_dump(mode="json")])
        text = read_body({"messages": listed}).text
        return cls(hashlib.sha256(content).hexdigest()[:_ID_CHARS], tuple(messages), text, category, grader)

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes of its messages; no tokenizer makes more tokens of them."""
        return sum(len(one.content.encode("utf-8", "surrogatepass")) for one in self.messages)


# A user's file


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    prompt: str | list[Message]
    reference: Any = None
    grader: GraderKind | dict[str, Any] | None = None
    category: str = "own"
    id: Any = None


def read_tasks(path: Path, default: GraderKind) -> list[Task]:
    """Reads a user's prompts.

    Args:
        path: A file with one JSON object per line: `prompt`, a text or a list of messages; where known `reference`;
            `grader`, a name or an object with `type` and its options; `category`.
        default: Grader of a line that has neither a reference nor a grader.

    Returns:
        The tasks in the order of the file, none twice.

    Raises:
        DataError: A line is wrong, or there is none; the message names the line.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes, expected at most {_MOST_BYTES:,}.")
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    tasks = [_task(path, number, line, default) for number, line in enumerate(lines, start=1) if line.strip()]
    if not tasks:
        raise DataError(f'{path} has no lines, expected one JSON object per line, such as {{"prompt": "…"}}.')
    return _unlike(tasks)


def _unlike(tasks: Iterable[Task]) -> list[Task]:
    return list({task.id: task for task in tasks}.values())


def _task(path: Path, number: int, line: bytes, default: GraderKind) -> Task:
    try:
        row = _Row.model_validate(orjson.loads(line))
        messages = [Message("user", row.prompt)] if isinstance(row.prompt, str) else row.prompt
        grader = Grader.model_validate(_grader_fields(row, default))
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}, line {number} is not JSON: {error.msg}.") from None
    except ValidationError as error:
        raise DataError(f"{path}, line {number}: {_first(error)}.") from None
    n_chars = sum(len(one.content) for one in messages)
    if not any(one.content.strip() for one in messages if one.role == "user"):
        raise DataError(
            f"{path}, line {number}: the prompt is empty, expected a text or messages with one of the user."
        )
    if n_chars > _MOST_CHARS:
        raise DataError(
            f"{path}, line {number}: the prompt has {n_chars:,} characters, expected at most {_MOST_CHARS:,}."
        )
    return Task.of(messages, row.category, grader)


def _grader_fields(row: _Row, default: GraderKind) -> Mapping[str, Any]:
    given = row.grader
    fields = dict(given) if isinstance(given, dict) else {"type": given or _usual(row.reference, default)}
    return fields if row.reference is None else {"reference": row.reference, **fields}


def _usual(reference: object, default: GraderKind) -> GraderKind:
    if reference is None:
        return default
    return "numeric" if isinstance(reference, int | float) and not isinstance(reference, bool) else "exact"


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


# Recorded traffic


def recorded_tasks(requests: Iterable[RecordedRequest], kind: GraderKind) -> list[Task]:
    """The prompts of recorded requests, none twice; those of which no text was kept are left out.

    Args:
        requests: As they are stored.
        kind: How answers are graded: "judge" or "agreement".
    """
    kept = [(one.prompt, one.category) for one in requests if one.prompt is not None and one.prompt.strip()]
    grader = Grader(type=kind)
    return _unlike(Task.of([Message("user", text)], category or "recorded", grader) for text, category in kept)


# Generated tasks

_ASIDE: Final = "Solve the task. Think as long as you need; end with one line of the form `Answer: …`."
_FORM: Final = "Give nothing but the result after `Answer:`."

Settings = Mapping[str, object]

GENERATED: Final[Mapping[str, tuple[GraderKind, Settings, Settings | None]]] = {
    "basic_arithmetic": (
        "numeric",
        {"max_terms": 3, "max_digits": 2},
        {"min_terms": 6, "max_terms": 9, "min_digits": 3},
    ),
    "chain_sum": ("numeric", {"max_terms": 3, "max_digits": 2}, {"min_terms": 8, "max_terms": 12, "max_digits": 6}),
    "products": ("numeric", {"max_digits": 2}, {"min_digits": 3, "max_digits": 5}),
    "gcd": ("numeric", {"max_value": 100}, {"min_value": 1_000, "max_value": 100_000}),
    "lcm": ("numeric", {"max_value": 20}, {"min_value": 100, "max_value": 900}),
    "count_primes": ("numeric", {"max_n": 100}, {"max_n": 3_000}),
    "base_conversion": ("exact", {"max_value": 100}, {"min_value": 10_000, "max_value": 1_000_000}),
    "calendar_arithmetic": ("exact", {}, None),
    "time_intervals": ("exact", {}, None),
    "leg_counting": ("numeric", {"max_animals": 3}, {"min_animals": 6, "max_animals": 10}),
    "gsm_symbolic": ("numeric", {}, None),
    "simple_equations": ("numeric", {"max_terms": 2}, {"min_terms": 4, "max_terms": 6}),
    "number_sequence": ("numeric", {"max_complexity": 1}, {"max_complexity": 3}),
    "word_sorting": ("exact", {"max_words": 4}, {"min_words": 12, "max_words": 20}),
    "letter_counting": ("numeric", {"max_words": 6}, {"min_words": 20, "max_words": 40}),
    "spell_backward": ("exact", {"max_word_len": 5}, {"min_word_len": 9}),
    "caesar_cipher": ("exact", {"max_words": 4}, {"min_words": 8, "max_words": 16}),
    "string_manipulation": ("exact", {"max_num_rules": 3}, {"min_num_rules": 5}),
    "syllogism": ("exact", {}, None),
    "aiw": ("exact", {}, None),
    "zebra_puzzles": (
        "exact",
        {"num_people": 3, "num_characteristics": 3},
        {"num_people": 4, "num_characteristics": 4},
    ),
    "family_relationships": ("exact", {"max_family_size": 5}, {"min_family_size": 8}),
    "needle_haystack": ("exact", {"max_num_statements": 40}, {"min_num_statements": 150, "max_num_statements": 300}),
}
"""Generators of the package reasoning-gym whose tasks have one right answer: grader, settings if easy and if hard."""


def generated(n: int, seed: int = 0) -> list[Task]:
    """Tasks whose answers the generators know, of every kind and difficulty about as many.

    The answers are graded by our own graders: some of the generators' own evaluate what an LLM wrote.

    Args:
        n: How many.
        seed: Of the random generators; the same seed gives the same tasks.

    Raises:
        ConfigError: The package reasoning-gym is not installed.
    """
    try:
        import reasoning_gym  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(
            "generated tasks need the package reasoning-gym: pip install 'embedllm-router[profile]'; or give your own "
            "prompts with --prompts FILE."
        ) from None
    easy = [(f"{name}/easy", settings) for name, (_, settings, _) in GENERATED.items()]
    hard = [(f"{name}/hard", settings) for name, (_, _, settings) in GENERATED.items() if settings is not None]
    kinds = easy + hard
    each = -(-n // len(kinds))
    made = []
    for category, settings in kinds:
        name = category.partition("/")[0]
        entries = reasoning_gym.create_dataset(name, size=each, seed=seed, **settings)
        made.append([_generated(category, GENERATED[name][0], entry) for entry in entries])
    in_turn = [task for row in zip(*made, strict=True) for task in row]
    return _unlike(in_turn)[:n]


def _generated(category: str, kind: GraderKind, entry: Mapping[str, Any]) -> Task:
    messages = [Message("system", f"{_ASIDE} {_FORM}"), Message("user", str(entry["question"]))]
    return Task.of(messages, category, Grader(type=kind, reference=entry["answer"]))
