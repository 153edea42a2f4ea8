"""LLMs that nobody graded: what is expected of them, by what they are called and what they cost.

Weights may say what an LLM's vendor, family, date, price and size tell of it (`Manifest.kin`); then

    ability    = base + Σ weight · (figure - mean) / scale + what its family, else its vendor, adds
    embeddings = features · kin_embeddings

with the figures and features of `artifact.kin`. For weights that do not say it, the same is estimated from the LLMs
they know, by a ridge regression of mean logits on the figures with a normal effect of each vendor (the best linear
unbiased prediction of Henderson, 1975); and a later version counts as no worse than the best earlier one of its
family and class of price. Its embedding is then the mean of those of its closest relatives that reason as it does or
does not, and its bias such that its mean logit is its ability.

An LLM that is told to be like a learned one has that one's row and is less sure.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from embedllm_router._stats import sigmoid
from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.kin import LLMKind, family_of, is_small, years_of
from embedllm_router.artifact.manifest import Covariate, KinSpec, LearnedLLM
from embedllm_router.artifact.names import LLMName, aliases_of
from embedllm_router.artifact.published import AbilityEstimate, ability_by_scores
from embedllm_router.artifact.weights import Artifact
from embedllm_router.prediction.linear_decoder import LinearDecoder
from embedllm_router.prediction.scorer import usual_embeddings
from embedllm_router.routing.deployments import ModelGroup, by_candidate
from embedllm_router.routing.router import Router

__all__ = ["Expected", "Relatives", "expect_ungraded", "expected_of_group"]

KnownBy = Literal["published", "family"]
Rows = Mapping[str, NDArray[np.floating]]

_TOKENS_PER_MTOK: Final = 1e6
_N_USUAL: Final = 256
_FIGURE_SD: Final = 0.3
_OWN_SD: Final = 0.5
_VENDOR_SD: Final = 0.25
"""In logits: of a standardised figure's weight, of an LLM beyond figures and vendor, and of a vendor."""
_FAR_DEARER: Final = 10.0
_TOKENS_AT: Final = {
    "minimal": 0.2,
    "low": 0.3,
    "medium": 0.55,
    None: 0.55,
    "high": 1.0,
    "thinking": 1.0,
    "xhigh": 3.0,
    "max": 3.0,
}
"""Output tokens with those of reasoning, at an effort against high: where an LLM was learned at another effort.

Published usage of four LLMs on 100 general prompts has low at 0.3 and xhigh at 3.0; those beside are placed evenly.
None is an LLM that reasons unless told otherwise, which is at medium effort.
"""
_LOGIT_PER_LOG_TOKENS: Final = 0.35
"""What a mean logit gains when an answer grows e-fold by reasoning.

The median over the 34 pairs of variants, without and with reasoning, that the shipped weights know; a half of them lie
between 0.29 and 0.51. From high effort on their p_correct is as good as level.
"""
_LIKE_SD: Final = 0.5
"""In logits: how far an LLM is off that somebody said to be like another."""


@dataclass(frozen=True, slots=True)
class Expected:
    """An LLM as it is expected to be.

    Attributes:
        llm: What a manifest would say of it.
        rows: Its row of every tensor that has one row per LLM.
        sd: Standard deviation of its mean logit.
        ability: Its mean logit, as far as it is known; None of one that was said to be like another.
    """

    llm: LearnedLLM
    rows: Rows
    sd: float
    ability: AbilityEstimate | None = None


class Relatives:
    """The learned LLMs as relatives of those that nobody graded.

    Args:
        artifact: Loaded weights.
        catalog: Its LLMs by name.
    """

    def __init__(self, artifact: Artifact, catalog: Catalog) -> None:
        self._artifact, self._catalog = artifact, catalog
        self._kinds = [_kind_of_learned(llm, name) for llm, name in zip(catalog.llms, catalog.names, strict=True)]
        self._decoder = LinearDecoder(artifact)
        self._mean_logits = self._decoder.rows @ _usual_columns(artifact, self._decoder)
        self._kin = artifact.manifest.kin or self._estimated()

    def expect(
        self,
        llm_id: str,
        name: LLMName,
        *,
        thinking: bool,
        output_usd_per_token: float | None,
        scores: Mapping[str, float] | None = None,
    ) -> Expected:
        """What is expected of an LLM.

        Args:
            llm_id: What it is called.
            name: What its name says.
            thinking: Whether it reasons before it answers.
            output_usd_per_token: Its price; None when unknown.
            scores: Published ones by benchmark, in [0, 1]; needs weights that say what benchmarks measure.

        Raises:
            ConfigError: A score is not a share, or its benchmark unknown.
        """
        price = None if output_usd_per_token is None else output_usd_per_token * _TOKENS_PER_MTOK
        kind = LLMKind(
            vendor=self._vendor(name),
            family=self._family(name),
            thinking=thinking,
            small=is_small(name.id),
            released=self._released(name),
            size_b=name.size_b,
            output_usd_per_mtok=price,
        )
        ability, sd = _ability(self._kin, kind)
        if self._artifact.manifest.kin is None:
            ability = max([ability, *self._mean_logits[self._earlier(name, kind)].tolist()])
        known = AbilityEstimate(ability, sd)
        published = self._artifact.manifest.published
        if scores and published is not None:
            known = known.combined(ability_by_scores(published, scores, years_of(kind.released)))
        llm = _as_learned(llm_id, kind, known, "published" if scores else "family")
        return Expected(llm, self._rows(kind, known.mean, known.sd), known.sd, known)

    def like(self, stand_in: str, llm_id: str) -> Expected:
        """What is expected of an LLM that is said to be like a learned one.

        Args:
            stand_in: Id of the learned one.
            llm_id: What it is called itself.
        """
        row = self._catalog.row(stand_in)
        rows = {name: tensor[row : row + 1] for name, tensor in _per_llm(self._artifact).items()}
        sd = _LIKE_SD
        if "ability_sd" in rows:
            sd = float(np.hypot(sd, rows["ability_sd"][0]))
            rows = {**rows, "ability_sd": np.array([sd], dtype=np.float32)}
        known = self._catalog.llms[row]
        worth = _answers_worth(sd, known.mean_correctness)
        return Expected(known.model_copy(update={"id": llm_id, "known_by": "family", "n_labels": worth}), rows, sd)

    def told(self, expected: Expected, log_tokens: float) -> Expected:
        """What is expected of an LLM that is told to reason more or less than it is known to.

        Args:
            expected: The LLM as it is known.
            log_tokens: Log of how many times as long its answers are, reasoning included. Shorter ones cost p_correct;
                longer ones are not counted on to gain any.
        """
        rows = dict(expected.rows)
        lost = self._decoder.tensors(min(_LOGIT_PER_LOG_TOKENS * log_tokens, 0.0) * self._decoder.constant[None])
        for name, its in {**lost, "length_bias": np.array([log_tokens])}.items():
            rows[name] = rows[name] + its
        return replace(expected, rows=rows)

    def _rows(self, kind: LLMKind, ability: float, sd: float) -> Rows:
        alike = self._alike(kind)
        rows = {name: its[alike].mean(axis=0, keepdims=True) for name, its in _per_llm(self._artifact).items()}
        if self._artifact.manifest.kin is None:
            lacking = ability - float(self._mean_logits[alike].mean())
            for name, its in self._decoder.tensors(lacking * self._decoder.constant[None]).items():
                rows[name] = rows[name] + its
            return rows if "ability_sd" not in rows else {**rows, "ability_sd": np.array([sd])}
        features, tensors = np.array(kind.features(ability, self._kin.features)), self._artifact.decoder
        return {
            **rows,
            "llm_embeddings": features[None] @ tensors["kin_embeddings"],
            "broad_embeddings": features[None] @ tensors["kin_broad_embeddings"],
            "llm_bias": np.array([ability]),
            "broad_bias": np.zeros(1),
            "ability": np.array([ability]),
            "ability_sd": np.array([sd]),
        }

    def _alike(self, kind: LLMKind) -> NDArray[np.intp]:
        """Rows of learned LLMs that reason or not as it does: of its family, else of its vendor, else of all."""
        of_kind = [row for row, one in enumerate(self._kinds) if one.thinking == kind.thinking]
        of_vendor = [row for row in of_kind if self._kinds[row].vendor == kind.vendor]
        of_family = [row for row in of_vendor if self._kinds[row].family == kind.family]
        return np.array(of_family or of_vendor or of_kind or range(len(self._kinds)), dtype=np.intp)

    def _earlier(self, name: LLMName, kind: LLMKind) -> list[int]:
        """Rows of earlier versions in its family that reason or not as it does and are not far dearer."""
        price = kind.output_usd_per_mtok
        return [
            row
            for row, (one, its) in enumerate(zip(self._catalog.names, self._kinds, strict=True))
            if (one.vendor, one.family, its.thinking) == (name.vendor, name.family, kind.thinking)
            and () != one.version < name.version
            and (price is None or (its.output_usd_per_mtok or 0.0) <= _FAR_DEARER * price)
        ]

    def _vendor(self, name: LLMName) -> str:
        """The weights' own word for a vendor."""
        said = [self._kinds[row].vendor for row, one in enumerate(self._catalog.names) if one.vendor == name.vendor]
        return _commonest(said) or name.vendor or "unknown"

    def _family(self, name: LLMName) -> str:
        """The weights' own word for a family."""
        same = (
            self._kinds[row].family
            for row, one in enumerate(self._catalog.names)
            if (one.vendor, one.family) == (name.vendor, name.family)
        )
        return _commonest(same) or family_of(name.id)

    def _released(self, name: LLMName) -> str | None:
        """Month of release; where nothing says it, that of its family's newest LLM of no higher version."""
        stated = _month_of(name)
        if stated is not None or not name.version:
            return stated
        older = [
            (one.version, released)
            for row, one in enumerate(self._catalog.names)
            if (one.vendor, one.family) == (name.vendor, name.family) and one.version and one.version <= name.version
            if (released := self._kinds[row].released) is not None
        ]
        return max(older)[1] if older else None

    def _estimated(self) -> KinSpec:
        """What figures and vendors tell of the learned LLMs' mean logits."""
        logits = self._mean_logits
        figures = [kind.figures() for kind in self._kinds]
        names = tuple(figures[0])
        table = np.array([[one[name] for name in names] for one in figures], dtype=np.float64)
        mean, scale = table.mean(axis=0), np.where(table.std(axis=0) > 0, table.std(axis=0), 1.0)
        standard, base = (table - mean) / scale, float(logits.mean())
        of_vendor = np.array([kind.vendor for kind in self._kinds])
        same = (of_vendor[:, None] == of_vendor).astype(np.float64)
        covariance = _FIGURE_SD**2 * standard @ standard.T + _VENDOR_SD**2 * same + _OWN_SD**2 * np.eye(len(table))
        solved = np.linalg.solve(covariance, logits - base)
        weights = _FIGURE_SD**2 * standard.T @ solved
        vendors = {}
        for vendor in np.unique(of_vendor):
            is_its = of_vendor == vendor
            left = _VENDOR_SD**2 / (1 + is_its.sum() * _VENDOR_SD**2 / _OWN_SD**2)  # of the vendor's variance
            vendors[str(vendor)] = (float(_VENDOR_SD**2 * solved[is_its].sum()), float(np.hypot(_OWN_SD, left**0.5)))
        covariates = tuple(
            Covariate(name=name, mean=float(m), scale=float(s), weight=float(w))
            for name, m, s, w in zip(names, mean, scale, weights, strict=True)
        )
        return KinSpec(
            base_ability=base,
            covariates=covariates,
            vendors=vendors,
            families={},
            unknown_vendor=(0.0, float(np.hypot(_OWN_SD, _VENDOR_SD))),
            features=("one",),
        )


def expect_ungraded(groups: Mapping[str, ModelGroup], router: Router) -> tuple[dict[str, ModelGroup], Router]:
    """Gives the LLMs that the weights do not know the rows that are expected of them.

    A group of several LLMs is predicted as the worst of them on usual prompts, since LiteLLM may ask any.

    Args:
        groups: Model groups as the router's catalog knows them.
        router: Loaded weights.

    Returns:
        The groups, and the weights with a row more for each such LLM.
    """
    every = {**groups, **by_candidate(groups)}
    alone = {(name, i): member for name, group in every.items() for i, member in enumerate(group.members)}
    placed, extended = _placed({**{(name, -1): group for name, group in every.items()}, **alone}, router)
    found = {name: placed[name, -1] for name in every}
    for name, group in every.items():
        if group.members:
            members = [placed[name, i] for i in range(len(group.members))]
            found[name] = _as_the_worst(found[name], members, extended.average.p_correct)
    at = {name: tuple(found[one.candidate.name] for one in group.at_efforts) for name, group in groups.items()}
    return {name: replace(found[name], at_efforts=at[name]) for name in groups}, extended


Key = tuple[str, int]


def _placed(groups: Mapping[Key, ModelGroup], router: Router) -> tuple[dict[Key, ModelGroup], Router]:
    strangers = {key: group for key, group in groups.items() if group.is_expected}
    if not strangers:
        return dict(groups), router
    relatives, expected = Relatives(router.artifact, router.catalog), dict[str, Expected]()
    for group in strangers.values():
        llm = group.candidate.llm
        assert llm is not None
        if llm not in expected:
            expected[llm] = expected_of_group(group, llm, relatives, router.catalog)
    rows = {llm: len(router.catalog.ids) + i for i, llm in enumerate(expected)}
    placed = {
        key: replace(group, candidate=replace(group.candidate, row=rows[group.candidate.llm or ""]))
        for key, group in strangers.items()
    }
    per_llm = list(expected.values())
    tensors = {name: np.concatenate([one.rows[name] for one in per_llm]) for name in per_llm[0].rows}
    return {**groups, **placed}, router.extended([one.llm for one in per_llm], tensors)


def _as_the_worst(group: ModelGroup, members: Sequence[ModelGroup], usual_p_correct: NDArray[np.float64]) -> ModelGroup:
    """A group of several LLMs, predicted as the one that is right least often on usual prompts."""
    known = [one.candidate for one in members if one.candidate.row is not None]
    worst = min(known, key=lambda one: float(usual_p_correct[one.row or 0]))
    candidate = replace(group.candidate, llm=worst.llm, row=worst.row, known_by=worst.known_by)
    return replace(group, candidate=candidate, members=tuple(members))


def expected_of_group(group: ModelGroup, llm: str, relatives: Relatives, catalog: Catalog) -> Expected:
    """What is expected of the LLM behind a model group that the weights do not know.

    Args:
        group: Of which something is expected; see `ModelGroup.is_expected`.
        llm: What its LLM is called.
        relatives: The learned LLMs.
        catalog: They by name.
    """
    effort = group.candidate.effort
    stand_in = group.like if effort else catalog.match(group.like, group.effort).llm if group.like else None
    if stand_in is not None:
        known, known_at = relatives.like(stand_in, llm), catalog.names[catalog.row(stand_in)].effort
    else:
        read, price, known_at = group.read, group.candidate.output_usd_per_token, None
        assert read is not None
        known = relatives.expect(llm, read, thinking=group.thinks, output_usd_per_token=price)
    if effort is None or effort == "none":
        return known
    return relatives.told(known, float(np.log(_TOKENS_AT[effort] / _TOKENS_AT[known_at])))


def _ability(kin: KinSpec, kind: LLMKind) -> tuple[float, float]:
    """Expected mean logit and its standard deviation."""
    figures = kind.figures()
    told = sum(one.weight * (figures.get(one.name, 0.0) - one.mean) / one.scale for one in kin.covariates)
    of_family = kin.families.get(f"{kind.vendor}|{kind.family}")
    offset, sd = of_family or kin.vendors.get(kind.vendor) or kin.unknown_vendor
    return kin.base_ability + told + offset, sd


def _as_learned(llm_id: str, kind: LLMKind, known: AbilityEstimate, known_by: KnownBy) -> LearnedLLM:
    p_correct = float(sigmoid(np.array([known.mean]))[0])
    return LearnedLLM(
        id=llm_id,
        vendor=kind.vendor,
        thinking=kind.thinking,
        n_labels=_answers_worth(known.sd, p_correct),
        mean_correctness=p_correct,
        output_usd_per_mtok=kind.output_usd_per_mtok,
        known_by=known_by,
        family=kind.family,
        released=kind.released,
        size_b=kind.size_b,
    )


def _answers_worth(sd: float, p_correct: float) -> int:
    """How many answers would tell as much of an LLM as a standard deviation does; see `exploration.logit_spread`."""
    return max(round((1 / sd**2 - 1) / max(p_correct * (1 - p_correct), 0.05)), 1)


def _kind_of_learned(llm: LearnedLLM, name: LLMName) -> LLMKind:
    return LLMKind(
        vendor=llm.vendor,
        family=llm.family or family_of(llm.id),
        thinking=llm.thinking,
        small=is_small(llm.id),
        released=llm.released or _month_of(name),
        size_b=llm.size_b or name.size_b,
        output_usd_per_mtok=llm.output_usd_per_mtok,
    )


def _month_of(name: LLMName) -> str | None:
    if name.released is not None:
        return name.released
    stood_for = () if name.release else aliases_of(name.id.partition(":")[0])
    return stood_for[-1].since[:7] if stood_for else None


def _usual_columns(artifact: Artifact, decoder: LinearDecoder) -> NDArray[np.float64]:
    """What an LLM's row is multiplied by for a usual prompt, on average, (width,)."""
    usual = list(usual_embeddings(artifact.decoder, _N_USUAL))
    mean: NDArray[np.float64] = decoder.columns([*usual]).mean(axis=0, dtype=np.float64)
    return mean


def _per_llm(artifact: Artifact) -> Rows:
    """The tensors that have one row per LLM."""
    names = ("llm_embeddings", "llm_bias", "length_embeddings", "length_bias", "broad_embeddings", "broad_bias")
    tensors = artifact.decoder
    return {name: tensors[name].astype(np.float32) for name in (*names, "ability", "ability_sd") if name in tensors}


def _commonest(words: Iterable[str]) -> str | None:
    counted = Counter(words).most_common(1)
    return counted[0][0] if counted else None
