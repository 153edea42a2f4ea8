r"""Whether an answer is right, as far as that can be told without asking anybody: pure, bounded in time and memory.

An answer's last words count: what it puts into `\boxed{…}` or `<answer>…</answer>`, or after "Answer:". Without such a
mark its last line counts, and of numbers and letters the last one. Answers are whatever an LLM wrote, so each of them
may be huge, empty, or written to be graded well.
"""

import math
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import jsonschema
import orjson
import regex
from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["LATER", "Grade", "Grader", "GraderKind", "code_of", "final_answer", "grade", "same_answer"]

GraderKind = Literal["exact", "numeric", "multiple_choice", "regex", "json_schema", "unit_tests", "judge", "agreement"]
LATER: Final = frozenset({"unit_tests", "judge", "agreement"})
"""Graders that need more than the answer: a sandbox, a judge, another LLM's answer."""

_MOST_CHARS: Final = 200_000
_MARKED_CHARS: Final = 20_000  # of an answer's end, in which its result is looked for
_REGEX_S: Final = 1.0
_RELATIVE: Final = 1e-6


class Grader(BaseModel):
    """How the answers to a prompt are graded."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    type: GraderKind
    """Name of the grader."""
    reference: Any = None
    """The right text, number or letter; the pattern; the tests; a right answer for the judge to compare with."""
    tolerance: float | None = Field(default=None, ge=0)
    """How far a number may be from the right one; a millionth of it where nothing is said."""
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    """The JSON schema that an answer has to satisfy."""
    rubric: str | None = None
    """What the judge is told to look for."""

    @model_validator(mode="after")
    def _fits(self) -> "Grader":
        check = _CHECKS.get(self.type)
        problem = None if check is None else check(self)
        if problem is not None:
            raise ValueError(problem)
        return self


@dataclass(frozen=True, slots=True)
class Grade:
    """What an answer is worth.

    Attributes:
        score: In [0, 1]; None where it cannot be told.
        why: Why it cannot be told, or what was found; never the answer itself.
    """

    score: float | None
    why: str = ""


def grade(grader: Grader, answer: str) -> Grade:
    """Grades an answer.

    Args:
        grader: Not one of `LATER`.
        answer: What the LLM wrote.
    """
    try:
        return _GRADERS[grader.type](grader, answer[-_MOST_CHARS:])
    except TimeoutError:
        return Grade(None, f"reading the answer took longer than {_REGEX_S:g} s")


def same_answer(one: str, other: str) -> bool:
    """Whether two answers end in the same: the same number where both end in one, else the same words."""
    a, b = final_answer(one), final_answer(other)
    x, y = _as_number(a), _as_number(b)
    if x is not None and y is not None:
        return math.isclose(x, y, rel_tol=_RELATIVE, abs_tol=_RELATIVE)
    return bool(_normal(a)) and _normal(a) == _normal(b)


# Finding the answer

_MARKED: Final = (
    regex.compile(r"<answer>\s*(.{1,2000}?)\s*</answer>", regex.S | regex.I),
    regex.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\}){1,500})\}"),
    regex.compile(r"(?:^|\n)[\s>#*_]*(?:final\s+)?answer[*_]*\s*(?::|=|\bis\b)[ \t*_]*([^\n]{1,1000})", regex.I),
    regex.compile(r"\b(?:final\s+)?answer\s+is:?[ \t*_]*([^\n]{1,1000})", regex.I),
)
_FENCE: Final = regex.compile(r"```[\w+-]*[ \t]*\n(.*?)(?:\n```|\Z)", regex.S)
_TRIMMED: Final = " \t\r\n*_`'\"“”\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}.,;:!$"


def final_answer(text: str) -> str:
    """The part of an answer that counts, at most 2,000 characters."""
    marked = _marked(text)
    return marked if marked is not None else _last_line(text)


def _marked(text: str) -> str | None:
    """What an answer marks as its result, the last one of the surest mark."""
    for pattern in _MARKED:
        found = pattern.findall(text[-_MARKED_CHARS:], timeout=_REGEX_S)
        if found:
            return str(found[-1]).strip()
    return None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text[-_MOST_CHARS:].splitlines() if line.strip(_TRIMMED)]
    return lines[-1][-2000:] if lines else ""


def code_of(text: str) -> str:
    """The last block of code in an answer; all of it without one."""
    blocks = _FENCE.findall(text[-_MOST_CHARS:], timeout=_REGEX_S)
    return str(blocks[-1]) if blocks else text[-_MOST_CHARS:]


def _normal(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip(_TRIMMED)


# Numbers

_NUMBER: Final = regex.compile(
    r"(?<![\w.])[-+]?(?:\d{1,3}(?:[, ']\d{3})+(?!\d)|\d{1,400})?(?:\.\d{1,400}|(?<=\d))(?:[eE][-+]?\d{1,4})?"
)
_FRACTION: Final = regex.compile(r"(?<![\w.])([-+]?\d{1,40})\s?/\s?(\d{1,40})(?![\w/])")
_PLAIN: Final = str.maketrans(
    {"\N{MINUS SIGN}": "-", "\N{FRACTION SLASH}": "/", "\N{RIGHT SINGLE QUOTATION MARK}": "'"}
)
_LATEX_FRACTION: Final = regex.compile(r"\\d?frac\{([-+]?\d{1,40})\}\{(\d{1,40})\}")


def _numbers(text: str) -> list[float]:
    """Every number in a text, in order; a fraction is one number."""
    plain = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    plain = _LATEX_FRACTION.sub(r"\1/\2", plain)
    found = []
    place = 0
    while (match := _FRACTION.search(plain, place)) or place < len(plain):
        end = match.start() if match else len(plain)
        found += [float(regex.sub("[, ']", "", one)) for one in _NUMBER.findall(plain[place:end], timeout=_REGEX_S)]
        if match is None:
            break
        if int(match[2]):
            found.append(int(match[1]) / int(match[2]))
        place = match.end()
    return found


def _as_number(text: str) -> float | None:
    """The number that a result states; None where it states none, or several."""
    numbers = _numbers(text.rpartition("=")[2])
    return numbers[0] if len(numbers) == 1 else None


def _numeric(grader: Grader, answer: str) -> Grade:
    marked = _marked(answer)
    numbers = _numbers(answer) if marked is None else _numbers(marked.rpartition("=")[2])
    if not numbers:
        return Grade(0.0, "no number in the answer")
    value, wanted = (numbers[-1] if marked is None else numbers[0]), float(grader.reference)
    tolerance = _RELATIVE * max(abs(wanted), 1.0) if grader.tolerance is None else grader.tolerance
    return Grade(float(abs(value - wanted) <= tolerance))


# Texts, letters, patterns, JSON


def _exact(grader: Grader, answer: str) -> Grade:
    wanted = _normal(str(grader.reference))
    fenced = _FENCE.findall(answer, timeout=_REGEX_S)
    given = [final_answer(answer), answer, *fenced[-1:]]
    return Grade(float(any(_normal(one) == wanted for one in given)))


_CHOICE: Final = regex.compile(r"(?<![\w'])\(?([A-Z])\)?(?![\w'])")
_CHOSEN: Final = regex.compile(r"(?:^|[\s(*])\(?([A-Z])(?:\)|\.(?=\s|$)|:|\*\*|\s*$)", regex.M)


def _multiple_choice(grader: Grader, answer: str) -> Grade:
    marked = _marked(answer)
    whole = unicodedata.normalize("NFKC", answer if marked is None else marked).translate(_PLAIN)
    found = (_CHOSEN if marked is None else _CHOICE).findall(whole, timeout=_REGEX_S)
    if not found:
        return Grade(0.0, "no choice in the answer")
    return Grade(float((found[-1] if marked is None else found[0]) == str(grader.reference).strip().upper()))


def _regex(grader: Grader, answer: str) -> Grade:
    return Grade(float(regex.search(str(grader.reference), answer, timeout=_REGEX_S) is not None))


def _json_schema(grader: Grader, answer: str) -> Grade:
    fenced = _FENCE.findall(answer, timeout=_REGEX_S)
    try:
        value = orjson.loads((fenced[-1] if fenced else answer).strip())
    except orjson.JSONDecodeError:
        return Grade(0.0, "no JSON")
    try:
        jsonschema.validate(value, grader.json_schema or {})
    except jsonschema.ValidationError as error:
        return Grade(0.0, f"JSON does not satisfy {error.validator}"[:200])
    except RecursionError:
        return Grade(0.0, "JSON is nested too deeply")
    return Grade(1.0 if grader.reference is None else float(value == grader.reference))


_GRADERS: Final[dict[str, Callable[[Grader, str], Grade]]] = {
    "exact": _exact,
    "numeric": _numeric,
    "multiple_choice": _multiple_choice,
    "regex": _regex,
    "json_schema": _json_schema,
}


# Checking what a user wrote


def _check_text(grader: Grader) -> str | None:
    plain = isinstance(grader.reference, str | int | float) and _normal(str(grader.reference))
    return None if plain else f"{grader.type} needs a reference: the right text"


def _check_number(grader: Grader) -> str | None:
    try:
        number = float(grader.reference)
    except (TypeError, ValueError, OverflowError):
        return "numeric needs a reference that is a number"
    return None if math.isfinite(number) else "numeric needs a reference that is a finite number"


def _check_letter(grader: Grader) -> str | None:
    letter = str(grader.reference or "").strip()
    return None if regex.fullmatch("[A-Za-z]", letter) else "multiple_choice needs a reference that is one letter"


def _check_pattern(grader: Grader) -> str | None:
    try:
        regex.compile(str(grader.reference or ""))
    except regex.error as error:
        return f"regex needs a reference that is a pattern: {error}"
    return None if grader.reference else "regex needs a reference: the pattern"


def _check_schema(grader: Grader) -> str | None:
    if grader.json_schema is None:
        return "json_schema needs a schema"
    try:
        jsonschema.validators.validator_for(grader.json_schema).check_schema(grader.json_schema)
    except jsonschema.SchemaError as error:
        return f"the JSON schema is not valid: {error.message}"[:300]
    return None


def _check_tests(grader: Grader) -> str | None:
    given = isinstance(grader.reference, str) and grader.reference.strip()
    return None if given else "unit_tests needs a reference: Python code that fails where the answer is wrong"


_CHECKS: Final[dict[str, Callable[[Grader], str | None]]] = {
    "exact": _check_text,
    "numeric": _check_number,
    "multiple_choice": _check_letter,
    "regex": _check_pattern,
    "json_schema": _check_schema,
    "unit_tests": _check_tests,
}
