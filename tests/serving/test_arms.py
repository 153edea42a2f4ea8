"""Canaries and shadows: who is in a share, and which weights and objective each lane decides by."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import SPRINTER, WIZARD, planted_artifact
from proxied import deployment

from embedllm_router import Router
from embedllm_router.config.settings import read_settings
from embedllm_router.errors import ConfigError
from embedllm_router.routing.deployments import read_model_groups
from embedllm_router.routing.policy import Objective
from embedllm_router.routing.pool import TOPIC_SD
from embedllm_router.routing.relatives import expect_ungraded
from embedllm_router.serving.arms import (
    Arms,
    Finding,
    VirtualModel,
    build_arms,
    build_virtual_model,
    findings,
    in_share,
)

ROWS = [deployment("wizard", WIZARD, (10.0, 40.0)), deployment("sprinter", SPRINTER, (0.2, 0.6))]


def lanes(router: Router, routers: dict[Path | None, Router], **settings: object) -> Arms:
    read = read_settings({"virtual_models": {"auto": {"default": "sprinter", "cost_weight": 1, **settings}}})
    groups = {r: read_model_groups(ROWS, {}, r.catalog) for r in {router, *routers.values()}}
    return build_arms("auto", read.virtual_models["auto"], routers, router, groups)


STRANGERS = [
    *ROWS,
    deployment("newcomer", "gpt-9", (1.0, 4.0)),
    deployment("cousin", "acme-chat", (1.0, 4.0), embedllm_like=SPRINTER),
    deployment("nameless", "acme-chat", (1.0, 4.0)),
    deployment("gift", WIZARD, None),
]


def virtual_model(router: Router, **settings: object) -> tuple[VirtualModel, list[Finding]]:
    read = read_settings({"virtual_models": {"auto": {"default": "sprinter", **settings}}}).virtual_models["auto"]
    groups, extended = expect_ungraded(read_model_groups(STRANGERS, {}, router.catalog), router)
    model = build_virtual_model("auto", read, groups, extended.average)
    return model, findings({"auto": model}, groups)


def test_one_line_says_how_the_llms_of_a_virtual_model_are_known(router: Router) -> None:
    names = ["wizard", "sprinter", "newcomer", "cousin", "nameless", "gift", "absent"]
    _, found = virtual_model(router, candidates=names)
    (pool,) = [one for one in found if one.event == "routing.pool"]
    assert pool.level == "warning"
    expected = "3 of 7 LLMs are known, 1 by family, 1 by a stand-in, 1 unknown, 1 unpriced, 1 not in model_list"
    assert pool.fields["summary"] == expected
    assert (pool.fields["family"], pool.fields["like"], pool.fields["unpriced"]) == (["newcomer"], ["cousin"], ["gift"])
    remedies = pool.fields["remedies"]
    assert isinstance(remedies, dict)
    assert set(remedies) == {"family", "unknown", "unpriced", "absent"}
    assert "embedllm_like" in remedies["unknown"]


@pytest.mark.parametrize("uncertainty", ["mean", "lower_bound", "exclude"])
def test_uncertainty_says_what_becomes_of_llms_nobody_graded(router: Router, uncertainty: str) -> None:
    model, _ = virtual_model(router, uncertainty=uncertainty)
    p = np.full(len(model.pool.names), 0.8)
    decided = dict(zip(model.pool.names, model.pool.lower_bound(p).tolist(), strict=True))
    usable = dict(zip(model.pool.names, model.pool.usable.tolist(), strict=True))
    assert (usable["newcomer"], usable["cousin"]) == ((uncertainty != "exclude",) * 2)
    if uncertainty == "exclude":
        assert {one.standing_exclusion for one in model.pool.candidates if one.known_by == "family"} == {"not_graded"}
    assert usable["wizard"]
    if uncertainty == "lower_bound":
        assert 0.8 - decided["newcomer"] > 5 * (0.8 - decided["wizard"]) > 0, "the less is known, the more is taken off"
    else:
        assert decided["newcomer"] == decided["wizard"] == 0.8


@pytest.mark.parametrize("uncertainty", ["mean", "lower_bound"])
def test_the_interval_is_wider_where_less_is_known(router: Router, uncertainty: str) -> None:
    model, _ = virtual_model(router, uncertainty=uncertainty)
    p = model.pool.lower_bound(np.full(len(model.pool.names), 0.8))
    low, high = model.pool.interval(p)
    i, j, k = (model.pool.index[name] for name in ("wizard", "newcomer", "nameless"))
    assert low[j] < low[i] < high[i] < high[j]
    assert np.isnan(low[k])
    assert np.isnan(high[k])
    middle = np.log(low / (1 - low)) + np.log(high / (1 - high))
    assert middle[[i, j]] / 2 == pytest.approx(np.log(4)), "centred on what is expected, in log-odds"
    assert model.pool.average is not None
    assert model.pool.average.logit_sd is not None
    width = np.log(high / (1 - high)) - np.log(low / (1 - low))
    both = np.sqrt(model.pool.average.logit_sd**2 + TOPIC_SD**2)
    assert width[[i, j]] == pytest.approx(2 * 1.96 * both[[i, j]]), "of its ability and of kinds of prompt"


def test_without_trials_the_live_lane_decides_for_everybody(router: Router) -> None:
    built = lanes(router, {None: router})
    assert (built.canary, built.shadow) == (None, None)
    assert built.of("anybody") is built.live
    assert built.live.objective == Objective(1.0, near_tie_margin=0.005)


def test_a_canary_objective_replaces_the_live_one(router: Router) -> None:
    built = lanes(router, {None: router}, canary={"share": "100%", "min_p_correct": 0.9})
    assert built.of("anybody") is built.canary
    assert built.canary is not None
    assert built.canary.objective == Objective(min_p_correct=0.9, near_tie_margin=0.005)
    assert built.canary.router is router


def test_a_shadow_with_other_weights_keeps_the_live_objective(router: Router, tmp_path: Path) -> None:
    other_folder = tmp_path / "other"
    planted_artifact(other_folder)
    other = Router.load(other_folder)
    built = lanes(router, {None: router, other_folder: other}, shadow={"artifact": str(other_folder)})
    assert built.shadow is not None
    assert (built.shadow.router, built.shadow.objective) == (other, Objective(1.0, near_tie_margin=0.005))
    assert built.shadow.virtual_model.pool is not built.live.virtual_model.pool


def test_a_trial_whose_weights_did_not_load_is_left_out(router: Router, tmp_path: Path) -> None:
    built = lanes(router, {None: router}, canary={"share": 1, "artifact": str(tmp_path / "lost")})
    assert built.canary is None
    assert built.of("anybody") is built.live


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_everybody_who_was_in(key: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert in_share(key, large) or not in_share(key, small)


def test_a_share_is_about_that_share_of_callers() -> None:
    inside = sum(in_share(f"caller-{number}", 0.05) for number in range(20_000))
    assert 900 < inside < 1_100  # 1,000 expected, standard deviation 31
    assert not any(in_share(str(number), 0.0) for number in range(100))
    assert all(in_share(str(number), 1.0) for number in range(100))


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        ({"shadow": {}}, "auto.shadow: Value error, set artifact, an objective"),
        ({"canary": {"share": 0.1}}, "auto.canary: Value error, set artifact, an objective"),
        ({"canary": {"share": 0, "cost_weight": 1}}, "auto.canary.share:"),
        ({"canary": {"share": "120%", "cost_weight": 1}}, "auto.canary.share:"),
        ({"canary": {"share": "some%", "cost_weight": 1}}, "auto.canary.share:"),
        ({"shadow": {"cost_weight": 1, "max_accuracy_drop": 0.1}}, "exclude each other"),
    ],
)
def test_a_trial_that_says_nothing_new_or_nonsense_is_refused(trial: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        read_settings({"virtual_models": {"auto": {"default": "x", **trial}}})


def test_five_percent_may_be_written_as_such() -> None:
    read = read_settings(
        {"virtual_models": {"auto": {"default": "x", "canary": {"share": " 5% ", "profile": "cheap"}}}}
    )
    canary = read.virtual_models["auto"].canary
    assert canary is not None
    assert canary.share == pytest.approx(0.05)
