"""Published scores: planted benchmarks and abilities are found again, intervals hold, and mistakes are told."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from planted import planted_artifact
from random_weights import SMALL, random_weights
from typer.testing import CliRunner

from embedllm_router import Router
from embedllm_router.artifact.manifest import BenchmarkSpec, Covariate, KinSpec, Manifest, PublishedSpec
from embedllm_router.artifact.published import AbilityEstimate, ability_by_scores, read_scores
from embedllm_router.artifact.weights import Artifact, load_artifact, save_artifact
from embedllm_router.cli.main import app
from embedllm_router.errors import ConfigError
from embedllm_router.training.add_llm import About, Population, expected_by_scores
from embedllm_router.training.fit.benchmarks import Graded, fit_benchmarks, graded_llms, with_benchmarks

OFFSETS, LOADINGS, SDS = np.array([-1.0, 0.0, 0.6]), np.array([1.6, 1.0, 0.7]), np.array([0.3, 0.4, 0.2])
DEVIATION, DRIFT, USUAL, RELEASE_SD = 0.5, 0.6, 0.5, 0.8
SPEC = PublishedSpec(
    sd=DEVIATION,
    drift=DRIFT,
    usual_release=USUAL,
    release_sd=RELEASE_SD,
    benchmarks=tuple(
        BenchmarkSpec(name=f"exam-{i}", offset=OFFSETS[i], loading=LOADINGS[i], sd=SDS[i], n_llms=50) for i in range(3)
    ),
)
runner = CliRunner()


def draw(n: int, seed: int, later: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Abilities of a normal population, and scores, (n, 3)."""
    rng = np.random.default_rng(seed)
    ability = rng.normal(0, 0.7, n)
    shown = ability + DRIFT * later + rng.normal(0, DEVIATION, n)
    logits = OFFSETS + shown[:, None] * LOADINGS + rng.standard_normal((n, 3)) * SDS
    return ability, 1 / (1 + np.exp(-logits))


def table(scores: np.ndarray, subset: str = "") -> pl.DataFrame:
    rows = [
        {"model": f"llm-{i}", "benchmark": f"exam-{b}", "test": f"exam-{b}|{subset}", "score": float(scores[i, b])}
        for i in range(len(scores))
        for b in range(3)
    ]
    return pl.DataFrame(rows)


def test_planted_benchmarks_are_found_again() -> None:
    released = np.random.default_rng(3).normal(USUAL, RELEASE_SD, 1500)
    ability, scores = draw(1500, 0, released - released.mean())
    drawn = enumerate(zip(ability.tolist(), released.tolist(), strict=True))
    known = {f"llm-{i}": Graded(one, years) for i, (one, years) in drawn}
    parts = table(1 - scores, subset="part")
    found = fit_benchmarks(pl.concat([table(scores), parts]), known)
    assert found is not None
    assert [one.name for one in found.benchmarks] == ["exam-0", "exam-1", "exam-2"]
    np.testing.assert_allclose([one.offset for one in found.benchmarks], OFFSETS, atol=0.1)
    np.testing.assert_allclose([one.loading for one in found.benchmarks], LOADINGS, rtol=0.15)
    np.testing.assert_allclose([one.sd for one in found.benchmarks], SDS, atol=0.08)
    assert found.sd == pytest.approx(DEVIATION, abs=0.1)
    assert found.drift == pytest.approx(DRIFT, abs=0.06)
    assert (found.usual_release, found.release_sd) == (
        pytest.approx(USUAL, abs=0.1),
        pytest.approx(RELEASE_SD, abs=0.1),
    )


def test_a_benchmark_of_nine_llms_says_nothing() -> None:
    ability, scores = draw(9, 0)
    known = {f"llm-{i}": Graded(one) for i, one in enumerate(ability.tolist())}
    assert fit_benchmarks(table(scores), known) is None


def test_a_planted_ability_is_found_and_its_interval_holds() -> None:
    """Nineteen times in twenty; and five scores tell more than one, but never more than the deviation leaves."""
    later = np.random.default_rng(5).normal(0, RELEASE_SD, 1000)
    ability, scores = draw(1000, 2, later)
    prior, held = AbilityEstimate(0.0, 0.7), list[bool]()
    errors: dict[int, list[float]] = {1: [], 3: []}
    undated: list[bool] = []
    for truth, row, years in zip(ability.tolist(), scores.tolist(), later.tolist(), strict=True):
        for n, so_far in errors.items():
            few = {f"exam-{b}": row[b] for b in range(n)}
            known = prior.combined(ability_by_scores(SPEC, few, USUAL + years))
            so_far.append(known.mean - truth)
            held.append(abs(known.mean - truth) < 1.96 * known.sd)
            known = prior.combined(ability_by_scores(SPEC, few))
            undated.append(abs(known.mean - truth) < 1.96 * known.sd)
    assert 0.93 < np.mean(held) < 0.97
    assert 0.93 < np.mean(undated) < 0.97
    assert np.std(errors[3]) < np.std(errors[1]) < 0.7
    assert np.std(errors[3]) > DEVIATION * 0.7 / np.hypot(DEVIATION, 0.7)


def test_the_closed_form_is_the_joint_normal() -> None:
    """Compared with conditioning ability on the scores in their joint covariance."""
    scores, prior = np.array([0.7, 0.5, 0.8]), AbilityEstimate(0.3, 0.6)
    covariance = (prior.sd**2 + DEVIATION**2) * np.outer(LOADINGS, LOADINGS) + np.diag(SDS**2)
    gain = np.linalg.solve(covariance, prior.sd**2 * LOADINGS)
    logits = np.log(scores / (1 - scores))
    known = prior.combined(
        ability_by_scores(SPEC, dict(zip(("exam-0", "exam-1", "exam-2"), scores, strict=True)), USUAL)
    )
    assert known.mean == pytest.approx(prior.mean + gain @ (logits - OFFSETS - LOADINGS * prior.mean))
    assert known.sd**2 == pytest.approx(prior.sd**2 - gain @ LOADINGS * prior.sd**2)


def test_a_benchmark_without_loading_says_nothing() -> None:
    flat = SPEC.benchmarks[0].model_copy(update={"loading": 0.0})
    told = ability_by_scores(PublishedSpec(sd=0.5, benchmarks=(flat,)), {"exam-0": 0.9})
    known = AbilityEstimate(0.3, 0.6).combined(told)
    assert (known.mean, known.sd) == (pytest.approx(0.3), pytest.approx(0.6))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exam-0", "expected BENCHMARK=SCORE such as mmlu_pro=0.84"),
        ("exam-0=good", "expected BENCHMARK=SCORE"),
        ("exam-0=0.5,", "expected BENCHMARK=SCORE"),
        ("exam-0=0.5,exam-0=0.6", "each benchmark once"),
        ("", "expected BENCHMARK=SCORE"),
        ("exam-O=0.5", "no benchmark 'exam-O'; of the 3 they know, the nearest are exam-"),
        ("exam-0=84", r"not in \[0, 1\]; write exam-0=0.84 if it is in percent"),
        ("exam-0=-0.1", r"not in \[0, 1\]; leave it out"),
        ("exam-0=1250", r"not in \[0, 1\]; leave it out"),
    ],
)
def test_a_mistake_is_told(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ability_by_scores(SPEC, read_scores(text))


def test_scores_are_read() -> None:
    assert read_scores(None) == {}
    assert read_scores("a=0.84, b-c.1 = 1") == {"a": 0.84, "b-c.1": 1.0}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of thirty LLMs that say what kinship and three benchmarks tell of ability."""
    folder = tmp_path_factory.mktemp("published")
    artifact = random_weights(planted_artifact(folder / "base"), folder / "weights", replace(SMALL, n_llms=30))
    kin = KinSpec(
        base_ability=0.3,
        covariates=(Covariate(name="log_price", mean=0.1, scale=2.0, weight=0.2),),
        vendors={"openai": (0.5, 0.3)},
        families={},
        unknown_vendor=(0.0, 0.9),
        features=("one", "ability", "vendor:openai"),
    )
    rng = np.random.default_rng(1)
    drawn = {"kin_embeddings": (3, SMALL.d_llm), "kin_broad_embeddings": (3, SMALL.d_broad)}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in drawn.items()}
    return write(artifact, folder / "weights", {"kin": kin, "published": SPEC}, tensors)


def write(artifact: Artifact, folder: Path, changes: dict[str, object], tensors: dict[str, np.ndarray]) -> Path:
    save_artifact(
        folder,
        artifact.manifest.model_copy(update=changes),
        encoder=artifact.encoder,
        decoder={**artifact.decoder, **tensors},
        tokenizer_json=artifact.tokenizer_json,
        model_card="# Thirty\n",
        landmarks=artifact.landmarks,
    )
    return folder


def test_an_llm_is_added_by_its_scores_alone(weights: Path, tmp_path: Path) -> None:
    asked = ["add", "gpt-99", "--scores", "exam-0=0.9,exam-2=0.8", "--output-price", "4", "--input-price", "1"]
    done = runner.invoke(app, [*asked, "--artifact", str(weights), "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    told, before, after = json.loads(done.stdout), load_artifact(weights), load_artifact(tmp_path / "out")
    prior = AbilityEstimate(0.3 + 0.2 * (np.log(4 / 2) - 0.1) / 2 + 0.5, 0.3)
    known = prior.combined(ability_by_scores(SPEC, {"exam-0": 0.9, "exam-2": 0.8}))
    assert (told["ability"], told["ability_sd"]) == (pytest.approx(known.mean), pytest.approx(known.sd))
    assert (told["n_answers"], told["mean_score"], told["judged"]) == (0, None, None)
    assert told["mean_p_low"] < told["mean_p"] < told["mean_p_high"]
    learned, t = after.manifest.llms[-1], after.decoder
    assert (learned.id, learned.vendor, learned.n_labels, learned.known_by) == ("gpt-99", "openai", 0, "published")
    assert t["ability"][-1] == pytest.approx(known.mean, abs=1e-4)
    assert t["ability_sd"][-1] == pytest.approx(known.sd, abs=1e-4)
    features = np.array([1.0, known.mean, 1.0])
    np.testing.assert_allclose(t["llm_embeddings"][-1], features @ t["kin_embeddings"], atol=1e-3)
    for name, tensor in before.decoder.items():
        np.testing.assert_array_equal(t[name][: len(tensor)], tensor)
    router = Router(after)
    assert router.average.logit_sd is not None
    assert router.average.logit_sd[-1] == pytest.approx(known.sd, abs=1e-4)
    assert "No answer of it was read" in (tmp_path / "out" / "README.md").read_text()


def test_better_scores_never_lower_p_correct(weights: Path) -> None:
    artifact = load_artifact(weights)
    expected = [expected_by_scores(artifact, About("gpt-99", scores={"exam-0": s / 10})) for s in range(1, 10)]
    abilities = [float(one.rows["ability"][0]) for one in expected]
    assert abilities == sorted(abilities)


def test_the_population_around_it_has_its_ability(weights: Path) -> None:
    """Compared with conditioning the rows' covariance on ability, and widening it again along the regression."""
    artifact = load_artifact(weights)
    population, expected = (
        Population.of(artifact, "prompt"),
        expected_by_scores(artifact, About("gpt-99", scores={"exam-1": 0.6})),
    )
    around, reads = population.around(expected), population.turn[population.decoder.n_free - 1]
    covariance = population.spread @ population.spread.T
    gain = covariance @ reads / (reads @ covariance @ reads)
    wanted = covariance + np.outer(gain, gain) * (expected.sd**2 - reads @ covariance @ reads)
    np.testing.assert_allclose(around.spread @ around.spread.T, wanted, atol=1e-9)
    assert reads @ around.mean == pytest.approx(float(expected.rows["ability"][0]))


def test_answers_move_it_from_where_scores_put_it(weights: Path, tmp_path: Path) -> None:
    lines = [{"prompt": f"integral {i}", "llm": "gpt-99", "score": 0.0} for i in range(40)]
    (tmp_path / "answers.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    ingested = runner.invoke(app, ["ingest", str(tmp_path / "answers.jsonl"), "--out", str(tmp_path / "data")])
    assert ingested.exit_code == 0, ingested.output
    where = ["--artifact", str(weights), "--out", str(tmp_path / "out"), "--json"]
    both = runner.invoke(app, ["add", "gpt-99", "--scores", "exam-0=0.9", "--data", str(tmp_path / "data"), *where])
    assert both.exit_code == 0, both.output
    alone = runner.invoke(app, ["add", "gpt-99", "--scores", "exam-0=0.9", *where])
    told, by_scores = json.loads(both.stdout), json.loads(alone.stdout)
    assert told["n_answers"] == 40
    assert told["ability"] == by_scores["ability"]
    assert told["mean_p"] < by_scores["mean_p"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nothing is known of gpt-99: give its published scores, graded answers, or both"),
        (("--scores", "exam-7=0.5"), "no benchmark 'exam-7'"),
    ],
)
def test_what_add_cannot_do_is_one_sentence(
    weights: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    done = runner.invoke(app, ["add", "gpt-99", *options, "--artifact", str(weights), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_know_benchmarks_say_so(weights: Path) -> None:
    artifact = load_artifact(weights)
    without = replace(artifact, manifest=artifact.manifest.model_copy(update={"published": None}))
    with pytest.raises(ConfigError, match="do not say what benchmarks measure"):
        expected_by_scores(without, About("gpt-99", scores={"exam-0": 0.5}))


def test_weights_are_given_benchmarks_without_training(weights: Path) -> None:
    artifact = load_artifact(weights)
    _, scores = draw(30, 4)
    ids = {f"llm-{i}": llm.id for i, llm in enumerate(artifact.manifest.llms)}
    named = table(scores).with_columns(pl.col("model").replace(ids))
    found = with_benchmarks(artifact.manifest, artifact.decoder, named)
    assert found.published == fit_benchmarks(named, graded_llms(artifact.manifest.llms, artifact.decoder))
    assert found.published is not None
    plain = artifact.manifest.model_copy(update={"kin": None, "published": None})
    assert with_benchmarks(plain, artifact.decoder, named) is plain


def test_a_manifest_without_kin_has_no_benchmarks(weights: Path) -> None:
    said = load_artifact(weights).manifest.model_dump(mode="json")
    with pytest.raises(ValueError, match="published is given and kin is not"):
        Manifest.model_validate({**said, "kin": None})
