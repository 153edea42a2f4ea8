"""A configuration that was never served decides as it would live, as far as the record and the file say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from log_files import Served, routed_record, write_log
from planted import NOVICE, PRICES, SPRINTER, WIZARD
from proxied import deployment
from recorded import make_record

from embedllm_router import Router
from embedllm_router.analysis.replay.change import NOT_SCORED, Change, read_new_config, weigh
from embedllm_router.analysis.replay.run import replay
from embedllm_router.artifact.weights import load_artifact
from embedllm_router.errors import ConfigError
from embedllm_router.records.reader.recorded import Recorded, Rescorer, Wanted, read_recorded
from embedllm_router.records.reader.source import open_source
from embedllm_router.records.schema import CandidateRecord, RequestRecord
from embedllm_router.routing.policy import Objective

PRICED = {WIZARD: PRICES[WIZARD], SPRINTER: PRICES[SPRINTER], NOVICE: None}


@pytest.fixture
def config(artifact_dir: Path, tmp_path: Path) -> "Config":
    return Config(artifact_dir, tmp_path)


class Config:
    """Writes proxy configurations."""

    def __init__(self, artifact: Path, folder: Path) -> None:
        self.artifact, self._file = artifact, folder / "new.yaml"

    def write(self, rows: list[dict[str, object]], **virtual_model: object) -> Path:
        content = {
            "model_list": rows,
            "litellm_settings": {"callbacks": ["embedllm_router.proxy_handler"]},
            "callback_settings": {
                "embedllm_router": {
                    "artifact": str(self.artifact),
                    "virtual_models": {"auto": {"default": rows[0]["model_name"], **virtual_model}},
                }
            },
        }
        self._file.write_text(yaml.safe_dump(content))
        return self._file


def log(folder: Path, records: list[RequestRecord]) -> Recorded:
    source = open_source(write_log(folder, records))
    try:
        return read_recorded(source, Wanted(with_text=True))
    finally:
        source.close()


def weighed(recorded: Recorded, change: Change) -> dict[str, CandidateRecord]:
    one, _ = weigh(recorded.requests[0], change, {})
    assert one is not None
    return {c.name: c for c in one.candidates}


def test_a_cheaper_price_wins_the_requests_it_would_win_live(router: Router, config: Config, tmp_path: Path) -> None:
    """At λ = 20 the sprinter gets chat and the wizard maths; at a hundredth of its price the wizard gets both."""
    before = Served(PRICED, Objective(20.0))
    records = [routed_record(router, i, text, before) for i, text in enumerate(["hello", "integral"] * 5)]
    assert {r.chosen for r in records} == {WIZARD, SPRINTER}
    price = (0.01, 0.04)
    rows = [deployment(WIZARD, WIZARD, price), deployment(SPRINTER, SPRINTER, PRICES[SPRINTER])]
    found = replay(
        log(tmp_path, records),
        Change(config=read_new_config(config.write(rows, cost_weight=20, near_tie_margin=0))),
        ["configuration"],
    )
    live = [
        routed_record(router, i, text, Served({WIZARD: price, SPRINTER: PRICES[SPRINTER]}, Objective(20.0)))
        for i, text in enumerate(["hello", "integral"] * 5)
    ]
    assert {row.name: row.after for row in found.mix} == {WIZARD: 10, SPRINTER: 0}
    assert [r.chosen for r in live] == [WIZARD] * 10
    new = next(y for y in found.yardsticks if y.numbers == "new")
    assert new.cost_usd.after == pytest.approx(sum(r.expected_cost_usd or 0 for r in live) / 10)


def test_an_objective_that_the_client_chose_stays_its_own(config: Config, tmp_path: Path) -> None:
    rows = [deployment(name, llm, None) for name, llm in (("wizard", WIZARD), ("novice", NOVICE))]
    recorded = log(tmp_path, [make_record(0), make_record(1, objective_from="header")])
    found = replay(recorded, Change(config=read_new_config(config.write(rows, cost_weight=100))), [""])
    assert {row.name: row.after for row in found.mix} == {"novice": 1, "wizard": 1}


def test_a_price_the_file_does_not_state_is_the_recorded_cost(config: Config, tmp_path: Path) -> None:
    rows = [deployment("wizard", WIZARD, None), deployment("other-wizard", WIZARD, None)]
    new = read_new_config(config.write(rows))
    assert new.unpriced == ("wizard", "other-wizard")
    found = weighed(log(tmp_path, [make_record(0)]), Change(config=new))
    assert found["wizard"].cost_usd == pytest.approx(0.016)
    assert (found["other-wizard"].cost_usd, found["other-wizard"].excluded) == (None, "price_unknown")


def test_a_new_name_for_a_recorded_llm_is_weighed_by_its_recorded_prediction(config: Config, tmp_path: Path) -> None:
    new = read_new_config(config.write([deployment("fresh", WIZARD, (10.0, 40.0))]))
    found = weighed(log(tmp_path, [make_record(0)]), Change(config=new))
    assert (found["fresh"].p_correct, found["fresh"].excluded) == (0.95, None)
    assert found["fresh"].cost_usd == pytest.approx((10 * 10.0 + 100 * 40.0) / 1e6)


def test_an_llm_nobody_predicted_needs_weights(router: Router, config: Config, tmp_path: Path) -> None:
    only_wizard = Served({WIZARD: PRICES[WIZARD]}, keep="text")
    recorded = log(tmp_path, [routed_record(router, 0, "hello", only_wizard)])
    file = config.write([deployment("sprinter", SPRINTER, (0.2, 0.6))])
    change = Change(config=read_new_config(file))
    assert weighed(recorded, change)["sprinter"].excluded == NOT_SCORED
    found = replay(recorded, change, [""])
    assert [(row.name, row.after) for row in found.mix] == [(None, 1), (WIZARD, 0)]
    assert any("Add --artifact" in note for note in found.notes)
    weights = load_artifact(config.artifact)
    scored = weighed(recorded, Change(rescorer=Rescorer(weights), config=read_new_config(file, weights)))["sprinter"]
    assert (scored.p_correct, scored.excluded) == (pytest.approx(0.95, abs=0.01), None)


def test_exclusions_are_the_files_or_else_the_recorded_ones(config: Config, tmp_path: Path) -> None:
    record = make_record(0, needs=("vision",), input_tokens=5000)
    excluded = {"sprinter": "no_vision", "novice": "context_window"}
    seen = tuple(replace(c, excluded=excluded.get(c.name, c.excluded)) for c in record.candidates)
    recorded = log(tmp_path, [replace(record, candidates=seen)])
    rows = [
        deployment("wizard", WIZARD, (1.0, 1.0), supports_vision=False),
        deployment("sprinter", SPRINTER, (1.0, 1.0)),
        deployment("novice", NOVICE, (1.0, 1.0), max_input_tokens=4000),
        deployment("wide", NOVICE, (1.0, 1.0), max_input_tokens=6000),
    ]
    found = weighed(recorded, Change(config=read_new_config(config.write(rows))))
    assert {name: c.excluded for name, c in found.items()} == {
        "wizard": "no_vision",
        "sprinter": "no_vision",
        "novice": "context_window",
        "wide": None,
    }


def test_what_the_client_did_not_ask_for_stays_excluded_and_so_does_every_new_name(
    config: Config, tmp_path: Path
) -> None:
    record = make_record(0)
    seen = tuple(replace(c, excluded="not_requested" if c.name != "wizard" else None) for c in record.candidates)
    rows = [
        deployment(name, llm, (1.0, 1.0)) for name, llm in (("wizard", WIZARD), ("novice", NOVICE), ("new", NOVICE))
    ]
    found = weighed(
        log(tmp_path, [replace(record, candidates=seen)]), Change(config=read_new_config(config.write(rows)))
    )
    assert {n: c.excluded for n, c in found.items()} == {
        "wizard": None,
        "novice": "not_requested",
        "new": "not_requested",
    }


def test_a_name_that_stands_for_another_llm_is_a_flip_of_which_nothing_was_observed(
    config: Config, tmp_path: Path
) -> None:
    new = read_new_config(config.write([deployment("wizard", NOVICE, (1.0, 1.0))]))
    found = replay(log(tmp_path, [make_record(0)]), Change(config=new), [""])
    assert (found.n_flips, found.flips[0].before, found.flips[0].after) == (1, "wizard", "wizard")
    assert found.flips[0].p_correct_change == pytest.approx(0.5 - 0.95)
    assert found.flips[0].cost_usd_change == pytest.approx(110e-6 - 0.016)


def test_a_virtual_model_that_is_gone_is_counted(config: Config, tmp_path: Path) -> None:
    recorded = log(tmp_path, [make_record(0), make_record(1, virtual_model="auto-cheap")])
    found = replay(
        recorded, Change(config=read_new_config(config.write([deployment("wizard", WIZARD, (1.0, 1.0))]))), [""]
    )
    assert (found.n, found.n_skipped) == (1, {"virtual model not in the new configuration": 1})


def test_weights_that_cannot_be_loaded_here_are_named(config: Config) -> None:
    config.artifact = Path("nowhere")
    with pytest.raises(ConfigError, match="weights that cannot be loaded here"):
        read_new_config(config.write([deployment("wizard", WIZARD, None)]))


@pytest.mark.parametrize("rows", ["text", [1], {"a": 1}])
def test_a_model_list_of_the_wrong_kind_is_named(config: Config, rows: Any) -> None:
    file = config.write([deployment("wizard", WIZARD, None)])
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**content, "model_list": rows}))
    with pytest.raises(ConfigError, match="model_list"):
        read_new_config(file)
