from pathlib import Path

import pytest

from embedllm_router.errors import DataError
from embedllm_router.training.fit.facts import LLMFacts, find_llm_table, read_facts, read_llm_table

HEADER = "dataset,canonical,vendor,access,kind,thinking,note\n"
WEIGHTS = Path(__file__).parents[2] / "weights"


def test_models_are_read_by_canonical_id(tmp_path: Path) -> None:
    file = tmp_path / "models.csv"
    file.write_text(HEADER + "a,x,acme,open,chat,True,\nb,x,acme,open,chat,True,again\na,y,acme,open,base,False,\n")
    facts = read_llm_table(file)
    assert (facts["x"].chat, facts["x"].thinking, facts["y"].chat) == (True, True, False)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("a,x,acme,open,chat,True,\na,x,umbrella,open,chat,True,\n", "line 3"),
        ("a,x,acme,open,chat,True,\nb,x,acme,open,base,True,\n", "line 3"),
        ("a,,acme,open,chat,True,\n", "canonical"),
    ],
)
def test_contradictions_and_gaps_are_named(tmp_path: Path, rows: str, words: str) -> None:
    (tmp_path / "models.csv").write_text(HEADER + rows)
    with pytest.raises(DataError, match=words):
        read_llm_table(tmp_path / "models.csv")


def test_data_sets_may_differ_in_vendor_and_setting(tmp_path: Path) -> None:
    file = tmp_path / "models.csv"
    file.write_text(HEADER + "a,x,other,open,chat,False,\nb,x,acme,open,chat,True,\nc,x,ACME,open,chat,False,\n")
    assert read_llm_table(file) == {"x": LLMFacts("acme", chat=True, thinking=True)}


def test_the_table_is_found_in_or_beside_the_data(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert find_llm_table([tmp_path / "set"]) is None
    (tmp_path / "models.csv").write_text(HEADER)
    assert find_llm_table([tmp_path / "set"]) == tmp_path / "models.csv"


@pytest.mark.parametrize("text", ["", "[]", '{"llms": {"a": {"input_usd_per_mtok": -1}}}', '{"other": {}}'])
def test_a_price_file_of_another_shape_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "prices.json").write_text(text)
    with pytest.raises(DataError, match=r"prices\.json"):
        read_facts(None, prices=tmp_path / "prices.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_facts(None, prices=tmp_path / "absent.json")


def test_the_shipped_facts_are_well_formed_and_never_free() -> None:
    facts = read_facts(
        None,
        prices=WEIGHTS / "prices.json",
        reasoning=WEIGHTS / "reasoning_tokens.json",
        sources=WEIGHTS / "sources.json",
    )
    assert len(facts.prices) > 80
    for price in facts.prices.values():
        assert (price.input_usd_per_mtok is None) == (price.output_usd_per_mtok is None) == (price.source is None)
        assert price.input_usd_per_mtok != 0
        assert price.output_usd_per_mtok != 0
    assert all(tokens > 0 for tokens in facts.reasoning_tokens.values())
