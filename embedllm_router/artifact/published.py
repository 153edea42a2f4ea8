"""What published benchmark scores say of the ability of an LLM.

Scores show an LLM's ability through benchmarks, each with its own difficulty, spread and way of asking:

    published ability     = ability + deviation                      deviation ~ N(drift · (released - usual), sd²)
    logit of a score on b = offset_b + loading_b · published ability + noise, noise ~ N(0, sd_b²)

The deviation is one per LLM: what all scores say too much or too little at once, for vendors choose how they ask, and
benchmarks ask other things than users do. Ten scores therefore tell less than ten times what one tells. It drifts with
the date of release, since later LLMs are made for later benchmarks. All is normal,
so what scores say comes to one measurement of ability, and with a normal expectation to a normal posterior (Gelman et
al., Bayesian Data Analysis, 3rd edition, section 2.5). Training learns the constants (`training.fit.benchmarks`).
"""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from embedllm_router._stats import logit
from embedllm_router.artifact.manifest import PublishedSpec
from embedllm_router.errors import ConfigError

__all__ = ["SCORE_BOUNDS", "AbilityEstimate", "ability_by_scores", "read_scores"]

SCORE_BOUNDS: Final = (0.02, 0.98)
"""Scores beyond these count as these: a benchmark that an LLM has solved does not say by how much."""
_NEAREST: Final = 3
_PERCENT: Final = 100
_SCORE: Final = re.compile(r"\s*([^\s=]+)\s*=\s*(-?\d*\.?\d+)\s*")


@dataclass(frozen=True, slots=True)
class AbilityEstimate:
    """An ability as far as it is known, normal.

    Attributes:
        mean: In log-odds.
        sd: Standard deviation, positive; infinite where nothing is known.
    """

    mean: float
    sd: float

    def combined(self, other: "AbilityEstimate") -> "AbilityEstimate":
        """What both say together, the errors of each being its own."""
        precision, of_other = self.sd**-2, other.sd**-2
        total = precision + of_other
        return AbilityEstimate((precision * self.mean + of_other * other.mean) / total, total**-0.5)


def ability_by_scores(
    published: PublishedSpec, scores: Mapping[str, float], released: float | None = None
) -> AbilityEstimate:
    """What scores alone say of an ability.

    Args:
        published: What benchmarks measure.
        scores: By benchmark, in [0, 1]; at least one.
        released: Years since the beginning of 2025; None when unknown, which leaves the LLM's drift to chance.

    Raises:
        ConfigError: A benchmark is not among those learned, or a score is not a share.
    """
    known = {one.name: one for one in published.benchmarks}
    precision = weighted = 0.0
    for name, score in scores.items():
        if name not in known:
            raise ConfigError(_unknown(name, tuple(known)))
        _check_share(name, score)
        one = known[name]
        y = float(logit(np.clip(np.array([score]), *SCORE_BOUNDS))[0])
        precision += (one.loading / one.sd) ** 2
        weighted += one.loading / one.sd**2 * (y - one.offset)
    if not precision:
        return AbilityEstimate(0.0, math.inf)
    drift, of_release = 0.0, published.drift * published.release_sd
    if released is not None:
        drift, of_release = published.drift * (released - published.usual_release), 0.0
    return AbilityEstimate(weighted / precision - drift, math.hypot(precision**-0.5, published.sd, of_release))


def read_scores(text: str | None) -> dict[str, float]:
    """Scores by benchmark, from "mmlu_pro=0.84,gpqa_diamond=0.78"; none from None.

    Raises:
        ConfigError: It is not of this form.
    """
    scores: dict[str, float] = {}
    for part in text.split(",") if text is not None else ():
        found = _SCORE.fullmatch(part)
        if found is None or found[1] in scores:
            raise ConfigError(
                f"--scores has {part.strip()!r}, expected BENCHMARK=SCORE such as mmlu_pro=0.84, joined by commas, "
                "each benchmark once."
            )
        scores[found[1]] = float(found[2])
    return scores


def _unknown(name: str, known: tuple[str, ...]) -> str:
    alike = difflib.get_close_matches(name, known, n=_NEAREST, cutoff=0.0)
    return (
        f"the weights know no benchmark {name!r}; of the {len(known)} they know, the nearest are {', '.join(alike)}. "
        "Leave the score out if it is none of them."
    )


def _check_share(name: str, score: float) -> None:
    if not 0 <= score <= 1:
        percent = 1 < score <= _PERCENT
        remedy = f"write {name}={score / _PERCENT:g} if it is in percent" if percent else "leave it out"
        raise ConfigError(f"the score {name}={score:g} is not in [0, 1]; {remedy}.")
