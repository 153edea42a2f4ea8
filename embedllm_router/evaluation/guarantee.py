"""The guarantee of an artifact: how often "p_correct ≥ τ" holds on held-out prompts, in its manifest and model card.

Of a choice there is one answer per prompt; of "every LLM that reaches τ" there are many, which stand or fall together.
Every share therefore has two intervals: the exact one for independent answers (Clopper & Pearson, Biometrika 26, 1934)
and one from resampled questions, a question being all prompts with the same stem. The wider end counts.

`add_guarantee` gives a weights folder its guarantee, or renews it, without retraining: every tensor stays as it is. The
data are split as the artifact's training split them, and only the test part is measured: training saw the first part,
early stopping and calibration the second.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import clopper_pearson, resamples
from embedllm_router.artifact.guarantees import rows_of, verdict
from embedllm_router.artifact.manifest import GuaranteeRow, LearnedLLM, Manifest
from embedllm_router.artifact.weights import Artifact, load_artifact, read_card, save_artifact, weights_place
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.data.split import question_stem
from embedllm_router.evaluation.frontier import choose, price_answers
from embedllm_router.evaluation.inputs import OnProgress, Part, Predictions, read_inputs
from embedllm_router.prediction.scorer import Scorer

__all__ = ["add_guarantee", "card_with_guarantee", "measure_guarantee", "with_guarantee"]

_HEAD = "## Guarantee"
_OLD = re.compile(r"\n## (?:Contract|Guarantee)\n.*?(?=\n## |\Z)", re.DOTALL)
_LAST = "\n## Landmarks\n"
_SECTION = """{head}

`min_p_correct` τ chooses the cheapest LLM whose p_correct reaches τ. On {n:,} prompts of the test part, in which some
LLM reached the lowest of these τ, the chosen LLM was right this often:

| τ | prompts | predicted | right | 95 % interval | at least (95 %) | promise |
|---|---|---|---|---|---|---|
{rows}

The intervals are the wider of Clopper and Pearson's (1934) and a bootstrap over questions. A promise is kept where the
one-sided 95 % bound reaches τ. These prompts are benchmarks, not your traffic.
"""


def card_with_guarantee(card: str, rows: Sequence[GuaranteeRow]) -> str:
    """A model card with a section about the guarantee of τ, in place of an older such section.

    Args:
        card: Markdown; a section about landmarks stays the last.
        rows: The guarantee; without rows of floors over all data sets, the section is left out.

    Returns:
        Markdown.
    """
    others = _OLD.sub("", card)
    floors = rows_of(rows, "min_p_correct")
    if not floors:
        return others
    section = _SECTION.format(head=_HEAD, n=floors[0].n_prompts, rows="\n".join(map(_row, floors)))
    body, mark, rest = others.partition(_LAST)
    return f"{body.rstrip()}\n\n{section}{mark}{rest}"


def _row(row: GuaranteeRow) -> str:
    share = f"{row.predicted:.3f} | {row.correct:.3f} | [{row.low:.3f}, {row.high:.3f}] | {row.at_least:.3f}"
    return f"| {row.value:g} | {row.n_prompts:,} | {share} | {verdict(row)} |"


FLOORS: Final = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""τ that are measured over all data sets."""
FLOORS_BY_SET: Final = (0.6, 0.7, 0.8, 0.9)
"""τ that are measured in each."""
COST_WEIGHTS: Final = (0.0, 1.0, 5.0, 20.0, 100.0, 500.0)
"""λ that are measured over all data sets."""

_TAIL: Final = 0.025
_ONE_SIDED: Final = 0.05
_MIN_CANDIDATES: Final = 2  # with fewer there is nothing to choose
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def with_guarantee(manifest: Manifest, scorer: Scorer, test: Part) -> Manifest:
    """The manifest with the guarantee that its decoder keeps.

    Args:
        manifest: Its `llms` are the columns of the test part.
        scorer: What predicts, as it is served.
        test: Prompts that neither training nor calibration saw.

    Returns:
        The manifest; an older guarantee is replaced.
    """
    scores = [scorer.score(row) for row in test.x]
    predictions = Predictions(
        np.stack([one.p_correct for one in scores]), np.stack([one.output_tokens for one in scores])
    )
    rows = measure_guarantee(test.matrix, predictions, manifest.llms)
    return manifest.model_copy(update={"contract": rows})


def measure_guarantee(
    test: CorrectnessMatrix, predictions: Predictions, llms: Sequence[LearnedLLM]
) -> tuple[GuaranteeRow, ...]:
    """Measures promises on prompts that nothing was fitted to.

    A choice is among the LLMs that were graded on the prompt and have a list price; prompts with fewer than two of them
    have no choice and are left out of those rows.

    Args:
        test: Prompts and labels; at least one label.
        predictions: Of the same prompts and LLMs.
        llms: In the matrix's columns, with their list prices.

    Returns:
        One row per promise that was made at least once.
    """
    held = _HeldOut.of(test, predictions, llms)
    rows = list(_rows(held, "min_p_correct", FLOORS))
    rows += _rows(held, "cost_weight", COST_WEIGHTS)
    rows += _rows(held, "any_llm", FLOORS)
    for name in dict.fromkeys(test.datasets):
        rows += _rows(held, "min_p_correct", FLOORS_BY_SET, name)
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """Predictions and labels; arrays are (n_prompts, n_llms) where nothing else is said.

    Attributes:
        p: float64, in [0, 1].
        cost: USD as known before the answer; infinite where the LLM is no candidate.
        right: 0 or 1; 0 without a label.
        graded: Where there is a label.
        datasets: (n_prompts,).
        question: int64 (n_prompts,), number of the question stem.
        draws: float32 (n_draws, n_questions), how often each question occurs in each resample.
    """

    p: Floats
    cost: Floats
    right: Floats
    graded: Flags
    datasets: NDArray[np.str_]
    question: NDArray[np.int64]
    draws: NDArray[np.float32]

    @classmethod
    def of(cls, test: CorrectnessMatrix, predictions: Predictions, llms: Sequence[LearnedLLM]) -> "_HeldOut":
        costs = price_answers(test, llms, predictions.output_tokens)
        candidates = test.observed & costs.priced
        candidates &= (candidates.sum(axis=1) >= _MIN_CANDIDATES)[:, None]
        question = np.unique([question_stem(prompt) for prompt in test.prompts], return_inverse=True)[1]
        return cls(
            p=predictions.p_correct.astype(np.float64),
            cost=np.where(candidates, costs.expected_cost, np.inf),
            right=np.where(test.observed, test.labels(), 0.0).astype(np.float64),
            graded=test.observed,
            datasets=np.array(test.datasets),
            question=question,
            draws=resamples(int(question.max()) + 1),
        )

    def chosen(self, promise: str, value: float) -> Flags:
        """Whose answers the promise is made of."""
        if promise == "any_llm":
            return self.graded & (self.p >= value)
        candidates = np.isfinite(self.cost)
        if promise == "min_p_correct":
            kept = candidates & (self.p >= value)
            best = np.where(kept, self.cost, np.inf).argmin(axis=1)
        else:
            kept = candidates
            best = choose(np.where(kept, self.p, -np.inf), np.where(kept, self.cost, 0.0), value)
        mask = np.zeros_like(kept)
        mask[np.arange(len(mask)), best] = True
        return mask & kept

    def samples(self, mask: Flags) -> Floats:
        """The share right in each resample; NaN where it holds none of the answers."""
        right, n = self._drawn(self.right * mask), self._drawn(mask)
        shares: Floats = np.divide(right, n, out=np.full(len(n), np.nan), where=n > 0)
        return shares

    def _drawn(self, answers: NDArray[np.generic]) -> Floats:
        """How many answers each resample holds; float32 counts whole numbers of this size exactly."""
        of_question = np.bincount(self.question, answers.sum(axis=1), self.draws.shape[1])
        return (self.draws @ of_question.astype(np.float32)).astype(np.float64)


def _rows(
    held: _HeldOut,
    promise: Literal["min_p_correct", "cost_weight", "any_llm"],
    values: Sequence[float],
    data: str | None = None,
) -> Iterator[GuaranteeRow]:
    among = np.ones(len(held.p), dtype=bool) if data is None else held.datasets == data
    for value in values:
        mask = held.chosen(promise, value) & among[:, None]
        n = int(mask.sum())
        if not n:
            continue
        n_right = round(float(held.right[mask].sum()))
        share = n_right / n
        low, high, at_least = _bounds(n_right, n, held.samples(mask))
        yield GuaranteeRow(
            promise=promise,
            value=value,
            data=data,
            n_prompts=int(mask.any(axis=1).sum()),
            n_labels=n,
            predicted=round(float(held.p[mask].mean()), 6),
            correct=round(share, 6),
            low=_down(min(low, share)),
            high=_up(max(high, share)),
            at_least=_down(at_least),
        )


def _bounds(n_right: int, n: int, samples: Floats) -> tuple[float, float, float]:
    """Both ends of the two-sided interval and the one-sided lower bound: the wider of exact and resampled ones."""
    low, high = clopper_pearson(n_right, n, _TAIL, _TAIL)
    at_least = clopper_pearson(n_right, n, _ONE_SIDED, 0.0)[0]
    known = samples[np.isfinite(samples)]
    tails = np.quantile(known, [_TAIL, 1 - _TAIL, _ONE_SIDED]).tolist()
    return min(low, tails[0]), max(high, tails[1]), min(at_least, tails[2])


def _down(share: float) -> float:
    return float(np.floor(share * 1e6) / 1e6)


def _up(share: float) -> float:
    return float(np.ceil(share * 1e6) / 1e6)


def add_guarantee(folder: Path, data: Sequence[Path], on_progress: OnProgress = lambda *_: None) -> Artifact:
    """Adds a guarantee to an artifact in place.

    Args:
        folder: The weights folder; replaced whole.
        data: The data sets it learned from; those not named are looked for beside these, and only those named are
            measured.
        on_progress: Called with what is being done, steps done and steps planned.

    Returns:
        The artifact with its guarantee. Its id is another one, its tensors are the same bytes.

    Raises:
        ArtifactError: The folder cannot be read or written.
        ConfigError: The artifact's split cannot be rebuilt from the data.
        DataError: The data cannot be used.
    """
    folder = weights_place(folder)
    artifact = load_artifact(folder)
    card = read_card(folder)
    inputs = read_inputs(artifact, data, train_x=False, on_progress=on_progress)
    on_progress("measuring", 0, 1)
    manifest = with_guarantee(artifact.manifest, Scorer.from_artifact(artifact), inputs.test)
    on_progress("measuring", 1, 1)
    return save_artifact(
        folder,
        manifest,
        encoder=artifact.encoder,
        decoder=artifact.decoder,
        tokenizer_json=artifact.tokenizer_json,
        model_card=card_with_guarantee(card, manifest.contract),
        landmarks=artifact.landmarks,
    )
