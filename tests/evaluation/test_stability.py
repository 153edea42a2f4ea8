"""Changes to a prompt keep its meaning, and flips are counted as they are."""

import random

import pytest
from planted import SPRINTER, WIZARD

from embedllm_router import Router
from embedllm_router.evaluation.stability import CHANGES, measure_flips
from embedllm_router.policy import Objective

PROMPT = "How many prime numbers are there below one hundred, and which ones?"


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("text", [PROMPT, "", "?", "a b", "Ünïcode prompt, \U0001f600", "word"])
def test_a_change_is_small_and_always_the_same(name: str, text: str) -> None:
    changed = CHANGES[name](text, random.Random(0))
    assert changed == CHANGES[name](text, random.Random(0))
    assert abs(len(changed) - len(text)) <= 40
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
    flips = {row.change: row for row in measure_flips(router, pool, Objective(10.0), ["Integral", "Statute"])}
    assert flips["lower case"].rate == 0.0
    assert flips["typos"].n == 2
    before = [
        router.route(text, objective=Objective(10.0), pool=pool).decision.ranking[0] for text in ("Integral", "Statute")
    ]
    rng = random.Random("0 typos")
    after = [
        router.route(CHANGES["typos"](text, rng), objective=Objective(10.0), pool=pool).decision.ranking[0]
        for text in ("Integral", "Statute")
    ]
    assert flips["typos"].rate == sum(a != b for a, b in zip(after, before, strict=True)) / 2
