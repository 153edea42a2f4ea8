"""lm-evaluation-harness with `--log_samples` (github.com/EleutherAI/lm-evaluation-harness).

    <llm>/samples_<task>_<time>.jsonl   {"doc_id", "doc", "arguments", "resps", "filter", "metrics", "<metric>": …}
    <llm>/results_<time>.json           {"model_name", "config": {"model_args"}, …}

A file holds every document once per answer filter, with one value per metric. One filter and one metric count; which,
the user says or the reader tells. The prompt is the first request's context, few-shot examples included unless the
request was a chat, of which the last user turn counts.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from embedllm_router.data.formats.rows import (
    Answer,
    Input,
    Read,
    Rejected,
    Row,
    as_mapping,
    check_answer,
    open_table,
    parse_json,
    prompt_text,
    read_json,
)
from embedllm_router.errors import DataError

__all__ = ["is_samples", "read_lm_eval"]

METRICS: Final = ("acc", "exact_match", "pass@1", "pass_at_1", "prompt_level_strict_acc", "acc_norm", "mc1")
"""Metrics that say right or wrong, the preferred first."""

_NAME: Final = re.compile(r"samples_(?P<task>.+?)(?:_(?P<time>\d{4}-\d\d-\d\dT[\d.:-]+?))?\.jsonl(?:\.gz)?")
_MODEL_ARG: Final = re.compile(r"(?:^|,)\s*(?:model|pretrained)=([^,]+)")
_LENIENT: Final = "flexible-extract"  # reads the answer wherever it stands: ability, not obedience to a format


def is_samples(path: Path) -> bool:
    """Whether a file is named as the harness names its samples."""
    return _NAME.fullmatch(path.name) is not None


def read_lm_eval(source: Input) -> Read:
    """Reads one file of samples.

    Raises:
        DataError: The file cannot be read, lacks the metric or filter asked for, or has none that says right or wrong.
    """
    named = _NAME.fullmatch(source.path.name)
    task = named["task"] if named else source.path.name.partition(".")[0]
    metric, kept = _choose(source, task)
    llm = _llm(source, named["time"] if named else None)
    for row in open_table(source.path, source.label).rows:
        if isinstance(row, Rejected):
            yield row
        elif row.fields.get("filter", "none") == kept:
            yield _answer(row, llm, metric, task)


def _answer(row: Row, llm: str, metric: str, task: str) -> Answer | Rejected:
    response = _first(row.fields.get("resps"))
    checked = check_answer(
        row.place,
        prompt=_prompt(row.fields.get("arguments")),
        llm=llm,
        score=row.fields.get(metric),
        category=task,
        output_chars=len(response) if isinstance(response, str) and response else None,
    )
    is_score = isinstance(checked, Rejected) and checked.column == "score"
    return checked._replace(column=metric) if is_score else checked  # type: ignore[call-arg]  # only Rejected has it


def _choose(source: Input, task: str) -> tuple[str, str]:
    """The metric and filter that count, from one pass over the file."""
    metrics: dict[str, None] = {}
    filters: dict[str, None] = {}
    for row in open_table(source.path, source.label).rows:
        if isinstance(row, Row):
            listed = row.fields.get("metrics")
            found = listed if isinstance(listed, list) else [name for name in METRICS if name in row.fields]
            metrics |= dict.fromkeys(map(str, found))
            filters[str(row.fields.get("filter", "none"))] = None
    metric = _pick(source.label, "metric", list(metrics), source.metric, METRICS)
    kept = _pick(source.label, "filter", list(filters), source.filter, (_LENIENT, *filters))
    source.note(f"{task}: metric {metric} of {sorted(metrics)}, filter {kept} of {sorted(filters)}")
    return metric, kept


def _pick(label: str, what: str, found: Sequence[str], wanted: str | None, preferred: Sequence[str]) -> str:
    chosen = next((name for name in ([wanted] if wanted else preferred) if name in found), None)
    if chosen is None:
        expected = repr(wanted) if wanted else f"one of {list(preferred)}"
        raise DataError(f"{label}: expected {what} {expected}, found {list(found)}. Name one of them with --{what}.")
    return chosen


def _llm(source: Input, time: str | None) -> str:
    """The LLM's name: from the results file of the same run, of the folder, or from the folder's own name."""
    exact = source.path.with_name(f"results_{time}.json")
    results = [exact] if exact.is_file() else sorted(source.path.parent.glob("results*.json"))[-1:]
    for path in results:
        document = as_mapping(read_json(path, f"{source.label}'s {path.name}"))
        name = document.get("model_name") or _from_arguments(as_mapping(document.get("config")).get("model_args"))
        if isinstance(name, str) and name:
            return name
    name = source.path.resolve().parent.name.replace("__", "/")
    source.note(f"{source.label}: no results file names the LLM, taken from the folder: {name}")
    return name


def _from_arguments(arguments: object) -> str | None:
    if isinstance(arguments, str):
        found = _MODEL_ARG.search(arguments)
        return found[1].strip() if found else None
    fields = as_mapping(arguments)
    name = fields.get("model") or fields.get("pretrained")
    return name if isinstance(name, str) else None


def _prompt(arguments: object) -> object:
    """The first request's context; a chat, which the harness keeps as JSON, as its text."""
    context = _first(arguments)
    if isinstance(context, str) and context.startswith("[{"):
        try:
            context = parse_json(context.encode("utf-8", errors="surrogatepass"))
        except ValueError:
            return context
    return prompt_text(context)


def _first(value: object) -> object:
    """The first leaf of nested lists, or of mappings such as `{"gen_args_0": {"arg_0": …}}`."""
    while True:
        if isinstance(value, Mapping):
            value = next(iter(value.values()), None)
        elif isinstance(value, list) and value and not (isinstance(value[0], dict) and "role" in value[0]):
            value = value[0]
        else:
            return value
