"""Labels that tell of formats: planted ones are found and no others, nothing learns from them, everything says so."""

import json
import shutil
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
from embedllm_router.training.fit.contradicted import find_contradicted, leave_out, unchecked
from embedllm_router.training.fit.description import model_card
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


def test_each_label_is_found_once_where_categories_overlap() -> None:
    """Algebra is broken and the rest of maths is not, so the rest is kept, whatever all of maths would look like."""
    shares = {("maths/algebra", "broken"): 0.05, ("maths/sets", "broken"): 0.7, ("law", "broken"): 0.7}
    m = matrix(shares | {("maths/algebra", "fine"): 0.7, ("maths/sets", "fine"): 0.7, ("law", "fine"): 0.7})
    wide, narrow = Asked(benchmarks=("maths",)), Asked(benchmarks=("maths",))
    asks = {"exam": Source(licence="", attribution="", asks={"*": wide, "maths": wide, "maths/algebra": narrow})}
    assert [one.cell for one in find_contradicted(m, asks, published(SCORES))] == [("exam", "maths/algebra", "broken")]
    bad = matrix({("maths/algebra", "broken"): 0.05, ("maths/sets", "broken"): 0.1, ("law", "broken"): 0.1})
    found = find_contradicted(bad, asks, published(SCORES))
    assert [(one.category, one.n_labels) for one in found] == [("*", 400), ("maths", 400), ("maths/algebra", 400)]
    assert not bad.without(one.cell for one in found).n_labels


def test_what_sources_name_and_nothing_knows_is_said() -> None:
    m = matrix(SHARES)
    good, wrong = Asked(benchmarks=("maths", "none")), Asked(benchmarks=("mats",))
    assert not list(unchecked(m, sources(maths=good), published(SCORES)))
    assert not list(unchecked(m, {"other": Source(licence="", attribution="", asks={"law": wrong})}, Published()))
    (said,) = unchecked(m, sources(math=good), published(SCORES))
    assert "do not have (exam: 'math')" in said
    (said,) = unchecked(m, sources(maths=wrong), published(SCORES))
    assert "exam: 'maths' by mats" in said
    (said,) = unchecked(m, sources(maths=good), published(SCORES, test="maths|algebra"))
    assert "no whole score was published" in said
    (said,) = unchecked(m, sources(**{f"c{i}": Asked(chance=0.2) for i in range(9)}), Published())
    assert said.count("exam:") == 5


def test_an_llm_of_which_too_few_labels_are_left_goes_and_so_do_the_prompts_it_alone_answered() -> None:
    m = matrix({("maths", "fine"): 0.7, ("maths", "weak"): 0.5, ("law", "broken"): 0.1, ("law", "weak"): 0.1}, n=50)
    m = m.select_llms(["broken", "fine", "weak"])
    found = tuple(
        ContradictedLabels(dataset="exam", category="law", llm=llm, n_labels=50, right=0.1, expected=0.9)
        for llm in ("broken", "weak")
    )
    kept = leave_out(m, found, min_labels=50)
    assert kept.llm_ids == ("fine", "weak")
    assert kept.observed.sum(axis=0).tolist() == [50, 50]
    assert kept.categories.count("law") == 50, "weak had answered these, so evaluation finds them again"
    assert leave_out(m, found[:1], min_labels=50).prompts == m.prompts
    only = m.select_llms(["broken"])
    with pytest.raises(DataError, match="no LLM has 50 graded answers that are not left out"):
        leave_out(only, found, min_labels=50)


@pytest.mark.parametrize("asked", [{"chance": 25}, {"chance": 0}, {"chance": "often"}, {"chanc": 0.2}, ["maths"]])
def test_what_is_asked_otherwise_is_refused_in_one_sentence(asked: object, tmp_path: Path) -> None:
    entry = {"licence": "", "attribution": "", "asks": {"maths": asked}}
    (tmp_path / "sources.json").write_text(json.dumps({"datasets": {"exam": entry}}))
    with pytest.raises(DataError, match=r"exam\.asks\.maths") as refused:
        read_facts(None, sources=tmp_path / "sources.json")
    assert "\n" not in str(refused.value)


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
    assert "left out: 200 labels of 1 LLM," in said
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


def test_inspect_says_that_labels_were_left_out(trained: Path, tmp_path: Path) -> None:
    said = run("inspect", str(trained / "out"))
    assert "left out" in said
    assert "200 labels of 1 LLM" in said
    old = tmp_path / "old"
    shutil.copytree(trained / "out", old)
    manifest = json.loads((old / "manifest.json").read_text())
    del manifest["contradicted"]
    (old / "manifest.json").write_text(json.dumps(manifest))
    assert "200 labels" not in run("inspect", str(old)), "weights from before there was such a list"


def test_the_card_shows_a_category_of_any_name_in_one_cell(trained: Path) -> None:
    manifest = load_artifact(trained / "out").manifest
    odd = manifest.contradicted[0].model_copy(update={"category": "a|b\nc"})
    card = model_card(manifest.model_copy(update={"contradicted": (odd,)}), "")
    assert rf"| two | a\|b c | {odd.llm} |" in card


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """Two sets in which an LLM is right on nothing, a fifth of whose prompts it alone answered."""
    place = tmp_path_factory.mktemp("broken")
    for name in ("one", "two"):
        shutil.copytree(trained / name, place / name)
        items, results = (pl.read_parquet(place / name / f"{part}.parquet") for part in ("items", "results"))
        alone = pl.col("item_id").is_in(items["item_id"][::5].implode())
        mine = pl.DataFrame({"item_id": items["item_id"], "model": "broken", "score": 0.0, "output_chars": 5})
        pl.concat([results.filter(~alone), mine.cast(results.schema)]).write_parquet(place / name / "results.parquet")
    entry = {"licence": "MIT", "attribution": "us", "asks": {"*": {"chance": 0.2}}}
    (place / "sources.json").write_text(json.dumps({"datasets": {"one": entry, "two": entry}}))
    return place


def test_an_llm_without_a_label_left_is_not_learned_and_the_split_is_found_again(broken: Path, trained: Path) -> None:
    said = run(
        "train", *data(broken), f"--out={broken / 'out'}", f"--encoder={trained / 'table'}", *SMALL, sourced(broken)
    )
    assert "broken is not learned: 500 of its 500 labels are left out" in " ".join(said.split())
    manifest = load_artifact(broken / "out").manifest
    assert "broken" not in {llm.id for llm in manifest.llms}
    assert "broken" in {labels.llm for labels in manifest.contradicted}
    assert [source.n_prompts for source in manifest.data] == [240, 160]
    found = json.loads(run("evaluate", *data(broken), f"--artifact={broken / 'out'}", "--baselines=none", "--json"))
    assert found["skipped_labels"]["LLM not in the artifact"] == 500


def test_it_can_be_added_from_other_answers_and_the_split_is_still_found_again(broken: Path) -> None:
    """Of the training sets its labels are left out still, and so are the prompts that it alone had answered."""
    write_set(broken / "new", n=60, seed=3)
    file = broken / "new" / "results.parquet"
    mine = pl.read_parquet(file).filter(pl.col("model") == min(SKILL)).with_columns(pl.lit("broken").alias("model"))
    mine.write_parquet(file)
    run("add", "broken", f"--data={broken / 'new'}", f"--artifact={broken / 'out'}", f"--out={broken / 'added'}")
    manifest = load_artifact(broken / "added").manifest
    assert manifest.contradicted == load_artifact(broken / "out").manifest.contradicted
    assert "## Labels left out" in (broken / "added" / "README.md").read_text(encoding="utf-8")
    found = json.loads(run("evaluate", *data(broken), f"--artifact={broken / 'added'}", "--baselines=none", "--json"))
    skipped = {reason: n for reason, n in found["skipped_labels"].items() if "train or" not in reason}
    n = sum(labels.n_labels for labels in manifest.contradicted)
    assert sorted(skipped.values()) == [100, n - 100], "100 prompts it alone had answered"
    assert any("joined by `add`" in reason for reason in skipped)
