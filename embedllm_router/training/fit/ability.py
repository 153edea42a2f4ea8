"""Ability of every LLM, from how often it was right on each data set and from what is known of it besides.

    logit of the share right = μ + set + ability[llm] + own[llm, set] + noise of few answers

Everything is normal, so the posterior has a closed form: a Gaussian process over the cells of LLM and data set
(Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapter 2). Abilities of two LLMs go together by
their covariates (release, size, price, published scores, ...), vendor, vendor and family, and where they are settings
of one LLM. An LLM of few answers is therefore expected where its kin are, and one of many where its answers put it. How
much each kind of kinship says is the marginal likelihood's to tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from embedllm_router._stats import logit
from embedllm_router.artifact.kin import COVARIATES, LLMKind, base_id
from embedllm_router.artifact.manifest import Covariate, KinSpec

__all__ = ["USUAL_SPREADS", "Ability", "Cells", "Spreads", "count_cells", "fit_ability", "kin_spec"]

_MEAN_VARIANCE: Final = 25.0  # of μ: as good as unknown
_PRIOR_SD: Final = 1.0  # of the logarithm of a spread around that of `USUAL_SPREADS`
_ITERATIONS: Final = 30
_CONSTANT: Final = 1e-9
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spreads:
    """Standard deviations in log-odds, all positive.

    Attributes:
        covariates: Of what one standardised covariate adds to ability.
        vendor: Of vendors.
        family: Of families within a vendor.
        base: Of LLMs, whatever their setting.
        llm: Of the settings of one LLM.
        set: Of data sets.
        cell: Of an LLM's own deviation on one data set.
    """

    covariates: float
    vendor: float
    family: float
    base: float
    llm: float
    set: float
    cell: float

    def variances(self) -> Floats:
        """Their squares, float64 (7,), in the order above."""
        sds = (self.covariates, self.vendor, self.family, self.base, self.llm, self.set, self.cell)
        return np.square(np.array(sds, dtype=np.float64))


USUAL_SPREADS: Final = Spreads(covariates=0.1, vendor=0.3, family=0.3, base=0.3, llm=0.4, set=0.9, cell=0.5)
"""Where the fit starts, and what it is pulled to where data say little."""


@dataclass(frozen=True, slots=True)
class Cells:
    """How often each LLM was right on each data set.

    Attributes:
        n: Graded answers, float64 (n_sets, n_llms).
        right: Those that were right, of the same shape.
    """

    n: Floats
    right: Floats


def count_cells(labels: NDArray[np.generic], observed: NDArray[np.bool_], sets: NDArray[np.int64]) -> Cells:
    """Counts answers by data set.

    Args:
        labels: (n_prompts, n_llms), 0 or 1.
        observed: bool (n_prompts, n_llms).
        sets: Number of each prompt's data set, int64 (n_prompts,), from 0.
    """
    shape = (int(sets.max()) + 1, observed.shape[1])
    n, right = np.zeros(shape), np.zeros(shape)
    for number in np.unique(sets):
        mine = sets == number
        n[number] = observed[mine].sum(axis=0)
        right[number] = (labels[mine] * observed[mine]).sum(axis=0, dtype=np.float64)
    return Cells(n, right)


@dataclass(frozen=True, slots=True)
class Ability:
    """What is known of the abilities of LLMs.

    Attributes:
        mean: Posterior mean of μ + ability, float64 (n_llms,): the log-odds of a right answer on an average data set.
        sd: Its standard deviation, float64 (n_llms,).
        sets: Posterior mean of each data set's deviation, float64 (n_sets,); 0 for one without answers.
        spreads: How much each kind of kinship says.
        kin: What is expected of an LLM without answers.
    """

    mean: Floats
    sd: Floats
    sets: Floats
    spreads: Spreads
    kin: "AbilityOfKin"

    @property
    def new_set_sd(self) -> Floats:
        """Standard deviation of an LLM's log-odds on a data set that nobody has seen, float64 (n_llms,)."""
        sd: Floats = np.sqrt(self.sd**2 + self.spreads.set**2 + self.spreads.cell**2)
        return sd


@dataclass(frozen=True, slots=True)
class AbilityOfKin:
    """What is expected of the ability of an LLM that nobody graded; see `artifact.manifest.KinSpec`.

    Attributes:
        base: Of an LLM of which nothing is known.
        covariates: What figures about it add.
        vendors: By vendor, what its LLMs add, and the standard deviation of the ability of a new one.
        families: By "vendor|family", what both add, likewise.
        unknown_vendor_sd: The standard deviation for a vendor that is not among them.
    """

    base: float
    covariates: tuple[Covariate, ...]
    vendors: dict[str, tuple[float, float]]
    families: dict[str, tuple[float, float]]
    unknown_vendor_sd: float


def fit_ability(
    cells: Cells, llm_ids: Sequence[str], kinds: Sequence[LLMKind], spreads: Spreads | None = None
) -> Ability:
    """Fits abilities.

    Args:
        cells: At least one answer.
        llm_ids: Of the columns.
        kinds: What is known of each LLM besides.
        spreads: Taken as they are; None fits them.

    Returns:
        The posterior of all LLMs, those without answers included.
    """
    kinship = _Kinship.of(llm_ids, kinds)
    answers = _Answers.of(cells, kinship)
    found = spreads or _fitted(answers)
    return _posterior(answers, kinship, found, cells.n.shape[0])


@dataclass(frozen=True, slots=True)
class _Kinship:
    """Who goes together; labels of the same group are equal."""

    covariates: Floats  # standardised, (n_llms, n_covariates)
    mean: Floats
    scale: Floats
    groups: tuple[NDArray[np.str_], ...]  # vendor, vendor|family, base id and id of each LLM

    @classmethod
    def of(cls, llm_ids: Sequence[str], kinds: Sequence[LLMKind]) -> "_Kinship":
        figures = [kind.figures() for kind in kinds]
        x = np.array([[one[name] for name in COVARIATES] for one in figures], dtype=np.float64)
        mean, scale = x.mean(axis=0), x.std(axis=0)
        scale = np.where(scale > _CONSTANT, scale, np.inf)  # what is the same of all says nothing of anyone
        vendors = [kind.vendor for kind in kinds]
        families = [_family(kind) for kind in kinds]
        names = (vendors, families, [base_id(llm) for llm in llm_ids], list(llm_ids))
        return cls((x - mean) / scale, mean, scale, tuple(np.array(group) for group in names))

    def between(self, llms: NDArray[np.intp], others: NDArray[np.intp], variances: Floats) -> Floats:
        """Covariance of the abilities of some LLMs with those of others."""
        x = self.covariates
        total: Floats = _MEAN_VARIANCE + variances[0] * (x[llms] @ x[others].T)
        for variance, group in zip(variances[1:5], self.groups, strict=True):
            total += variance * (group[llms][:, None] == group[others][None])
        return total


def _family(kind: LLMKind) -> str:
    return f"{kind.vendor}|{kind.family}"


@dataclass(frozen=True, slots=True)
class _Answers:
    """The cells that have answers, one row each."""

    sets: NDArray[np.intp]
    llms: NDArray[np.intp]
    y: Floats
    noise: Floats
    kernels: tuple[NDArray[np.generic], ...]  # of the seven spreads, each (n_cells, n_cells), at variance 1

    @classmethod
    def of(cls, cells: Cells, kinship: _Kinship) -> "_Answers":
        sets, llms = np.nonzero(cells.n)
        n, right = cells.n[sets, llms], cells.right[sets, llms]
        share = (right + 1) / (n + 2)
        x = kinship.covariates[llms]
        same = [group[llms][:, None] == group[llms][None] for group in kinship.groups]
        kernels = (x @ x.T, *same, sets[:, None] == sets[None], np.eye(len(n), dtype=np.bool_))
        return cls(sets, llms, logit((right + 0.5) / (n + 1)), 1 / (n * share * (1 - share)), kernels)

    def covariance(self, variances: Floats) -> Floats:
        total = np.diag(self.noise) + _MEAN_VARIANCE
        for variance, kernel in zip(variances, self.kernels, strict=True):
            total += variance * kernel
        return total


def _fitted(answers: _Answers) -> Spreads:
    """The spreads of highest posterior density: marginal likelihood times a log-normal prior."""
    usual = np.log(USUAL_SPREADS.variances()) / 2
    found = minimize(
        lambda h: _evidence(h, usual, answers), usual, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS}
    )
    return Spreads(*np.exp(found.x).tolist())


def _evidence(log_sds: Floats, usual: Floats, answers: _Answers) -> tuple[float, Floats]:
    """Minus the log posterior density of the spreads' logarithms, up to a constant, and its gradient."""
    variances = np.exp(2 * log_sds)
    factor = cho_factor(answers.covariance(variances), lower=True, overwrite_a=True)
    alpha = cho_solve(factor, answers.y)
    prior = (log_sds - usual) / _PRIOR_SD**2
    value = 0.5 * answers.y @ alpha + np.log(np.diag(factor[0])).sum() + 0.5 * prior @ (log_sds - usual)
    spare = cho_solve(factor, np.eye(len(alpha)), overwrite_b=True) - np.outer(alpha, alpha)
    slopes = [
        variance * float((spare * kernel).sum()) for variance, kernel in zip(variances, answers.kernels, strict=True)
    ]
    return float(value), np.array(slopes) + prior


def _posterior(answers: _Answers, kinship: _Kinship, spreads: Spreads, n_sets: int) -> Ability:
    variances = spreads.variances()
    factor = cho_factor(answers.covariance(variances), lower=True)
    alpha = cho_solve(factor, answers.y)
    everyone = np.arange(len(kinship.covariates))
    with_cells = kinship.between(everyone, answers.llms, variances)
    own = np.array([kinship.between(one, one, variances)[0, 0] for one in everyone[:, None]])
    spare = own - np.einsum("ij,ji->i", with_cells, cho_solve(factor, with_cells.T))
    return Ability(
        mean=with_cells @ alpha,
        sd=np.sqrt(np.maximum(spare, _CONSTANT)),
        sets=variances[5] * np.bincount(answers.sets, alpha, minlength=n_sets),
        spreads=spreads,
        kin=_of_kin(answers, kinship, variances, factor, alpha),
    )


def _of_kin(
    answers: _Answers, kinship: _Kinship, variances: Floats, factor: tuple[Floats, bool], alpha: Floats
) -> AbilityOfKin:
    """What the posterior says of a new LLM: covariates at their means, its family, base and itself new or not."""
    newcomer = _MEAN_VARIANCE + float(variances[1:5].sum())

    def new_sd(with_cells: Floats) -> float:
        return float(np.sqrt(max(newcomer - with_cells @ cho_solve(factor, with_cells), _CONSTANT)))

    vendor, family = (group[answers.llms] for group in kinship.groups[:2])
    vendors, families = {}, {}
    for name in np.unique(kinship.groups[0]).tolist():
        shared = variances[1] * (vendor == name)
        vendors[name] = (float(shared @ alpha), new_sd(_MEAN_VARIANCE + shared))
    for name in np.unique(kinship.groups[1]).tolist():
        shared = variances[1] * (vendor == name.partition("|")[0]) + variances[2] * (family == name)
        families[name] = (float(shared @ alpha), new_sd(_MEAN_VARIANCE + shared))
    weights = variances[0] * (alpha @ kinship.covariates[answers.llms])
    told = np.flatnonzero(np.isfinite(kinship.scale))
    return AbilityOfKin(
        base=_MEAN_VARIANCE * float(alpha.sum()),
        covariates=tuple(
            Covariate(
                name=COVARIATES[i], mean=float(kinship.mean[i]), scale=float(kinship.scale[i]), weight=float(weights[i])
            )
            for i in told
        ),
        vendors=vendors,
        families=families,
        unknown_vendor_sd=new_sd(np.full(len(alpha), _MEAN_VARIANCE)),
    )


def kin_spec(kin: AbilityOfKin, features: Sequence[str]) -> KinSpec:
    """The same as the manifest holds it, rounded.

    Args:
        kin: What is expected.
        features: What embeddings are expected from; see `artifact.kin.FEATURES`.
    """

    def rounded(named: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        return {name: (round(offset, 4), round(sd, 4)) for name, (offset, sd) in named.items()}

    return KinSpec(
        base_ability=round(kin.base, 4),
        covariates=tuple(
            Covariate(name=c.name, mean=round(c.mean, 5), scale=round(c.scale, 5), weight=round(c.weight, 5))
            for c in kin.covariates
        ),
        vendors=rounded(kin.vendors),
        families=rounded(kin.families),
        unknown_vendor=(0.0, round(kin.unknown_vendor_sd, 4)),
        features=tuple(features),
    )
