"""LLMs drawn from a known population are found again from a few answers; the rest of the weights stays as it was."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest
from planted import TOPICS, WORDS, planted_artifact
from scipy.optimize import minimize
from typer.testing import CliRunner, Result

from embedllm_router import Router
from embedllm_router.artifact.manifest import LearnedLLM
from embedllm_router.artifact.weights import Artifact, load_artifact, save_artifact
from embedllm_router.cli.main import app
from embedllm_router.errors import ConfigError
from embedllm_router.training.add_llm import Population, choose_questions, embed, judge, length_row, newcomer

N_LLMS, D = 60, len(TOPICS)
MEAN = np.array([1.0, -1.0, 0.0, 0.5, 0.4])
ROOT = np.diag([1.5, 1.0, 0.5, 0.2, 0.8])
ROOT[4, 0] = 0.8  # who is good at chat is good at everything
LENGTH_ROOT = np.diag([0.3, 0.3, 0.1, 0.1, 0.5])
runner = CliRunner()


def rows(n: int, seed: int) -> np.ndarray:
    return MEAN + np.random.default_rng(seed).standard_normal((n, D + 1)) @ ROOT.T


def prompts(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(list(WORDS), size=rng.integers(1, 7))) for _ in range(n)]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Sixty LLMs; every third one reasons, and writes e times as much."""
    folder = tmp_path_factory.mktemp("population") / "weights"
    plain, known = planted_artifact(folder), rows(N_LLMS, 0)
    lengths = np.random.default_rng(1).standard_normal((N_LLMS, D + 1)) @ LENGTH_ROOT.T
    thinking = np.arange(N_LLMS) % 3 == 0
    decoder = {
        **plain.decoder,
        "llm_embeddings": known[:, :D].astype(np.float32),
        "llm_bias": known[:, D].astype(np.float32),
        "length_embeddings": lengths[:, :D].astype(np.float32),
        "length_bias": (5.0 + thinking + lengths[:, D]).astype(np.float32),
    }
    llms = tuple(
        LearnedLLM(id=f"llm-{i}", vendor="planted", thinking=bool(thinking[i]), n_labels=1_000, mean_correctness=0.5)
        for i in range(N_LLMS)
    )
    manifest = plain.manifest.model_copy(update={"llms": llms})
    return save_artifact(
        folder,
        manifest,
        encoder=plain.encoder,
        decoder=decoder,
        tokenizer_json=plain.tokenizer_json,
        model_card="# Sixty\n",
    )


@pytest.fixture(scope="module")
def population(artifact: Artifact) -> Population:
    return Population.of(artifact, "prompt")


def answered(
    population: Population, artifact: Artifact, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of prompts, the probabilities of a new LLM, and what it answered."""
    columns = population.columns(embed(artifact, prompts(n, seed)))
    p = 1 / (1 + np.exp(-(columns @ rows(1, 1_000 + seed)[0])))
    return columns, p, (np.random.default_rng(seed).uniform(size=n) < p).astype(np.float64)


def test_the_population_is_that_of_the_rows(artifact: Artifact, population: Population) -> None:
    """Embeddings and biases as they are, but for the place where usual prompts have their mean."""
    known = np.column_stack([artifact.decoder["llm_embeddings"], artifact.decoder["llm_bias"]]).astype(np.float64)
    np.testing.assert_allclose(population.mean[:D], known[:, :D].mean(axis=0), atol=1e-6)
    assert np.abs(population.turn[D, :D]).max() < 0.15, "usual prompts are drawn around the mean, which is zero here"
    covariance, expected = population.spread @ population.spread.T, np.cov(known.T)
    assert np.abs(covariance - expected).max() < 0.3 * np.abs(expected).max()
    assert np.trace(covariance) == pytest.approx(np.trace(expected), rel=0.15)


def test_a_row_is_the_mode_of_its_posterior(artifact: Artifact, population: Population) -> None:
    """A naive second implementation: the posterior written down, and a general optimiser."""
    columns, _, correct = answered(population, artifact, 40, 3)
    precision = np.linalg.inv(population.spread @ population.spread.T)

    def negative_log_posterior(row: np.ndarray) -> float:
        logit, off = columns @ row, row - population.mean
        return float((np.logaddexp(0, logit) - correct * logit).sum() + off @ precision @ off / 2)

    naive = minimize(negative_log_posterior, population.mean, method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose(newcomer(population, columns, correct).row, naive, atol=1e-4)


def test_its_uncertainty_is_the_curvature_there(artifact: Artifact, population: Population) -> None:
    columns, _, correct = answered(population, artifact, 40, 4)
    found = newcomer(population, columns, correct)
    p = 1 / (1 + np.exp(-(columns @ found.row)))
    precision = np.linalg.inv(population.spread @ population.spread.T) + (columns.T * (p * (1 - p))) @ columns
    np.testing.assert_allclose(found.root @ found.root.T, np.linalg.inv(precision), rtol=1e-3, atol=1e-6)


def test_few_answers_beat_both_the_mean_and_knowing_nothing(artifact: Artifact, population: Population) -> None:
    """Expected log-loss over other prompts, of forty new LLMs with thirty answers each."""
    losses = []
    for seed in range(40):
        columns, p, correct = answered(population, artifact, 230, 100 + seed)
        row = newcomer(population, columns[:30], correct[:30]).row
        share = (correct[:30].sum() + 1) / 32
        predicted = (columns[30:] @ row, np.full(200, np.log(share / (1 - share))), columns[30:] @ population.mean)
        losses.append([float(np.mean(np.logaddexp(0, z) - p[30:] * z)) for z in predicted])
    fitted, by_mean, unknown = np.mean(losses, axis=0)
    assert fitted < by_mean - 0.03
    assert fitted < unknown - 0.1


def test_its_credible_interval_holds_the_truth_as_often_as_it_says(artifact: Artifact, population: Population) -> None:
    inside = 0
    for seed in range(120):
        columns, _, correct = answered(population, artifact, 40, 300 + seed)
        truth = float((1 / (1 + np.exp(-(population.usual @ rows(1, 1_300 + seed)[0])))).mean())
        _, low, high = newcomer(population, columns, correct).mean_p(population.usual)
        inside += low <= truth <= high
    assert 0.88 <= inside / 120 <= 0.99


def test_questions_are_chosen_as_the_definition_has_it(artifact: Artifact, population: Population) -> None:
    """Naively: every question is tried, the posterior covariance inverted anew, its mean variance computed."""
    columns = population.columns(embed(artifact, prompts(25, 7)))
    covariance = population.spread @ population.spread.T
    variance = np.einsum("ij,jk,ik->i", columns, covariance, columns)
    p = 1 / (1 + np.exp(-(columns @ population.mean) / np.sqrt(1 + np.pi * variance / 8)))

    def mean_variance(asked: list[int]) -> float:
        x = columns[asked]
        after = np.linalg.inv(np.linalg.inv(covariance) + (x.T * (p * (1 - p))[asked]) @ x)
        return float(np.einsum("ij,jk,ik->", columns, after, columns))

    naive: list[int] = []
    for _ in range(6):
        open_ = [i for i in range(25) if i not in naive]
        naive.append(min(open_, key=lambda i: mean_variance([*naive, i])))
    found = choose_questions(population, columns, 6)
    assert mean_variance(found) == pytest.approx(mean_variance(naive), rel=1e-6)
    drawn = np.random.default_rng(0).choice(25, 6, replace=False).tolist()
    assert mean_variance(found) < mean_variance(drawn)
    assert sorted(choose_questions(population, columns, 99)) == list(range(25)), "no more than there are, none twice"


def test_lengths_are_those_that_were_billed(artifact: Artifact) -> None:
    lengths = Population.of(artifact, "length", thinking=True)
    columns = lengths.columns(embed(artifact, prompts(300, 8)))
    truth = np.array([0.4, -0.4, 0.0, 0.1, 7.0])
    tokens = np.exp(columns @ truth + np.random.default_rng(0).normal(0, 0.5, 300))
    row = length_row(lengths, columns, tokens)
    assert np.exp(columns @ row).mean() == pytest.approx(tokens.mean(), rel=0.05)
    spread = columns[:, :D] @ (row - truth)[:D]
    assert np.abs(spread - spread.mean()).max() < 0.25, "what makes answers long is found, not only how long they are"


def test_without_lengths_it_writes_as_llms_of_its_kind_do(artifact: Artifact) -> None:
    means = []
    for thinking in (True, False):
        lengths = Population.of(artifact, "length", thinking=thinking)
        means.append(length_row(lengths, np.zeros((0, D + 1)), np.zeros(0)))
        alike = [llm.thinking == thinking for llm in artifact.manifest.llms]
        expected = artifact.decoder["length_bias"][alike].mean()
        assert lengths.as_tensors(means[-1])["length_bias"] == pytest.approx(expected, abs=1e-5)
    assert means[0][-1] - means[1][-1] == pytest.approx(1.0, abs=0.5)


def test_judging_keeps_equal_prompts_together(artifact: Artifact, population: Population) -> None:
    """An LLM that is right by prompt, at random: no fold may learn it from the same prompt elsewhere."""
    columns, _, correct = answered(population, artifact, 60, 9)
    keys = [f"prompt {i % 3}" for i in range(60)]
    assert judge(population, columns, correct, ["one"] * 60) is None
    found = judge(population, columns, correct, keys)
    assert found is not None
    naive = []
    for out in range(3):
        held = np.arange(60) % 3 == out
        z = columns[held] @ newcomer(population, columns[~held], correct[~held]).row
        naive += (np.logaddexp(0, z) - correct[held] * z).tolist()
    assert found.log_loss == pytest.approx(np.mean(naive), rel=1e-6)
    assert found.change.n == 60


def test_of_two_llms_nothing_can_be_said_about_a_third(tmp_path: Path) -> None:
    plain = planted_artifact(tmp_path / "a")
    decoder = {
        name: tensor[:2] if name.startswith(("llm_", "length_emb", "length_bias")) else tensor
        for name, tensor in plain.decoder.items()
    }
    manifest = plain.manifest.model_copy(update={"llms": plain.manifest.llms[:2]})
    two = save_artifact(
        tmp_path / "a",
        manifest,
        encoder=plain.encoder,
        decoder=decoder,
        tokenizer_json=plain.tokenizer_json,
        model_card="",
    )
    with pytest.raises(ConfigError, match="know 2 LLMs, expected at least 3"):
        Population.of(two, "prompt")


class Bench:
    """Weights on disk, answers in a data folder, and the commands."""

    def __init__(self, artifact: Artifact, folder: Path) -> None:
        self.weights, self.data, self.out, self._folder = folder / "weights", folder / "mine", folder / "out", folder
        save_artifact(
            self.weights,
            artifact.manifest,
            encoder=artifact.encoder,
            decoder=artifact.decoder,
            tokenizer_json=artifact.tokenizer_json,
            model_card="# Sixty\n",
        )

    def ingest(self, texts: list[str], scores: list[float], tokens: list[float] | None = None) -> None:
        lengths: Sequence[float | None] = tokens or [None] * len(texts)
        lines = [
            {"prompt": f"{text} {i}", "llm": "newcomer-1", "score": score, "output_tokens": length}
            for i, (text, score, length) in enumerate(zip(texts, scores, lengths, strict=True))
        ]
        file = self._folder / "answers.jsonl"
        file.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
        done = runner.invoke(app, ["ingest", str(file), "--out", str(self.data)])
        assert done.exit_code == 0, done.output

    def add(self, *options: str, llm: str = "newcomer-1") -> Result:
        where = ["--data", str(self.data), "--artifact", str(self.weights), "--out", str(self.out)]
        return runner.invoke(app, ["add", llm, *where, *options])


@pytest.fixture
def bench(artifact: Artifact, tmp_path: Path) -> Bench:
    return Bench(artifact, tmp_path)


def test_an_added_llm_is_routed_to_and_nothing_else_changes(bench: Bench) -> None:
    """It is right where there is chat or law in a prompt, and LLMs in general are no better at law than elsewhere."""
    texts = prompts(120, 10)
    bench.ingest(texts, [float("hello" in text or "statute" in text) for text in texts], [250.0] * 120)
    done = bench.add("--json", "--vendor", "us", "--input-price", "1", "--output-price", "2")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["n_answers"], told["n_lengths"], told["refused"]) == (120, 120, None)
    assert told["mean_p_low"] < told["mean_p"] < told["mean_p_high"]
    assert told["judged"]["change"]["high"] < 0
    before, after = load_artifact(bench.weights), load_artifact(bench.out)
    assert after.id == told["written"]
    learned = after.manifest.llms[-1]
    assert (learned.id, learned.vendor, learned.n_labels, learned.output_usd_per_mtok) == ("newcomer-1", "us", 120, 2.0)
    assert after.manifest.llms[:-1] == before.manifest.llms
    for name, tensor in before.decoder.items():
        np.testing.assert_array_equal(after.decoder[name][: len(tensor)] if "llm" in name else tensor, tensor)
    old, new = Router(before), Router(after)
    for text in ("integral", "statute"):
        embedding = old.encode(text).prompt_embedding
        was, now = old.scorer.score(embedding), new.scorer.score(embedding)
        np.testing.assert_allclose(now.p_correct[:-1], was.p_correct, rtol=1e-6)
        assert now.output_tokens[-1] == pytest.approx(250, rel=0.25)
        assert (now.p_correct[-1] > 0.75) == (text == "statute")
    assert "## Added: newcomer-1" in (bench.out / "README.md").read_text()


def test_several_llms_join_in_one_call_in_whatever_order(artifact: Artifact, tmp_path: Path) -> None:
    bench, texts = Bench(artifact, tmp_path), prompts(40, 21)
    rng = np.random.default_rng(2)
    lines = [
        {"prompt": f"{text} {i}", "llm": llm, "score": float(rng.random() < p)}
        for i, text in enumerate(texts)
        for llm, p in (("second", 0.4), ("first", 0.8))
    ]
    (tmp_path / "two.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    runner.invoke(app, ["ingest", str(tmp_path / "two.jsonl"), "--out", str(bench.data)])
    where = ["--data", str(bench.data), "--artifact", str(bench.weights), "--out"]
    for names in (("first", "second"), ("second", "first"), ("first",)):
        done = runner.invoke(app, ["add", *names, *where, str(tmp_path / "-".join(names))])
        assert done.exit_code == 0, done.output
    one, other, alone = (load_artifact(tmp_path / name) for name in ("first-second", "second-first", "first"))
    assert [llm.id for llm in one.manifest.llms[-2:]] == ["first", "second"]
    same = {"created": one.manifest.created}
    assert other.manifest.model_copy(update=same) == one.manifest
    for name in one.decoder:
        np.testing.assert_array_equal(one.decoder[name], other.decoder[name])
    np.testing.assert_array_equal(one.decoder["llm_embeddings"][:-1], alone.decoder["llm_embeddings"])
    refused = runner.invoke(app, ["add", "first", "second", *where, str(tmp_path / "x"), "--thinking"])
    assert refused.exit_code == 2
    assert "--thinking are of one LLM, found 2" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(("name", "written"), [("mine.txt", "{}\n"), ("mine.jsonl", '{{"prompt": "{}"}}\n')])
def test_questions_are_chosen_from_ungraded_prompts(bench: Bench, tmp_path: Path, name: str, written: str) -> None:
    file = tmp_path / name
    texts = list(dict.fromkeys(f"{text} {i}" for i, text in enumerate(prompts(30, 5))))
    file.write_text("".join(written.format(text) for text in texts) + "\n")
    done = runner.invoke(app, ["questions", f"--prompts={file}", f"--artifact={bench.weights}", "--n=7"])
    assert done.exit_code == 0, done.output
    asked = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(asked) == 7
    assert {one["prompt"] for one in asked} <= set(texts)
    assert all(texts[int(one["item_id"]) - 1] == one["prompt"] for one in asked)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no prompt in it"),
        ('{"text": "a"}\n', "line 1: expected a JSON object with a text"),
        ("{", "line 1: expected one JSON object"),
    ],
)
def test_a_file_of_prompts_that_is_none_is_told(bench: Bench, tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(content)
    done = runner.invoke(app, ["questions", f"--prompts={file}", f"--artifact={bench.weights}"])
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    neither = runner.invoke(app, ["questions", f"--artifact={bench.weights}"])
    assert "give one of --data, data folders, and --prompts" in " ".join(neither.stderr.split())


def test_reversed_scores_are_refused(bench: Bench) -> None:
    """Right at maths, wrong at chat: the reverse of what LLMs do. Nothing is written unless forced."""
    texts = [word for word in ("hello", "integral") for _ in range(15)]
    bench.ingest(texts, [float("integral" in text) for text in texts])
    done = bench.add()
    assert done.exit_code == 1
    assert "refused: newcomer-1 is right where LLMs are usually wrong" in done.stdout
    assert not bench.out.exists()
    assert bench.add("--force").exit_code == 0
    assert load_artifact(bench.out).manifest.llms[-1].id == "newcomer-1"


def test_evaluating_an_added_llm_warns_of_the_answers_it_joined_from(bench: Bench) -> None:
    bench.ingest(prompts(40, 15), [float(i % 3 > 0) for i in range(40)])
    assert bench.add().exit_code == 0
    where = ["--data", str(bench.data), "--artifact", str(bench.out), "--split", "all", "--baselines", "none"]
    done = runner.invoke(app, ["evaluate", *where, "--json"])
    assert done.exit_code == 0, done.output
    warnings = json.loads(done.stdout)["warnings"]
    assert any(one.startswith("newcomer-1 joined by `add`") for one in warnings)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_an_llm_that_was_always_right_or_always_wrong_is_no_mistake(bench: Bench, score: float) -> None:
    bench.ingest(prompts(30, 14), [score] * 30)
    done = bench.add("--json")
    assert done.exit_code == 0, done.output
    assert (json.loads(done.stdout)["mean_p"] > 0.6) == bool(score)


def test_coin_tosses_leave_a_doubt_that_is_told(bench: Bench) -> None:
    bench.ingest(list(WORDS) * 6, [float(x) for x in np.random.default_rng(0).permutation([0.0, 1.0] * 12)])
    done, told = bench.add(), json.loads(bench.add("--json").stdout)
    assert done.exit_code == 0, done.output
    change = told["judged"]["change"]
    assert change["high"] > 0
    doubt = "its mean says more of these answers" if change["low"] > 0 else "too few answers to say"
    assert doubt in done.stdout


@pytest.mark.parametrize(
    ("llm", "n", "words"),
    [
        ("llm-7", 20, "the weights know llm-7 already, from 1,000 answers"),
        ("newcomer-2", 20, "no answers of newcomer-2; they have those of newcomer-1"),
        ("newcomer-1", 9, "the data have 9 graded answers of newcomer-1, expected at least 10"),
    ],
)
def test_a_mistake_is_told(bench: Bench, llm: str, n: int, words: str) -> None:
    bench.ingest(prompts(n, 11), [1.0] * n)
    done = bench.add(llm=llm)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())
    assert not bench.out.exists()


def test_the_parent_is_never_overwritten(bench: Bench) -> None:
    bench.ingest(prompts(20, 12), [1.0] * 20)
    bench.out = bench.weights
    done = bench.add()
    assert done.exit_code == 2
    assert "is the artifact itself" in " ".join(done.stderr.split())


def test_questions_are_json_lines_that_ingest_reads_once_they_are_graded(bench: Bench, tmp_path: Path) -> None:
    texts = prompts(40, 13)
    bench.ingest([*texts, *texts[:5]], [0.5] * 45)
    where = ["--data", str(bench.data), "--artifact", str(bench.weights), "--n", "12"]
    done = runner.invoke(app, ["questions", *where])
    assert done.exit_code == 0, done.output
    asked = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({one["prompt"] for one in asked}) == 12
    file = tmp_path / "questions.jsonl"
    assert runner.invoke(app, ["questions", *where, "--out", str(file)]).exit_code == 0
    assert [json.loads(line) for line in file.read_text().splitlines()] == asked, "the same ones each time"
    graded = tmp_path / "graded.jsonl"
    graded.write_bytes(b"".join(orjson.dumps({**one, "llm": "newcomer-1", "score": 1}) + b"\n" for one in asked))
    done = runner.invoke(app, ["ingest", str(graded), "--out", str(bench.data)])
    assert done.exit_code == 0, done.output
    assert bench.add().exit_code == 0
    elsewhere = str(tmp_path / "nowhere" / "file")
    done = runner.invoke(app, ["questions", *where, "--out", elsewhere])
    assert done.exit_code == 2
    assert "cannot be written" in " ".join(done.stderr.split())
