"""How well an LLM is predicted by its name and price, by published scores, and by a few answers.

    python benchmarks/bench_ungraded.py --data FOLDER... [--llms N]

LLMs of at least 1,000 graded answers and five published scores are left out in turn, with their other settings: of what
figures and families say of ability, of what benchmarks measure, and of the population of rows. Prompt networks and the
rows' dependence on ability are the artifact's and had seen the LLM's answers; that part of the figures is kind to all
rows of the table alike. Each LLM is judged on all its answers to test prompts. Means over LLMs, and over draws of
scores and answers. `covered` is the share of categories, of at least 25 test answers of an LLM, whose share of right
answers lies in the 95 % interval that its row's posterior, the spread of kinds of prompt (`TOPIC_SD`) and the chance of
so many answers leave. Ends with one JSON line.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from embedllm_router._stats import losses, sigmoid
from embedllm_router.artifact.kin import LLMKind, base_id
from embedllm_router.artifact.weights import Artifact, default_artifact_path, load_artifact
from embedllm_router.evaluation.inputs import Inputs, Part, read_inputs
from embedllm_router.routing.pool import TOPIC_SD
from embedllm_router.training.add_llm import About, Newcomer, Population, expected_by_scores, expected_of, newcomer
from embedllm_router.training.fit.ability import Cells, Spreads, count_cells, fit_ability, kin_spec
from embedllm_router.training.fit.benchmarks import fit_benchmarks, graded_llms
from embedllm_router.training.fit.facts import find_llm_table, read_facts
from embedllm_router.training.fit.published import Published, find_published, kinds, read_published, whole_scores

MIN_LABELS, MIN_SCORES, ANSWERS, DRAWS, MIN_CELL = 1_000, 5, 50, 5, 25
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class World:
    """What the LLMs left out are predicted from and judged by.

    Attributes:
        artifact: All LLMs.
        inputs: Train and test part.
        cells: Graded answers of the train part.
        kinds: What is known of the LLMs besides.
        spreads: How much kinship says.
        scores: Headline scores by LLM and benchmark.
        published: All scores.
    """

    artifact: Artifact
    inputs: Inputs
    cells: Cells
    kinds: tuple[LLMKind, ...]
    spreads: Spreads
    scores: dict[str, dict[str, float]]
    published: Published

    @classmethod
    def read(cls, artifact: Artifact, data: list[Path]) -> "World":
        """Reads, splits and encodes."""
        inputs, ids = read_inputs(artifact, data), [llm.id for llm in artifact.manifest.llms]
        published = read_published(find_published(data))
        known = kinds(ids, read_facts(find_llm_table(data)), published)
        assert inputs.train is not None
        matrix = inputs.train.matrix
        sets = np.unique(matrix.datasets, return_inverse=True)[1].astype(np.int64)
        cells = count_cells(matrix.labels(), matrix.observed, sets)
        spreads = fit_ability(cells, ids, known).spreads
        return cls(artifact, inputs, cells, known, spreads, headline_scores(artifact, published), published)

    def without(self, llm: str) -> Artifact:
        """The artifact as if nothing were known of an LLM, whatever its setting."""
        manifest, decoder = self.artifact.manifest, self.artifact.decoder
        kept = np.array([base_id(one.id) != base_id(llm) for one in manifest.llms])
        llms = tuple(one for one, stays in zip(manifest.llms, kept.tolist(), strict=True) if stays)
        kind = [one for one, stays in zip(self.kinds, kept.tolist(), strict=True) if stays]
        cells = Cells(self.cells.n[:, kept], self.cells.right[:, kept])
        ability = fit_ability(cells, [one.id for one in llms], kind, self.spreads)
        per_llm = {name for name, tensor in decoder.items() if len(tensor) == len(kept)}
        rows = {name: tensor[kept] if name in per_llm else tensor for name, tensor in decoder.items()}
        assert manifest.kin is not None
        fewer = {
            "llms": llms,
            "kin": kin_spec(ability.kin, manifest.kin.features),
            "published": fit_benchmarks(self.published.scores, graded_llms(llms, rows)),
        }
        return replace(self.artifact, manifest=manifest.model_copy(update=fewer), decoder=rows)


def headline_scores(artifact: Artifact, published: Published) -> dict[str, dict[str, float]]:
    """Scores on the benchmarks that the artifact knows, by LLM."""
    assert artifact.manifest.published is not None
    known = [one.name for one in artifact.manifest.published.benchmarks]
    cells = whole_scores(published.scores.filter(pl.col("benchmark").is_in(known)))
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for model, benchmark, score in cells.sort("model", "benchmark").iter_rows():
        found[model][benchmark] = score
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--artifact", type=Path, default=default_artifact_path())
    parser.add_argument("--llms", type=int, default=20)
    asked = parser.parse_args()
    world = World.read(load_artifact(asked.artifact), asked.data)
    able = [
        llm.id
        for llm in world.artifact.manifest.llms
        if llm.n_labels >= MIN_LABELS and len(world.scores.get(llm.id, ())) >= MIN_SCORES
    ]
    places = np.linspace(0, len(able) - 1, min(asked.llms, len(able))).round().astype(int)
    report(world, [able[i] for i in places.tolist()])


def report(world: World, out: Sequence[str]) -> None:
    """Leaves every LLM out, and prints the means."""
    found: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
    population = Population.of(world.artifact, "prompt")
    for llm in out:
        per_llm: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
        for how, figures in measure(world, population, llm):
            per_llm[how].append(figures)
        for how, draws in per_llm.items():
            found[how].append(tuple(np.nanmean(draws, axis=0).tolist()))
        Console(stderr=True).print(llm, {how: round(values[-1][0], 4) for how, values in found.items()})
    means = {how: np.nanmean(figures, axis=0).tolist() for how, figures in found.items()}
    nothing, trained = means["nothing"][0], means["trained on all"][0]
    table = Table("known of it", "log-loss", "way to trained", "error of the mean", "covered", title=f"{len(out)} LLMs")
    result = []
    for how, (loss, wrong, covered) in means.items():
        way = (nothing - loss) / (nothing - trained)
        table.add_row(how, f"{loss:.4f}", f"{way:.0%}", f"{wrong:.3f}", f"{covered:.1%}")
        result.append({"how": how, "log_loss": loss, "way": way, "error_of_mean": wrong, "covered": covered})
    Console().print(table)
    print(json.dumps({"llms": list(out), "rows": result}))


def measure(world: World, population: Population, llm: str) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Log-loss, error of the mean p_correct, and coverage of one LLM, by what is known of it."""
    place = [one.id for one in world.artifact.manifest.llms].index(llm)
    judge = Judge.of(world, population, place)
    fewer, known = world.without(llm), world.artifact.manifest.llms[place]
    bare = Population.of(fewer, "prompt")
    about = About(llm, thinking=known.thinking, output_usd_per_mtok=known.output_usd_per_mtok)
    assert fewer.manifest.published is not None
    measured = [one.name for one in fewer.manifest.published.benchmarks if one.name in world.scores[llm]]
    nobody = np.zeros((0, len(bare.mean)))
    yield "nothing", judge.figures(newcomer(bare, nobody, np.zeros(0)))
    by_name = bare.around(expected_of(fewer, about))
    yield "name, family, price", judge.figures(newcomer(by_name, nobody, np.zeros(0)))
    for draw in range(DRAWS):
        rng = np.random.default_rng((place, draw))
        chosen = rng.permutation(measured)[:MIN_SCORES].tolist()
        columns, right = judge.asked(rng)
        for n in (1, MIN_SCORES):
            scored = replace(about, scores={name: world.scores[llm][name] for name in chosen[:n]})
            around = bare.around(expected_by_scores(fewer, scored))
            yield f"{n} scores", judge.figures(newcomer(around, nobody, np.zeros(0)))
            if n == MIN_SCORES:
                yield f"{n} scores and {ANSWERS} answers", judge.figures(newcomer(around, columns, right))
        yield f"{ANSWERS} answers", judge.figures(newcomer(bare, columns, right))
        yield f"name and {ANSWERS} answers", judge.figures(newcomer(by_name, columns, right))
    trained = np.linalg.solve(population.turn, population.decoder.rows[place])
    yield "trained on all", judge.figures(Newcomer(trained, np.zeros((len(trained), 1))))


def _answers(part: Part | None, population: Population, place: int, most: int | None = None) -> tuple[Floats, Floats]:
    """Columns of the prompts that an LLM answered, and whether it was right; at random so many."""
    assert part is not None
    rows = np.flatnonzero(part.matrix.observed[:, place])
    rows = rows if most is None else np.random.default_rng(0).permutation(rows)[:most]
    return population.columns(list(part.x[rows])), part.matrix.labels()[rows, place].astype(np.float64)


@dataclass(frozen=True, slots=True)
class Judge:
    """The answers of one LLM."""

    train: Floats
    train_right: Floats
    test: Floats
    right: Floats
    category: NDArray[np.str_]

    @classmethod
    def of(cls, world: World, population: Population, place: int) -> "Judge":
        """Columns and answers to train and test prompts."""
        train, right = _answers(world.inputs.train, population, place, MIN_LABELS)
        test = world.inputs.test
        columns, right_in_test = _answers(test, population, place)
        category = test.matrix.category_names()[np.flatnonzero(test.matrix.observed[:, place])]
        return cls(train, right, columns, right_in_test, category)

    def asked(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """A few answers to training prompts."""
        rows = rng.permutation(len(self.train))[:ANSWERS]
        return self.train[rows], self.train_right[rows]

    def figures(self, known: Newcomer) -> tuple[float, float, float]:
        """Log-loss, absolute error of the mean p_correct, and the share of categories whose interval holds."""
        logit = self.test @ known.row
        wrong = abs(float(sigmoid(logit).mean() - self.right.mean()))
        return float(losses(logit, self.right).mean()), wrong, self._covered(known)

    def _covered(self, known: Newcomer) -> float:
        rng = np.random.default_rng(0)
        drawn = known.row[:, None] + known.root @ rng.standard_normal((known.root.shape[1], 400))
        logit, chance = self.test @ drawn, rng.uniform(size=(len(self.test), 400))
        holds = []
        for name in np.unique(self.category):
            mine = self.category == name
            if mine.sum() >= MIN_CELL:
                answers = chance[mine] < sigmoid(logit[mine] + TOPIC_SD * rng.standard_normal(400))
                low, high = np.quantile(answers.mean(axis=0), [0.025, 0.975])
                holds.append(low <= self.right[mine].mean() <= high)
        return float(np.mean(holds)) if holds else float("nan")


if __name__ == "__main__":
    main()
