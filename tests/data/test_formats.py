"""Each format's planted answers come out as planted, told from the files alone."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
from ingested import ANY_BAD, column, read, scores_of
from samples import (
    LLMS,
    PROMPTS,
    SCORES,
    embedllm_rows,
    inspect_log,
    routerbench_rows,
    write_all,
    write_csv,
    write_embedllm,
    write_json,
    write_jsonl,
    write_llmrouterbench,
    write_lm_eval,
)

from embedllm_router.data.folder import read_folder
from embedllm_router.data.ingest import ingest
from embedllm_router.data.ingest_options import Format, IngestOptions
from embedllm_router.errors import DataError

KINDS = (
    "long csv",
    "long jsonl",
    "long json",
    "long parquet",
    "embedllm",
    "routerbench csv",
    "routerbench parquet",
    "llmrouterbench",
    "lm-eval",
    "inspect json",
    "inspect eval",
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_all(tmp_path_factory.mktemp("sources"))


@pytest.mark.parametrize("kind", KINDS)
def test_planted_answers_come_out_whatever_the_format(kind: str, sources: Mapping[str, Path], tmp_path: Path) -> None:
    report, out = read(sources[kind], tmp_path)
    assert scores_of(out) == SCORES
    assert {file.format for file in report.files} == {kind.partition(" ")[0]}
    assert (report.n_rejected, report.n_repeated, report.llms) == (0, 0, tuple(sorted(LLMS)))
    assert report.categories == {"planted": 3}


@pytest.mark.parametrize("kind", KINDS)
def test_naming_the_format_reads_the_same_as_telling_it(kind: str, sources: Mapping[str, Path], tmp_path: Path) -> None:
    _, out = read(sources[kind], tmp_path, IngestOptions(format=Format(kind.partition(" ")[0])))
    assert scores_of(out) == SCORES


def test_all_formats_at_once_share_their_items(sources: Mapping[str, Path], tmp_path: Path) -> None:
    report = ingest(list(sources.values()), tmp_path / "out")
    assert scores_of(tmp_path / "out") == SCORES
    assert (report.n_items, report.n_repeated, report.n_conflicting) == (3, 6 * (len(sources) - 1), 0)


def test_the_matrix_reads_back_what_was_ingested(sources: Mapping[str, Path], tmp_path: Path) -> None:
    _, out = read(sources["embedllm"], tmp_path)
    matrix = read_folder(out)
    found = {
        (prompt, llm): float(matrix.correctness[i, j])
        for i, prompt in enumerate(matrix.prompts)
        for j, llm in enumerate(matrix.llm_ids)
    }
    assert found == SCORES
    assert matrix.observed.all()


def test_an_ingested_folder_ingests_to_itself(sources: Mapping[str, Path], tmp_path: Path) -> None:
    _, first = read(sources["llmrouterbench"], tmp_path)
    again = ingest([first], tmp_path / "again")
    assert again.files[0].format == "long"
    for name in ("items.parquet", "results.parquet"):
        assert pl.read_parquet(tmp_path / "again" / name).equals(pl.read_parquet(first / name))


def test_decimals_of_parquet_are_numbers(tmp_path: Path) -> None:
    frame = pl.DataFrame({"prompt": ["p"], "model": ["x"], "score": ["0.25"], "cost_usd": ["0.125"]})
    decimals = [pl.col(name).cast(pl.Decimal(10, 3)) for name in ("score", "cost_usd")]
    frame.with_columns(decimals).write_parquet(tmp_path / "a.parquet")
    _, out = read(tmp_path / "a.parquet", tmp_path)
    assert list(scores_of(out).values()) == [0.25]
    assert column(out, "cost_usd") == [0.125]


def test_unparsed_answers_stay_unparsed(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": ["a"], "category": ["c"], "prompt": ["p"]}).write_parquet(tmp_path / "items.parquet")
    pl.DataFrame(
        {"item_id": ["a", "a"], "model": ["x", "y"], "score": [0.0, 1.0], "graded": ["none", "yes"]}
    ).write_parquet(tmp_path / "results.parquet")
    ingest([tmp_path], tmp_path / "out")
    assert read_folder(tmp_path / "out").observed.tolist() == [[False, True]]


def test_lengths_and_costs_are_kept(sources: Mapping[str, Path], tmp_path: Path) -> None:
    _, out = read(sources["llmrouterbench"], tmp_path)
    assert set(column(out, "input_tokens")) == {12}
    assert set(column(out, "output_tokens")) == {34}
    assert set(column(out, "cost_usd")) == {0.25}
    assert set(column(out, "output_chars")) == {4}


def test_the_parts_of_the_embedllm_release_are_kept(sources: Mapping[str, Path], tmp_path: Path) -> None:
    _, out = read(sources["embedllm"], tmp_path)
    items = pl.read_parquet(out / "items.parquet")
    assert dict(items.select("prompt", "split").iter_rows()) == dict(
        zip(PROMPTS, ("train", "val", "test"), strict=True)
    )


def test_embedllm_rows_with_ids_only_are_looked_up_in_the_order_files(tmp_path: Path) -> None:
    folder = write_embedllm(tmp_path / "release")
    for part in ("train", "val", "test"):
        (folder / f"{part}.csv").unlink()
    write_csv(folder / "train.csv", embedllm_rows(), ["prompt_id", "model_id", "label"])
    report, out = read(folder, tmp_path)
    assert scores_of(out) == SCORES
    assert len(report.notes) == 2
    (folder / "question_order.csv").unlink()
    with pytest.raises(DataError, match=r"no question_order\.csv"):
        read(folder, tmp_path)


def test_subsets_beside_the_parts_of_the_release_are_not_read_twice(tmp_path: Path) -> None:
    folder = write_embedllm(tmp_path / "release")
    write_csv(folder / "scalability" / "new_train_subset.csv", embedllm_rows())
    report, _ = read(folder, tmp_path)
    assert [file.file for file in report.files] == ["test.csv", "train.csv", "val.csv"]


def test_an_empty_cell_of_routerbench_is_an_answer_never_graded(tmp_path: Path) -> None:
    rows = routerbench_rows()
    rows[0][LLMS[1]] = ""
    report, out = read(write_csv(tmp_path / "r.csv", rows), tmp_path)
    assert report.n_rejected == 0
    assert set(scores_of(out)) == set(SCORES) - {(PROMPTS[0], LLMS[1])}
    assert set(column(out, "cost_usd")) == {0.25}
    assert set(column(out, "output_chars")) == {4}


def test_a_wide_row_names_the_llm_whose_score_is_bad(tmp_path: Path) -> None:
    rows = routerbench_rows()
    rows[1][LLMS[0]] = 3
    report, out = read(write_csv(tmp_path / "r.csv", rows), tmp_path, ANY_BAD)
    listed = json.loads((out / "rejected.jsonl").read_text())
    assert (report.n_rejected, listed["column"], listed["row"]) == (1, "org/small score", 2)


@pytest.mark.parametrize("name", ["routerbench_0shot.pkl", "frame.pickle"])
def test_a_pickle_is_never_read_and_the_way_out_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(DataError, match=r"(?s)never read.*to_parquet"):
            read(source, tmp_path)


def test_the_latest_run_of_llmrouterbench_counts_and_demonstrations_do_not(tmp_path: Path) -> None:
    folder = write_llmrouterbench(tmp_path / "bench")
    current = next(folder.rglob("*small*.json"))
    old = json.loads(current.read_text())
    old["records"][0]["score"] = 0.0
    write_json(current.with_name("planted-test-small-20240101_000000.json"), old)
    write_json(folder / "demo" / "demo-test-small-20250101_000000.json", {**old, "demo": True})
    report, out = read(folder, tmp_path)
    assert scores_of(out) == SCORES
    assert [name.rpartition("-")[2] for name in report.ignored] == ["20240101_000000.json"]
    assert any("demonstration" in note for note in report.notes)


def test_records_without_a_score_are_rejected_not_wrong(tmp_path: Path) -> None:
    rows = [{"origin_query": "q", "score": None, "cost": 0}, {"origin_query": "q", "score": 1, "cost": 0}]
    report, out = read(write_jsonl(tmp_path / "my-llm" / "records.jsonl", rows), tmp_path, ANY_BAD)
    assert report.n_rejected == 1
    assert scores_of(out) == {("q", "my-llm"): 1.0}


def test_metric_and_filter_of_lm_eval_are_chosen_and_told(tmp_path: Path) -> None:
    folder = write_lm_eval(tmp_path / "runs")
    report, _ = read(folder, tmp_path)
    assert "planted: metric exact_match of ['exact_match'], filter flexible-extract" in report.notes[0]
    _, out = read(folder, tmp_path, IngestOptions(filter="strict-match"))
    assert set(scores_of(out).values()) == {0.0}
    for options, found in (
        (IngestOptions(metric="bleu"), r"metric 'bleu', found \['exact_match'\].*--metric"),
        (IngestOptions(filter="none"), r"filter 'none', found \['strict-match', 'flexible-extract'\].*--filter"),
    ):
        with pytest.raises(DataError, match=found):
            read(folder, tmp_path, options)


def test_lm_eval_without_a_metric_that_says_right_or_wrong_is_refused(tmp_path: Path) -> None:
    row = {"doc_id": 0, "arguments": [["p", {}]], "resps": [["r"]], "metrics": ["bleu"], "bleu": 0.3}
    file = write_jsonl(tmp_path / "org__llm" / "samples_task_2025-01-01T00-00-00.1.jsonl", [row])
    with pytest.raises(DataError, match="--metric"):
        read(file, tmp_path)
    report, out = read(file, tmp_path, IngestOptions(metric="bleu"))
    assert scores_of(out) == {("p", "org/llm"): pytest.approx(0.3)}
    assert any("taken from the folder: org/llm" in note for note in report.notes)


@pytest.mark.parametrize(
    "results",
    [
        {"config": {"model_args": "pretrained=org/llm,dtype=auto"}},
        {"config": {"model_args": {"model": "org/llm"}}},
        {"model_name": "org/llm"},
    ],
)
def test_the_llm_of_lm_eval_is_read_from_the_results(results: object, tmp_path: Path) -> None:
    chat = json.dumps([{"role": "system", "content": "be brief"}, {"role": "user", "content": "the question"}])
    row = {"doc_id": 0, "arguments": [[chat, "x"]], "resps": [[["r"]]], "acc": True}
    write_jsonl(tmp_path / "run" / "samples_task.jsonl", [row])
    write_json(tmp_path / "run" / "results_x.json", results)
    _, out = read(tmp_path / "run", tmp_path)
    assert scores_of(out) == {("the question", "org/llm"): 1.0}


def inspect_sample(**fields: object) -> dict[str, object]:
    log = inspect_log(LLMS[0])
    samples = log["samples"]
    assert isinstance(samples, list)
    return {**log, "samples": [{**samples[0], **fields}]}


@pytest.mark.parametrize(
    ("value", "score"),
    [
        ("C", 1),
        ("I", 0),
        ("P", 0.5),
        ("N", 0),
        (0.25, 0.25),
        (True, 1),
        ("yes", 1),
        ("Yes", 1),
        ("NO", 0),
        ("0.75", 0.75),
    ],
)
def test_inspect_values_count_as_inspect_counts_them(value: object, score: float, tmp_path: Path) -> None:
    file = write_json(tmp_path / "log.json", inspect_sample(scores={"s": {"value": value}}))
    _, out = read(file, tmp_path)
    assert list(scores_of(out).values()) == [score]
    assert column(out, "input_tokens") == [12]
    assert column(out, "output_tokens") == [34]


def test_inspect_scorers_are_chosen_and_told(tmp_path: Path) -> None:
    scores = {"a": {"value": "C"}, "b": {"value": {"helpful": 0.25, "brief": 1}}}
    file = write_json(tmp_path / "log.json", inspect_sample(scores=scores))
    report, out = read(file, tmp_path)
    assert list(scores_of(out).values()) == [1.0]
    assert any("scorer a of ['a', 'b']" in note for note in report.notes)
    _, out = read(file, tmp_path, IngestOptions(metric="b/helpful"))
    assert list(scores_of(out).values()) == [0.25]


def test_long_inputs_that_inspect_stores_apart_are_put_back(tmp_path: Path) -> None:
    sample = inspect_sample(
        input=[{"role": "user", "content": [{"type": "text", "text": "attachment://abc"}]}],
        attachments={"abc": "a long text"},
    )
    _, out = read(write_json(tmp_path / "log.json", sample), tmp_path)
    assert list(scores_of(out)) == [("a long text", LLMS[0])]


def test_an_inspect_sample_that_failed_is_rejected_with_that_reason(tmp_path: Path) -> None:
    log = inspect_sample(scores=None, error={"message": "boom"})
    good = inspect_sample()["samples"]
    assert isinstance(good, list)
    report, out = read(
        write_json(tmp_path / "log.json", {**log, "status": "error", "samples": [*good, *log["samples"]]}),  # type: ignore[misc]
        tmp_path,
        ANY_BAD,
    )
    assert "ended in an error" in (out / "rejected.jsonl").read_text()
    assert any("status is error" in note for note in report.notes)


def test_gzipped_text_reads_as_plain_text(sources: Mapping[str, Path], tmp_path: Path) -> None:
    for name in ("answers.csv", "answers.jsonl", "answers.json"):
        plain = sources["long csv"].with_name(name)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
        _, out = read(tmp_path / f"{name}.gz", tmp_path)
        assert scores_of(out) == SCORES
