"""Labels that tell of formats: planted ones are found and no others, nothing learns from them, everything says so."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from synthetic import SKILL, small_ngrams, small_table, write_set
from typer.testing import CliRunner

from embedllm_router.artifact.manifest import ContradictedLabels
from embedllm_router.artifact.weights import load_artifact
from embedllm_router.cli.main import app
from embedllm_router.data.folder import read_folders
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.errors import DataError
from embedllm_router.training.fit.contradicted import find_contradicted
from embedllm_router.training.fit.distill import save_table
from embedllm_router.training.fit.facts import Asked, Source, read_facts
from embedllm_router.training.fit.published import Published

LLMS = ("broken", "few", "fine", "lucky", "unknown", "weak")


def matrix(right: dict[tuple[str, str], float], *, n: int = 400, few: int = 20) -> CorrectnessMatrix:
    """One data set, whose LLMs are right on the first of a category's prompts, as many as `right` says."""
    categories = tuple(name for name in dict.fromkeys(category for category, _ in right) for _ in range(n))
    labels = np.zeros((len(categories), len(LLMS)), np.float32)
    observed = np.zeros(labels.shape, np.bool_)
    for (category, llm), share in right.items():
        rows = np.flatnonzero(np.array(categories) == category)[: few if llm == "few" else n]
        observed[rows, LLMS.index(llm)] = True
        labels[rows[: round(share * len(rows))], LLMS.index(llm)] = 1
    blank = np.full(labels.shape, np.nan, np.float32)
    return CorrectnessMatrix(
        prompts=tuple(f"question {i}" for i in range(len(categories))),
        prompt_ids=tuple(f"{i}" for i in range(len(categories))),
        categories=categories,
        datasets=("exam",) * len(categories),
        llm_ids=LLMS,
        correctness=labels,
        observed=observed,
        output_tokens=blank,
        counted=np.zeros(labels.shape, np.bool_),
        input_tokens=np.full(len(categories), np.nan, np.float32),
    )


def published(scores: dict[str, float], *, test: str = "maths|") -> Published:
    rows = [{"model": llm, "benchmark": "maths", "test": test, "score": score} for llm, score in scores.items()]
    return Published(scores=pl.DataFrame(rows))


def sources(**asks: Asked) -> dict[str, Source]:
    return {"exam": Source(licence="", attribution="", asks=asks)}


SHARES = {("maths", "broken"): 0.17, ("maths", "few"): 0.1, ("maths", "fine"): 0.7, ("maths", "lucky"): 0.95}
SHARES |= {("maths", "weak"): 0.5, ("maths", "unknown"): 0.02}
SCORES = {"broken": 0.73, "few": 0.73, "fine": 0.75, "lucky": 0.4, "weak": 0.74}


def test_labels_far_below_a_published_score_are_found_and_no_others() -> None:
    found = find_contradicted(matrix(SHARES), sources(maths=Asked(benchmarks=("maths",))), published(SCORES))
    assert found == (
        ContradictedLabels(
            dataset="exam", category="maths", llm="broken", n_labels=400, right=0.17, expected=0.73, benchmark="maths"
        ),
    )


def test_labels_worse_than_guessing_are_found_without_any_score() -> None:
    chance = 0.25
    shares = {("maths", "broken"): 0.17, ("maths", "few"): 0.0, ("maths", "fine"): 0.7, ("maths", "weak"): 0.22}
    found = find_contradicted(matrix(shares), sources(maths=Asked(chance=chance)), Published())
    assert [(one.llm, one.expected, one.benchmark) for one in found] == [("broken", chance, None)]


@pytest.mark.parametrize("seed", range(3))
def test_guessing_is_hardly_ever_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, trials, found = 200, 40, 0
    for _ in range(trials):
        guessed = matrix({("maths", llm): rng.binomial(n, 0.25) / n for llm in LLMS if llm != "few"}, n=n)
        found += len(find_contradicted(guessed, sources(maths=Asked(chance=0.25)), Published()))
    assert found <= 2  # of 200, each with a probability below 0.001


def test_the_share_right_must_surely_be_far_below() -> None:
    """0.46 against 0.85 is 1.9 log-odds: surely far with 400 answers, not with 30 when it is 0.2 against 0.5."""
    asks = sources(maths=Asked(benchmarks=("maths",)))
    assert find_contradicted(matrix({("maths", "weak"): 0.46}), asks, published({"weak": 0.85}))
    assert not find_contradicted(matrix({("maths", "weak"): 0.2}, n=30), asks, published({"weak": 0.5}))


def test_scores_on_parts_of_a_benchmark_and_on_others_are_not_read() -> None:
    asks = sources(maths=Asked(benchmarks=("maths",)))
    assert not find_contradicted(matrix(SHARES), asks, published(SCORES, test="maths|algebra"))
    assert not find_contradicted(matrix(SHARES), sources(maths=Asked(benchmarks=("law",))), published(SCORES))
    assert not find_contradicted(matrix(SHARES), {}, published(SCORES))


def test_a_category_is_named_by_what_stands_before_its_slash_or_by_a_star() -> None:
    m = matrix({("maths/algebra", "weak"): 0.5, ("mathsy", "weak"): 0.5, ("maths", "weak"): 0.5}, n=3)
    assert m.rows_of("exam", "maths").tolist() == [0, 1, 2, 6, 7, 8]
    assert m.rows_of("exam", "maths/algebra").tolist() == [0, 1, 2]
    assert m.rows_of("exam", "*").tolist() == list(range(9))
    assert not len(m.rows_of("other", "*"))


def test_without_leaves_out_labels_and_nothing_else() -> None:
    m = matrix({("maths", "weak"): 0.5, ("maths", "fine"): 0.7, ("law", "weak"): 0.5}, n=10)
    kept = m.without([("exam", "maths", "weak"), ("exam", "maths", "nobody"), ("other", "*", "fine")])
    lost = m.observed & ~kept.observed
    assert lost.sum() == 10
    assert lost[:10, LLMS.index("weak")].all()
    assert not (kept.correctness[~kept.observed]).any()
    assert np.array_equal(kept.correctness[kept.observed], m.correctness[kept.observed])
    assert kept.prompts == m.prompts
    assert m.without([]).n_labels == m.n_labels


def test_a_chance_that_is_no_probability_is_refused_in_one_sentence(tmp_path: Path) -> None:
    entry = {"licence": "", "attribution": "", "asks": {"maths": {"chance": 25}}}
    (tmp_path / "sources.json").write_text(json.dumps({"datasets": {"exam": entry}}))
    with pytest.raises(DataError, match="chance"):
        read_facts(None, sources=tmp_path / "sources.json")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of two sets, of one of which an LLM's answers are all counted as wrong and were published as right."""
    place = tmp_path_factory.mktemp("contradicted")
    write_set(place / "one", n=300, seed=1)
    write_set(place / "two", n=200, seed=2)
    llm, file = min(SKILL), place / "two" / "results.parquet"
    results = pl.read_parquet(file)
    wrong = pl.when(pl.col("model") == llm).then(0.0).otherwise(pl.col("score"))
    results.with_columns(wrong.alias("score").cast(results["score"].dtype)).write_parquet(file)
    save_table(place / "table", small_table(place / "planted"))
    (place / "published_scores").mkdir()
    scores = pl.DataFrame({"model": [llm], "benchmark": ["exam"], "score": [0.9]})
    scores.write_parquet(place / "published_scores" / "scores.parquet")
    entry = {"licence": "MIT", "attribution": "us", "asks": {"*": {"benchmarks": ["exam"]}}}
    (place / "sources.json").write_text(json.dumps({"datasets": {"two": entry}}))
    said = run("train", *data(place), f"--out={place / 'out'}", f"--encoder={place / 'table'}", *SMALL, sourced(place))
    assert "two" in said
    return place


SMALL = ("--min-labels=100", "--max-epochs=6", "--threads=1", "--perturbed-copies=0")


def data(place: Path) -> list[str]:
    return [f"--data={place / name}" for name in ("one", "two")]


def sourced(place: Path) -> str:
    return f"--sources={place / 'sources.json'}"


def run(*arguments: str) -> str:
    with small_ngrams():
        result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_nothing_is_learned_from_them_and_the_weights_say_so(trained: Path) -> None:
    manifest, llm = load_artifact(trained / "out").manifest, min(SKILL)
    (labels,) = manifest.contradicted
    assert (labels.dataset, labels.category, labels.llm) == ("two", "*", llm)
    read = read_folders([trained / "one", trained / "two"])
    assert sum(source.n_labels for source in manifest.data) == read.n_labels - labels.n_labels
    mine = next(one for one in manifest.llms if one.id == llm)
    column = read.llm_ids.index(llm)
    in_one = read.observed[:, column] & (np.array(read.datasets) == "one")
    assert mine.n_labels == in_one.sum()
    assert mine.mean_correctness == pytest.approx(read.labels()[in_one, column].mean(), abs=1e-4)
    card = (trained / "out" / "README.md").read_text(encoding="utf-8")
    assert "## Labels left out" in card
    assert f"| two | * | {llm} | {labels.n_labels} | 0.000 | 0.900 | exam |" in card


def test_evaluation_leaves_them_out_too_and_counts_them(trained: Path) -> None:
    arguments = [f"--artifact={trained / 'out'}", "--baselines=none", "--json"]
    found = json.loads(run("evaluate", *data(trained), *arguments))
    (labels,) = load_artifact(trained / "out").manifest.contradicted
    reasons = {reason: n for reason, n in found["skipped_labels"].items() if "published" in reason}
    assert list(reasons.values()) == [labels.n_labels]


def test_they_are_found_only_where_sources_say_what_was_asked(trained: Path, tmp_path: Path) -> None:
    run("train", *data(trained), f"--out={tmp_path / 'out'}", f"--encoder={trained / 'table'}", *SMALL)
    assert not load_artifact(tmp_path / "out").manifest.contradicted
    assert "Labels left out" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
