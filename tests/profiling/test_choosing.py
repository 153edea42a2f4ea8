"""Prompts are chosen where an answer can change which LLM is chosen."""

import numpy as np
import pytest
from planted import WORDS, planted_artifact

from embedllm_router.profiling.choosing import Known, choose
from embedllm_router.training.add_llm import Population, embed

TOPICS = tuple(WORDS)
EACH = 10


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """An LLM of which nothing is known, and ten prompts of each topic."""
    artifact = planted_artifact(tmp_path_factory.mktemp("weights") / "planted")
    population = Population.of(artifact, "prompt")
    prompts = [" ".join([word] * (n + 1)) for word in TOPICS for n in range(EACH)]
    columns = population.columns(embed(artifact, prompts))
    return Known(population, columns, np.zeros(0, dtype=np.intp), np.zeros(0))


def _answered(known: Known, right: dict[str, float]) -> Known:
    """The same LLM after all prompts of some topics."""
    asked = [i for i in range(len(TOPICS) * EACH) if TOPICS[i // EACH] in right]
    score = [right[TOPICS[i // EACH]] for i in asked]
    return Known(known.population, known.columns, np.array(asked, dtype=np.intp), np.array(score))


def test_nobody_is_asked_what_was_asked_or_more_than_there_is(known: Known) -> None:
    taken = {"a": set(range(35)), "b": set(range(40))}
    chosen = choose({"a": known, "b": known}, {"a": 0.0, "b": 0.0}, 0.0, 20, taken)
    assert sorted(chosen["a"]) == [35, 36, 37, 38, 39]
    assert chosen["b"] == []


def test_the_same_answers_choose_the_same_prompts(known: Known) -> None:
    both = {"a": known, "b": _answered(known, {"hello": 1.0})}
    one, other = (choose(both, {"a": 0.0, "b": 0.0}, 0.0, 5, {}) for _ in range(2))
    assert one == other
    assert len(set(one["a"])) == 5


def test_prompts_are_chosen_where_it_is_open_who_is_best(known: Known) -> None:
    """Both are known on chat, one far better; of the rest nothing is known, so it is asked about that."""
    both = {"a": _answered(known, {"hello": 1.0}), "b": _answered(known, {"hello": 0.0})}
    chosen = choose(both, {"a": 0.0, "b": 0.0}, 0.0, 6, {})
    for prompts in chosen.values():
        assert sum(TOPICS[i // EACH] != "hello" for i in prompts) >= 5
