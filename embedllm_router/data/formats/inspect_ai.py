"""Inspect AI's logs (inspect.aisi.org.uk): `.json`, or `.eval`, which is a zip of JSON files.

    {"eval": {"model", "task"}, "samples": [{"id", "epoch", "input", "scores": {scorer: {"value"}}, "output",
     "model_usage", "attachments"}]}
    zip: header.json or _journal/start.json with `eval`, and samples/<id>_epoch_<n>.json

Values count as Inspect counts them: C is 1, P 0.5, I and N are 0. Of several scorers one counts; which, the user says
or the reader tells. Epochs are answers to the same prompt: the conflict rule decides what becomes of them.
"""

import zipfile
from collections.abc import Iterator, Mapping
from typing import Final

from embedllm_router.data.formats.rows import (
    Answer,
    Input,
    Place,
    Read,
    Rejected,
    as_mapping,
    check_answer,
    clear_read_errors,
    kind,
    parse_json,
    prompt_text,
    read_json,
)
from embedllm_router.errors import DataError

__all__ = ["read_inspect"]

_GRADES: Final[Mapping[str, float]] = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_WORDS: Final[Mapping[str, float]] = {"yes": 1.0, "no": 0.0}  # in any case, as Inspect reads them
_HEADERS: Final = ("header.json", "_journal/start.json", "start.json")
_SAMPLE_LIMIT: Final = 2**28  # bytes unpacked: a larger sample is no answer but a packing bomb
_ATTACHMENT: Final = "attachment://"
_INPUT_TOKENS: Final = ("input_tokens", "input_tokens_cache_read", "input_tokens_cache_write")


def read_inspect(source: Input) -> Read:
    """Reads one log.

    Raises:
        DataError: The file cannot be read or is no log of Inspect.
    """
    samples = _zipped(source) if kind(source.path) == "eval" else _listed(source)
    scorer = source.metric
    for place, header, sample in samples:
        if isinstance(sample, Rejected):
            yield sample
            continue
        scores = as_mapping(sample.get("scores"))
        if scorer is None and scores:
            scorer = next(iter(scores))
            source.note(f"{source.label}: scorer {scorer} of {sorted(scores)}")
        yield _answer(place, header, sample, scorer)


def _answer(
    place: Place, header: Mapping[str, object], sample: Mapping[str, object], scorer: str | None
) -> Answer | Rejected:
    llm = header.get("model")
    output = as_mapping(sample.get("output"))
    usages = as_mapping(sample.get("model_usage"))
    usage = as_mapping(usages.get(str(llm)) or output.get("usage"))
    found = [usage[name] for name in _INPUT_TOKENS if isinstance(usage.get(name), int)]
    completion = output.get("completion")
    value = _value(as_mapping(sample.get("scores")), scorer)
    checked = check_answer(
        place,
        prompt=prompt_text(_attached(sample.get("input"), as_mapping(sample.get("attachments")))),
        llm=llm,
        score=_GRADES.get(value, _WORDS.get(value.lower(), value)) if isinstance(value, str) else value,
        category=header.get("task"),
        input_tokens=sum(found) if found else None,  # type: ignore[arg-type]  # integers, as just checked
        output_tokens=usage.get("output_tokens"),
        cost_usd=usage.get("total_cost"),
        output_chars=len(completion) if isinstance(completion, str) and completion else None,
    )
    if isinstance(checked, Rejected) and checked.column == "score" and value is None and sample.get("error"):
        return checked._replace(reason="missing: the sample ended in an error")
    return checked


def _value(scores: Mapping[str, object], scorer: str | None) -> object:
    """The value of a scorer; `scorer/key` looks into a value that is a mapping."""
    if scorer is None:
        return None
    if scorer in scores:
        return as_mapping(scores[scorer]).get("value")
    name, _, key = scorer.rpartition("/")
    return as_mapping(as_mapping(scores.get(name)).get("value")).get(key)


def _attached(value: object, attachments: Mapping[str, object]) -> object:
    """The value with references to long texts, which Inspect stores apart, replaced by the texts."""
    if isinstance(value, str) and value.startswith(_ATTACHMENT):
        return attachments.get(value.removeprefix(_ATTACHMENT), value)
    if isinstance(value, list):
        return [_attached(item, attachments) for item in value]
    if isinstance(value, dict):
        return {key: _attached(item, attachments) for key, item in value.items()}
    return value


_Sample = tuple[Place, Mapping[str, object], Mapping[str, object] | Rejected]


def _listed(source: Input) -> Iterator[_Sample]:
    document = as_mapping(read_json(source.path, source.label))
    header, samples = _header(source, document), document.get("samples")
    if not isinstance(samples, list):
        raise DataError(f"{source.label}: no samples, expected a log with them. Log without `--no-log-samples`.")
    for number, sample in enumerate(samples, start=1):
        yield Place(source.label, number), header, as_mapping(sample)


def _zipped(source: Input) -> Iterator[_Sample]:
    with clear_read_errors(source.label):
        try:
            with zipfile.ZipFile(source.path) as archive:
                yield from _members(source, archive)
        except zipfile.BadZipFile as error:
            raise DataError(f"{source.label}: not a whole zip archive ({error}). Get the file again.") from error
        except NotImplementedError as error:
            raise DataError(
                f"{source.label}: {error}. Convert the log with `inspect log convert --to json --output-dir DIR FILE`."
            ) from error


def _members(source: Input, archive: zipfile.ZipFile) -> Iterator[_Sample]:
    names = archive.namelist()
    start = next((name for name in _HEADERS if name in names), None)
    if start is None:
        raise DataError(f"{source.label}: no log of Inspect, expected one of {list(_HEADERS)}, found {names[:5]}.")
    header = _header(source, as_mapping(_json(archive, start)))
    members = [name for name in names if name.startswith("samples/") and name.endswith(".json")]
    for number, name in enumerate(members, start=1):
        place = Place(source.label, number)
        try:
            yield place, header, as_mapping(_json(archive, name))
        except ValueError as error:
            yield place, header, Rejected(place, "", f"{name}: {error}")


def _json(archive: zipfile.ZipFile, name: str) -> object:
    if archive.getinfo(name).file_size > _SAMPLE_LIMIT:
        raise ValueError(f"larger than {_SAMPLE_LIMIT} bytes")
    return parse_json(archive.read(name))


def _header(source: Input, document: Mapping[str, object]) -> Mapping[str, object]:
    header = as_mapping(document.get("eval"))
    if not header.get("model"):
        raise DataError(
            f"{source.label}: no log of Inspect, expected `eval` with `model`, found {sorted(document)[:8]}."
        )
    if document.get("status") in {"error", "cancelled", "started"}:
        source.note(f"{source.label}: the run's status is {document['status']}, its finished samples are read")
    return header
