"""Changes to a prompt keep its meaning, and flips are counted as they are."""

import random

import numpy as np
import pytest
from planted import SPRINTER, WIZARD
from stability import (
    CHANGES,
    NearTies,
    Perturbed,
    Weighed,
    choices,
    first_favourite,
    flips,
    near_ties_as_served,
    perturb,
)

from embedllm_router import Router
from embedllm_router.routing.policy import Objective
from embedllm_router.routing.pool import CandidatePool
from embedllm_router.routing.tie_breaking import average_performance, break_ties, pool_with_averages

PROMPT = "How many prime numbers are there below one hundred, and which ones?"


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("text", [PROMPT, "", "?", "a b", "Ünïcode prompt, \U0001f600", "word"])
def test_a_change_is_small_and_always_the_same(name: str, text: str) -> None:
    changed = CHANGES[name](text, random.Random(0))
    assert changed == CHANGES[name](text, random.Random(0))
    assert abs(len(changed) - len(text)) <= 40
    if name != "wording":
        kept = {c for c in text.lower() if c.isalpha()}
        assert kept <= set(changed.lower())


def test_typos_swap_letters_inside_words_only() -> None:
    changed = CHANGES["typos"](PROMPT, random.Random(1))
    assert sorted(changed) == sorted(PROMPT)
    assert changed != PROMPT
    assert [w[0] for w in changed.split()] == [w[0] for w in PROMPT.split()]


def test_flips_are_those_of_the_router(router: Router) -> None:
    """The planted tokenizer knows whole words, whatever their case: a typo loses the topic."""
    pool = router.pool([WIZARD, SPRINTER])
    found = {row.change: row for row in flips(perturb(router, pool, ["Integral", "Statute"]), Objective(10.0))}
    assert found["lower case"].rate == 0.0
    assert found["typos"].n == 2
    before = [
        router.route(text, objective=Objective(10.0), pool=pool).decision.ranking[0] for text in ("Integral", "Statute")
    ]
    rng = random.Random("0 typos")
    after = [
        router.route(CHANGES["typos"](text, rng), objective=Objective(10.0), pool=pool).decision.ranking[0]
        for text in ("Integral", "Statute")
    ]
    assert found["typos"].rate == sum(a != b for a, b in zip(after, before, strict=True)) / 2


def test_wording_replaces_whole_words_only() -> None:
    change = CHANGES["wording"]
    assert change("What is it? It cannot Finder. Find it.", random.Random(0)) == (
        "Tell me what is it? It can't Finder. Determine it."
    )
    assert change(PROMPT, random.Random(0)) == PROMPT.replace("How many", "What number of")


def weighed(p: list[list[float]]) -> Weighed:
    """Two or more candidates at no cost, all usable."""
    return Weighed(np.array(p), np.zeros((len(p), len(p[0]))), np.ones((len(p), len(p[0])), dtype=bool))


def test_flips_losses_and_favourites_are_counted_by_hand() -> None:
    """Of four prompts the change leaves one as it was; two of the other three tip over, one of them a near tie."""
    before = weighed([[0.9, 0.8], [0.5, 0.51], [0.6, 0.7], [0.3, 0.2]])
    after = weighed([[0.7, 0.8], [0.51, 0.5], [0.6, 0.7], [0.1, 0.9]])
    perturbed = Perturbed(before, {"planted": after}, {"planted": np.array([True, True, True, False])})
    (row,) = flips(perturbed, Objective())
    assert (row.change, row.n) == ("planted", 3)
    assert row.rate == pytest.approx(2 / 3)
    assert row.lost == pytest.approx((0.1 + 0.01) / 3)
    assert row.share.low <= row.rate <= row.share.high
    ties = NearTies(np.array([0, 1]), 0.02)
    assert choices(before, Objective(), ties).tolist() == [0, 0, 1, 0]
    (settled,) = flips(perturbed, Objective(), ties)
    assert settled.rate == pytest.approx(1 / 3)
    floor = Objective(min_p_correct=0.5)
    assert flips(perturbed, floor, ties) == flips(perturbed, floor), "a floor is a promise"


def test_a_change_that_does_nothing_counts_for_nothing() -> None:
    same = weighed([[0.9, 0.8]])
    (row,) = flips(Perturbed(same, {"none": same}, {"none": np.array([False])}), Objective())
    assert (row.n, row.rate, row.lost) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    "objective", [Objective(), Objective(20.0), Objective(min_p_correct=0.9), Objective(max_accuracy_drop=0.1)]
)
def test_choices_are_those_of_the_router(router: Router, objective: Objective) -> None:
    texts = ["hello there", "integral", "statute function", "hello integral"]
    pool = router.pool([WIZARD, SPRINTER])
    expected = [router.route(text, objective=objective, pool=pool).decision.ranking[0] for text in texts]
    assert choices(perturb(router, pool, texts).before, objective).tolist() == expected


@pytest.mark.parametrize(("cost_weight", "margin"), [(0.0, 0.05), (10.0, 0.3), (10.0, 0.0), (400.0, 0.9)])
def test_near_ties_as_served_are_those_of_the_request_path(router: Router, cost_weight: float, margin: float) -> None:
    texts = ["hello there", "integral", "statute function", "hello integral", "function", "statute"]
    pool = pool_with_averages(router.pool([WIZARD, SPRINTER]).candidates, average_performance(router.artifact))
    aim = Objective(cost_weight, near_tie_margin=margin)
    decisions = [router.route(text, objective=aim, pool=pool).decision for text in texts]
    expected = [break_ties(decision).ranking[0] for decision in decisions]
    before = perturb(router, pool, texts).before
    assert choices(before, aim, near_ties_as_served(pool, aim)).tolist() == expected
    assert choices(before, aim, near_ties_as_served(pool, aim, margin=0.0)).tolist() == choices(before, aim).tolist()


def test_a_pool_that_knows_nothing_before_a_prompt_has_no_favourites(router: Router) -> None:
    assert near_ties_as_served(CandidatePool(router.pool([WIZARD, SPRINTER]).candidates), Objective()) is None


def places(*order: int) -> np.ndarray:
    found = np.empty(len(order), dtype=np.intp)
    found[list(order)] = np.arange(len(order))
    return found


@pytest.mark.parametrize("seed", range(30))
def test_what_moves_less_than_the_slack_changes_nothing_once_the_favourite_leads(seed: int) -> None:
    """The first favourite within 0.02 of the best at a margin of 0.06: nothing below 0.02 dislodges it."""
    rng = np.random.default_rng(seed)
    utility = rng.random(5) * 0.5
    utility[3] = utility.max() - 0.02
    moved = utility + rng.uniform(-0.0199, 0.0199, 5)
    for one in (utility, moved):
        assert first_favourite(one, np.argsort(-one).tolist(), places(3, 0, 1, 2, 4), 0.06) == 3
