"""How much of what was learned holds on prompts of kinds that nobody trained on.

The decoder's parts say two things of a prompt (the formula is in `prediction.scorer`). One trusts all of them, as is
right for prompts like those of training; the other trusts each by as much as it was worth on data sets left out of
training. Which holds, a gate tells by the prompt's novelty, the distance to the nearest of many training prompts.

The constants are found in two steps, from predictions for data sets that were left out in turn: first the shares of the
second prediction, by a logistic regression; then gate and temperature, which must also do well on ordinary prompts.
How novel a prompt is counts in standard deviations of ordinary prompts, so that constants found on some data serve on
other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from embedllm_router._stats import Examples, fit_logistic, losses, sigmoid
from embedllm_router.artifact.manifest import HedgeSpec, LeftOutSet

__all__ = [
    "USUAL_CONSTANTS",
    "Answers",
    "Calibration",
    "HedgeConstants",
    "Parts",
    "answers_of",
    "calibrate",
    "fit_constants",
    "hedge_spec",
    "hedged_logits",
]

_ORDINARY_WEIGHT: Final = 2.0  # of the mean loss on ordinary prompts against that on left-out sets
_FEW_PROMPTS: Final = 60.0  # a left-out set of so many prompts counts half
_LABELS_A_SET: Final = 2500
_ORDINARY_LABELS: Final = 40_000
_RIDGE: Final = 0.004  # twice the factor of the sum of squares
_CALIBRATION_RIDGE: Final = 1e-3
_GATE_STEPS: Final = 60
_MIN_SHARE: Final = 1e-3
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HedgeConstants:
    """See `artifact.manifest.HedgeSpec`; gate_weight is by standard deviation of ordinary prompts."""

    base: float
    ability_share: float
    difficulty_share: float
    common_share: float
    difference_share: float
    gate_bias: float
    gate_weight: float
    temperature: float


USUAL_CONSTANTS: Final = HedgeConstants(
    base=0.099,
    ability_share=0.651,
    difficulty_share=0.812,
    common_share=0.215,
    difference_share=0.456,
    gate_bias=-0.531,
    gate_weight=0.996,
    temperature=1.212,
)
"""Found on sixteen public data sets; see docs/experiments.md."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a decoder's parts say of some prompts.

    Attributes:
        exam: What the network of all columns says of each LLM, float32 (n_prompts, n_llms).
        broad: What the broad network says, of the same shape.
        difficulty: float32 (n_prompts,).
        novelty: In standard deviations of ordinary prompts, 0 on their average, float32 (n_prompts,).
        ability: float64 (n_llms,).
        reference: bool (n_llms,), the LLMs of many labels.
    """

    exam: NDArray[np.float32]
    broad: NDArray[np.float32]
    difficulty: NDArray[np.float32]
    novelty: NDArray[np.float32]
    ability: Floats
    reference: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Answers:
    """Graded answers and what the parts say of each; every array is (n_answers,).

    Attributes:
        prompt: Row of the prompt, int64.
        llm: Column of the LLM, int64.
        right: float64, 0 or 1.
        mean_ability: Of the reference LLMs, float64. It differs between decoders, whose answers may be joined.
        ability: Beyond the mean, float64.
        difficulty: float64.
        exam: float64.
        common: Mean of the broad network over the reference LLMs, float64.
        difference: The broad network beyond it, float64.
        novelty: float64.
    """

    prompt: NDArray[np.int64]
    llm: NDArray[np.int64]
    right: Floats
    mean_ability: Floats
    ability: Floats
    difficulty: Floats
    exam: Floats
    common: Floats
    difference: Floats
    novelty: Floats

    def __len__(self) -> int:
        return len(self.right)

    def select(self, which: NDArray[np.generic]) -> "Answers":
        """Some of them, by place or by truth value."""
        return Answers(*(getattr(self, one.name)[which] for one in fields(self)))

    @classmethod
    def joined(cls, several: Sequence["Answers"]) -> "Answers":
        """All of several."""
        return cls(*(np.concatenate([getattr(one, f.name) for one in several]) for f in fields(cls)))


def answers_of(parts: Parts, labels: NDArray[np.generic], observed: NDArray[np.bool_]) -> Answers:
    """One entry per graded answer.

    Args:
        parts: Of the same prompts and LLMs.
        labels: (n_prompts, n_llms), 0 or 1.
        observed: bool (n_prompts, n_llms).
    """
    prompt, llm = np.nonzero(observed)
    mean = float(parts.ability[parts.reference].mean())
    common = parts.broad[:, parts.reference].mean(axis=1, dtype=np.float64)[prompt]
    broad = parts.broad[prompt, llm].astype(np.float64)
    return Answers(
        prompt=prompt,
        llm=llm,
        right=labels[prompt, llm].astype(np.float64),
        mean_ability=np.full(len(prompt), mean),
        ability=parts.ability[llm] - mean,
        difficulty=parts.difficulty[prompt].astype(np.float64),
        exam=parts.exam[prompt, llm].astype(np.float64),
        common=common,
        difference=broad - common,
        novelty=parts.novelty[prompt].astype(np.float64),
    )


def hedged_logits(
    answers: Answers, constants: HedgeConstants, broad_weight: float, *, gate: float | None = None
) -> Floats:
    """Logits before calibration, float64 (n_answers,).

    Args:
        answers: What the parts say.
        constants: How they are weighed.
        broad_weight: Share of the broad network on prompts like those of training.
        gate: 0 for the prediction for such prompts, 1 for that for others; None lets novelty decide.
    """
    inner = _exam_logits(answers, broad_weight)
    outer = _shared(answers) @ np.array(_shares(constants))
    h = sigmoid(constants.gate_bias + constants.gate_weight * answers.novelty) if gate is None else gate
    mixed: Floats = (1 - h) * constants.temperature * inner + h * outer
    return mixed


def _exam_logits(answers: Answers, broad_weight: float) -> Floats:
    networks = (1 - broad_weight) * answers.exam + broad_weight * (answers.common + answers.difference)
    logits: Floats = answers.mean_ability + answers.ability + answers.difficulty + networks
    return logits


def _shared(answers: Answers) -> Floats:
    """What `_shares` multiply, float64 (n_answers, 5)."""
    ones = np.ones(len(answers))
    return np.stack([ones, answers.ability, answers.difficulty, answers.common, answers.difference], axis=1)


def _shares(constants: HedgeConstants) -> tuple[float, ...]:
    c = constants
    return (c.base, c.ability_share, c.difficulty_share, c.common_share, c.difference_share)


def fit_constants(
    left_out: Sequence[Answers], ordinary: Answers, broad_weight: float, *, seed: int = 0
) -> HedgeConstants:
    """Finds the constants that predict left-out data sets best without spoiling ordinary prompts.

    Args:
        left_out: Answers of each data set that was left out, and what the parts of the decoder that never saw it say.
        ordinary: Answers to held-out prompts of data sets that were learned.
        broad_weight: See `hedged_logits`.
        seed: Decides which answers count where there are very many.

    Returns:
        The constants.
    """
    rng = np.random.default_rng(seed)
    few = [one.select(rng.permutation(len(one))[:_LABELS_A_SET]) for one in left_out if len(one)]
    importance = [_importance(one) for one in left_out if len(one)]
    weight = np.concatenate([np.full(len(one), size / len(one)) for one, size in zip(few, importance, strict=True)])
    weight /= weight.sum()
    strange = Answers.joined(few)
    usual = ordinary.select(rng.permutation(len(ordinary))[:_ORDINARY_LABELS])
    examples = Examples(_shared(strange), np.zeros(len(strange)), strange.right, weight)
    shares = fit_logistic(examples, np.full(5, _RIDGE))[0].tolist()
    shares[1] = max(shares[1], _MIN_SHARE)  # a better LLM is never expected to be worse
    base, ability, difficulty, common, difference = shares
    start = HedgeConstants(base, ability, difficulty, common, difference, 0.0, 0.7, 1.0)
    return _with_gate(start, strange, weight, usual, broad_weight)


def _importance(answers: Answers) -> float:
    n_prompts = len(np.unique(answers.prompt))
    return n_prompts / (n_prompts + _FEW_PROMPTS)


def _with_gate(
    start: HedgeConstants, strange: Answers, weight: Floats, usual: Answers, broad_weight: float
) -> HedgeConstants:
    outer = np.array(_shares(start))
    both = [(one, _exam_logits(one, broad_weight), _shared(one) @ outer) for one in (strange, usual)]

    def objective(theta: Floats) -> float:
        loss = [_gate_losses(theta, *one) for one in both]
        total = weight @ loss[0] + _ORDINARY_WEIGHT * loss[1].mean() + _RIDGE / 2 * theta @ theta
        return float(total)

    theta = np.array([start.gate_bias, start.gate_weight, np.log(start.temperature)])
    found = minimize(objective, theta, method="BFGS", options={"maxiter": _GATE_STEPS, "gtol": 1e-6}).x.tolist()
    return replace(start, gate_bias=found[0], gate_weight=found[1], temperature=float(np.exp(found[2])))


def _gate_losses(theta: Floats, answers: Answers, inner: Floats, outer: Floats) -> Floats:
    h = sigmoid(theta[0] + theta[1] * answers.novelty)
    return losses((1 - h) * np.exp(theta[2]) * inner + h * outer, answers.right)


@dataclass(frozen=True, slots=True)
class Calibration:
    """`calibrated logit = offset + slope · logit`; the slope is positive."""

    slope: float
    offset: float


def calibrate(logits: Floats, right: Floats) -> Calibration:
    """The common slope and offset that minimise the log-loss of held-out answers (Platt, 1999).

    Args:
        logits: float64 (n_answers,).
        right: float64 (n_answers,), 0 or 1.
    """
    x = np.stack([np.ones(len(logits)), logits], axis=1)
    examples = Examples(x, logits, right, np.full(len(logits), 1 / max(len(logits), 1)))
    offset, slope = fit_logistic(examples, np.full(2, _CALIBRATION_RIDGE))[0].tolist()
    return Calibration(slope=max(1 + slope, 0.1), offset=offset)


def hedge_spec(  # noqa: PLR0913 - all that the manifest says of a hedge
    constants: HedgeConstants,
    calibration: Calibration,
    reference_abilities: Floats,
    *,
    broad_weight: float,
    usual_novelty: tuple[float, float],
    n_points: int,
    left_out: Sequence[LeftOutSet] = (),
) -> HedgeSpec:
    """All of it as the manifest holds it.

    Args:
        constants: How the parts are weighed.
        calibration: Of the final logit.
        reference_abilities: Abilities of the reference LLMs, float64 (n,).
        broad_weight: See `hedged_logits`.
        usual_novelty: Mean and standard deviation of the novelty of ordinary prompts, before it was standardised.
        n_points: Points it is measured from.
        left_out: How each data set was predicted that was left out to find the constants; none where they are the usual
            ones.
    """
    mean, scale = usual_novelty
    return HedgeSpec(
        base=round(constants.base, 5),
        ability_share=round(constants.ability_share, 5),
        difficulty_share=round(constants.difficulty_share, 5),
        common_share=round(constants.common_share, 5),
        difference_share=round(constants.difference_share, 5),
        mean_ability=round(float(reference_abilities.mean()), 6),
        broad_weight=broad_weight,
        temperature=round(constants.temperature, 5),
        slope=round(calibration.slope, 5),
        offset=round(calibration.offset, 5),
        gate_bias=round(constants.gate_bias, 5),
        gate_weight=round(constants.gate_weight, 5),
        gate_mean=round(mean, 6),
        gate_scale=round(scale, 6),
        n_points=n_points,
        fitted_on=tuple(one.name for one in left_out),
        left_out=tuple(left_out),
    )
