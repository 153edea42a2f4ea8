"""The decision is utility, nothing else, and it holds for any numbers."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedllm_router.prediction.scorer import Scores
from embedllm_router.routing.policy import Conditions, Objective, Observed, Reason, Request, rank_candidates
from embedllm_router.routing.pool import Candidate, CandidatePool, Capability, Exclusion, PriceTier, Rules

_p = st.floats(0, 1, width=32)
_tokens = st.floats(1, 1e5, width=32)
_price = st.floats(0, 1e-3)
_instance = st.lists(st.tuples(_p, _tokens, _price, _price), min_size=1, max_size=12)


def scores(rows: list[tuple[float, float, float, float]]) -> Scores:
    return Scores(
        p_correct=np.array([r[0] for r in rows], dtype=np.float32),
        output_tokens=np.array([r[1] for r in rows], dtype=np.float32),
    )


def pool(rows: list[tuple[float, float, float, float]], **limits: Any) -> CandidatePool:
    return CandidatePool([Candidate(f"c{i}", f"llm{i}", i, r[2], r[3], **limits) for i, r in enumerate(rows)])


def naive_ranking(rows: list[tuple[float, float, float, float]], request: Request) -> list[int]:
    """The policy again, one candidate at a time."""
    keyed = []
    for i, (p, tokens, price_in, price_out) in enumerate(rows):
        if request.max_output_tokens is not None:
            tokens = min(tokens, request.max_output_tokens)  # noqa: PLW2901 - as the formula reads
        cost = request.input_tokens * price_in + tokens * price_out
        keyed.append((-(p - request.objective.cost_weight * cost), cost, i))
    return [i for _, _, i in sorted(keyed)]


@given(rows=_instance, weight=st.floats(0, 1e4), n=st.integers(0, 10**6), cap=st.none() | st.integers(1, 10**5))
def test_ranking_is_the_naive_ranking(
    rows: list[tuple[float, float, float, float]], weight: float, n: int, cap: int | None
) -> None:
    request = Request(Objective(weight), n, cap)
    assert list(rank_candidates(pool(rows), scores(rows), request).ranking) == naive_ranking(rows, request)


@given(rows=_instance, low=st.floats(0, 1e3), more=st.floats(0, 1e4))
def test_raising_the_cost_weight_never_raises_expected_cost(
    rows: list[tuple[float, float, float, float]], low: float, more: float
) -> None:
    spent = []
    for weight in (low, low + more):
        decision = rank_candidates(pool(rows), scores(rows), Request(Objective(weight), 1000))
        spent.append(decision.cost_usd[decision.ranking[0]])
    assert spent[1] <= spent[0] or math.isclose(spent[1], spent[0], rel_tol=1e-9, abs_tol=1e-15)


def test_ties_go_to_the_cheaper_then_to_the_first() -> None:
    rows = [(0.5, 10.0, 0.0, 2e-6), (0.5, 10.0, 0.0, 1e-6), (0.5, 10.0, 0.0, 1e-6)]
    assert rank_candidates(pool(rows), scores(rows), Request(Objective(0.0), 0)).ranking == (1, 2, 0)


def test_without_cost_weight_the_likeliest_wins_at_any_price() -> None:
    rows = [(0.90, 10.0, 0.0, 0.0), (0.91, 1e5, 1e-3, 1e-3)]
    chosen = rank_candidates(pool(rows), scores(rows), Request(Objective(0.0), 100)).chosen
    assert chosen is not None
    assert chosen.name == "c1"


def test_an_unknown_price_is_excluded_and_never_free() -> None:
    rows = [(0.5, 10.0, 1e-6, 1e-6), (0.9, 10.0, 0.0, 0.0)]
    unpriced = Candidate("c1", "llm1", 1, None, None)
    decision = rank_candidates(
        CandidatePool([pool(rows).candidates[0], unpriced]), scores(rows), Request(Objective(0.0), 10)
    )
    assert decision.ranking == (0,)
    assessed = decision.assess(1)
    assert (assessed.excluded, assessed.cost_usd, assessed.utility) == (Exclusion.PRICE_UNKNOWN, None, None)
    assert assessed.p_correct == pytest.approx(0.9)


def test_half_a_price_is_unknown() -> None:
    assert Candidate("c", "l", 0, 1e-6, None).standing_exclusion is Exclusion.PRICE_UNKNOWN


def test_a_price_of_zero_is_known() -> None:
    assert Candidate("c", "l", 0, 0.0, 0.0).standing_exclusion is None


def test_an_unknown_llm_is_excluded_and_has_no_figures() -> None:
    rows = [(0.5, 10.0, 1e-6, 1e-6)]
    stranger = Candidate("stranger", None, None, 1e-6, 1e-6)
    decision = rank_candidates(
        CandidatePool([stranger, *pool(rows).candidates]), scores(rows), Request(Objective(0.0), 10)
    )
    assert decision.assess(0).excluded is Exclusion.LLM_UNKNOWN
    assert decision.assess(0).p_correct is None
    assert decision.ranking == (1,)


def test_a_request_beyond_the_context_window_excludes() -> None:
    rows = [(0.9, 10.0, 0.0, 0.0)]
    assert rank_candidates(pool(rows, max_input_tokens=100), scores(rows), Request(Objective(0.0), 100)).ranking == (0,)
    decision = rank_candidates(pool(rows, max_input_tokens=100), scores(rows), Request(Objective(0.0), 101))
    assert decision.ranking == ()
    assert decision.excluded == (Exclusion.CONTEXT_WINDOW,)
    assert decision.chosen is None


def test_only_keeps_what_the_client_allows() -> None:
    rows = [(0.9, 10.0, 0.0, 0.0), (0.5, 10.0, 0.0, 0.0)]
    decision = rank_candidates(
        pool(rows), scores(rows), Request(Objective(0.0), 1, conditions=Conditions(only=frozenset({"c1"})))
    )
    assert decision.ranking == (1,)
    assert decision.excluded[0] is Exclusion.NOT_REQUESTED


def test_fallbacks_are_the_next_best_in_order() -> None:
    rows = [(0.5, 10.0, 0.0, 0.0), (0.9, 10.0, 0.0, 0.0), (0.7, 10.0, 0.0, 0.0)]
    decision = rank_candidates(pool(rows), scores(rows), Request(Objective(0.0), 1))
    assert decision.fallbacks(2) == ["c2", "c0"]
    assert decision.fallbacks(0) == []
    assert decision.runner_up is not None
    assert decision.runner_up.name == "c2"


@given(rows=_instance, seed=st.integers(0, 100))
def test_the_order_of_the_catalog_does_not_matter(rows: list[tuple[float, float, float, float]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    straight = pool(rows)
    shuffled = CandidatePool([Candidate(c.name, c.llm, int(np.argwhere(order == i)[0, 0]), *rows[i][2:])
                              for i, c in enumerate(straight.candidates)])  # fmt: skip
    moved = scores([rows[i] for i in order])
    assert (
        rank_candidates(straight, scores(rows), Request(Objective(3.0), 9)).ranking
        == rank_candidates(shuffled, moved, Request(Objective(3.0), 9)).ranking
    )


def test_assessments_list_ranked_first_then_excluded() -> None:
    rows = [(0.5, 10.0, 0.0, 0.0), (0.9, 10.0, 0.0, 0.0)]
    candidates = [Candidate("unpriced", "llm0", 0, None, None), *pool(rows).candidates]
    names = [
        a.name
        for a in rank_candidates(CandidatePool(candidates), scores(rows), Request(Objective(0.0), 1)).assessments()
    ]
    assert names == ["c1", "c0", "unpriced"]


FLOORS = st.one_of(
    st.floats(0, 1).map(lambda tau: Objective(min_p_correct=tau)),
    st.floats(0, 1).map(lambda d: Objective(max_accuracy_drop=d)),
)


@given(rows=_instance, objective=FLOORS)
def test_a_floor_takes_the_cheapest_that_reaches_it(
    rows: list[tuple[float, float, float, float]], objective: Objective
) -> None:
    decision = rank_candidates(pool(rows), scores(rows), Request(objective, 1000))
    p, cost = decision.p_correct, decision.cost_usd
    floor = (
        p.max() - objective.max_accuracy_drop if objective.max_accuracy_drop is not None else objective.min_p_correct
    )
    assert floor is not None
    reaching = [i for i in range(len(rows)) if p[i] >= floor]
    assert decision.floor_met is bool(reaching)
    if reaching:
        assert cost[decision.ranking[0]] == min(cost[i] for i in reaching)
        assert set(decision.ranking[: len(reaching)]) == set(reaching), "the next best reach it too"
    else:
        assert p[decision.ranking[0]] == p.max()


@given(rows=_instance, tau=st.floats(0, 1), more=st.floats(0, 1))
def test_raising_the_floor_never_lowers_expected_cost_while_it_is_met(
    rows: list[tuple[float, float, float, float]], tau: float, more: float
) -> None:
    low, high = (
        rank_candidates(pool(rows), scores(rows), Request(Objective(min_p_correct=floor), 1000))
        for floor in (tau, min(tau + more, 1.0))
    )
    if high.floor_met:
        assert high.cost_usd[high.ranking[0]] >= low.cost_usd[low.ranking[0]]


def test_a_limit_on_cost_excludes() -> None:
    rows = [(0.9, 10.0, 0.0, 1e-3), (0.5, 10.0, 0.0, 1e-6)]
    decision = rank_candidates(pool(rows), scores(rows), Request(Objective(max_cost_usd=0.001), 1))
    assert decision.ranking == (1,)
    assert decision.excluded[0] is Exclusion.TOO_EXPENSIVE


@pytest.mark.parametrize("capability", Capability)
def test_a_lack_excludes_only_who_needs_it(capability: Capability) -> None:
    rows = [(0.9, 10.0, 0.0, 0.0)]
    lacking = CandidatePool([Candidate("c0", "llm0", 0, 0.0, 0.0, lacks=frozenset({capability}))])
    assert rank_candidates(lacking, scores(rows), Request(Objective(), 1)).ranking == (0,)
    needing = rank_candidates(lacking, scores(rows), Request(Objective(), 1, needs=frozenset({capability})))
    assert needing.excluded == (Exclusion.lacking(capability),)


def test_the_answer_asked_for_must_fit_too() -> None:
    rows = [(0.9, 10.0, 0.0, 0.0)]
    request = Request(Objective(), 60, max_output_tokens=50)
    assert rank_candidates(pool(rows, max_input_tokens=100), scores(rows), request).excluded == (
        Exclusion.CONTEXT_WINDOW,
    )


def test_reasons() -> None:
    rows = [(0.9, 10.0, 0.0, 1e-4), (0.5, 10.0, 0.0, 1e-6)]
    for objective, reason, chosen in (
        (Objective(0.0), Reason.HIGHEST_UTILITY, "c0"),
        (Objective(min_p_correct=0.4), Reason.CHEAPEST_AT_FLOOR, "c1"),
        (Objective(min_p_correct=0.95), Reason.FLOOR_UNREACHED, "c0"),
        (Objective(max_cost_usd=1e-4), Reason.ONLY_CANDIDATE, "c1"),
    ):
        decision = rank_candidates(pool(rows), scores(rows), Request(objective, 0))
        assert decision.chosen is not None
        assert (decision.reason, decision.chosen.name) == (reason, chosen)


@given(rows=_instance, weight=st.floats(0, 1e3))
def test_the_likeliest_and_the_cheapest_are_what_they_say(
    rows: list[tuple[float, float, float, float]], weight: float
) -> None:
    decision = rank_candidates(pool(rows), scores(rows), Request(Objective(weight), 100))
    assert decision.most_accurate is not None
    assert decision.cheapest is not None
    assert decision.most_accurate.p_correct == max(decision.p_correct)
    assert decision.cheapest.cost_usd == min(decision.cost_usd)


def priced(name: str, **more: object) -> Candidate:
    return Candidate(name, name, 0, 1e-6, 2e-6, **more)  # type: ignore[arg-type]  # fields of a candidate


def cost(candidate: Candidate, input_tokens: int, cached: int = 0) -> float:
    given_cached = Conditions(cached_tokens={candidate.name: cached})
    one = Scores(np.array([0.5], dtype=np.float32), np.array([10.0], dtype=np.float32))
    decision = rank_candidates(
        CandidatePool([candidate]), one, Request(Objective(), input_tokens, conditions=given_cached)
    )
    return float(decision.cost_usd[0])


def test_long_requests_cost_what_their_tier_says() -> None:
    tiers = (PriceTier(128_000, 2e-6, 4e-6), PriceTier(200_000, 3e-6, 6e-6))
    one = priced("tiered", tiers=tiers)
    assert cost(one, 128_000) == pytest.approx(128_000 * 1e-6 + 10 * 2e-6)
    assert cost(one, 128_001) == pytest.approx(128_001 * 2e-6 + 10 * 4e-6)
    assert cost(one, 300_000) == pytest.approx(300_000 * 3e-6 + 10 * 6e-6)


def test_what_is_in_the_prompt_cache_costs_less() -> None:
    one = priced("cached", cached_usd_per_token=1e-7)
    assert cost(one, 1_000, cached=600) == pytest.approx(400 * 1e-6 + 600 * 1e-7 + 10 * 2e-6)
    assert cost(one, 1_000, cached=9_999) == pytest.approx(1_000 * 1e-7 + 10 * 2e-6)
    assert cost(priced("no cache"), 1_000, cached=600) == cost(priced("no cache"), 1_000)


def test_a_price_per_request_is_added() -> None:
    assert cost(priced("per request", usd_per_request=0.01), 0) == pytest.approx(0.01 + 10 * 2e-6)


def test_lengths_seen_while_serving_change_the_forecast() -> None:
    rows = [(0.9, 100.0, 0.0, 1e-6), (0.9, 100.0, 0.0, 1e-6)]
    seen = Observed(np.array([3.0, 0.5]), np.array([np.nan, np.nan]))
    decision = rank_candidates(
        pool(rows), scores(rows), Request(Objective(1.0), 0, conditions=Conditions(observed=seen))
    )
    assert decision.output_tokens.tolist() == [300.0, 50.0]
    assert decision.ranking == (1, 0)


def test_a_latency_weight_prefers_the_quicker_and_nobody_waited_for_counts_as_quickest() -> None:
    rows = [(0.90, 1.0, 0.0, 0.0), (0.88, 1.0, 0.0, 0.0), (0.87, 1.0, 0.0, 0.0)]
    seen = Observed(np.ones(3), np.array([5.0, 1.0, np.nan]))
    for weight, ranking in ((0.0, (0, 1, 2)), (0.01, (1, 2, 0))):
        request = Request(Objective(latency_weight=weight), 0, conditions=Conditions(observed=seen))
        assert rank_candidates(pool(rows), scores(rows), request).ranking == ranking


RULED = [
    priced("both", providers=frozenset({"openai", "azure"}), regions=frozenset({"eu"}), labels=frozenset({"zdr"})),
    priced("us", providers=frozenset({"openai"}), regions=frozenset({"us"})),
    priced("nowhere", providers=frozenset({"unknown"}), regions=frozenset({"unknown"})),
]


@pytest.mark.parametrize(
    ("rules", "excluded"),
    [
        (Rules(), (None, None, None)),
        (Rules(deny_providers=frozenset({"azure"})), (Exclusion.PROVIDER, None, None)),
        (Rules(allow_providers=frozenset({"openai"})), (Exclusion.PROVIDER, None, Exclusion.PROVIDER)),
        (Rules(allow_regions=frozenset({"eu"})), (None, Exclusion.REGION, Exclusion.REGION)),
        (Rules(deny_regions=frozenset({"us"})), (None, Exclusion.REGION, None)),
        (Rules(require_labels=frozenset({"zdr"})), (None, Exclusion.LABEL, Exclusion.LABEL)),
    ],
)
def test_rules(rules: Rules, excluded: tuple[Exclusion | None, ...]) -> None:
    """A group must keep a rule with every deployment; where it runs must be known to be on a list."""
    one = Scores(np.array([0.5], dtype=np.float32), np.array([10.0], dtype=np.float32))
    decision = rank_candidates(CandidatePool(RULED), one, Request(Objective(), 1, conditions=Conditions(rules=rules)))
    assert decision.excluded == excluded


def test_who_is_barred_is_out_with_the_reason() -> None:
    rows = [(0.9, 1.0, 0.0, 0.0), (0.5, 1.0, 0.0, 0.0)]
    barred = Conditions(barred={"c0": Exclusion.COOLED_DOWN, "stranger": Exclusion.KEY_ACCESS})
    decision = rank_candidates(pool(rows), scores(rows), Request(Objective(), 0, conditions=barred))
    assert (decision.ranking, decision.excluded) == ((1,), (Exclusion.COOLED_DOWN, None))


def test_every_exclusion_has_its_own_code() -> None:
    assert [Exclusion.of_code(reason.code) for reason in Exclusion] == list(Exclusion)
    assert Exclusion.of_code(0) is None
