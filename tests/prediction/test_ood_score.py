"""OOD scores of prompts, the drift of callers, and what predictions are shrunk to, by hand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from planted import SPRINTER, WIZARD, planted_artifact
from proxied import deployment
from pydantic import ValidationError

from embedllm_router.artifact.manifest import Landmark, LearnedLLM, OodSpec
from embedllm_router.artifact.weights import Artifact, save_artifact
from embedllm_router.config.process import StateSettings
from embedllm_router.config.settings import read_settings
from embedllm_router.prediction.ood_score import Landmarks, OodScorer, Shrinkage
from embedllm_router.routing.decision import NO_CONDITIONS
from embedllm_router.routing.deployments import read_model_groups
from embedllm_router.routing.pipeline import RequestState
from embedllm_router.routing.policy import Objective, Reason
from embedllm_router.routing.router import Router
from embedllm_router.serving.arms import Arm, Arms, build_arms
from embedllm_router.serving.caller_drift import CallerDrift
from embedllm_router.serving.state.opening import open_state
from embedllm_router.telemetry.decision_record import candidate_records
from embedllm_router.training.fit.landmarks import difficulty_spread

SPEC = OodSpec(ranks=tuple(i / 100 for i in range(101)), shrinkage=0.7, n_prompts=101)
LLMS = [
    LearnedLLM(id=str(i), vendor="none", thinking=False, n_labels=98, mean_correctness=share)
    for i, share in enumerate((0.0, 0.25, 0.5, 1.0))
]
TENSORS = {"projection": np.eye(1, 2, dtype=np.float16), "landmarks": np.array([[0], [4]], dtype=np.float16)}
PLAIN = {"input_mean": np.zeros(2, np.float32), "input_scale": np.ones(2, np.float32)}
KNOWN = [
    Landmark(name=name, n_prompts=1, mean_correctness=0, spread=spread) for name, spread in (("a/x", 1.0), ("a/y", 2.0))
]
LANDMARKS = Landmarks(KNOWN, TENSORS, PLAIN)
PROBABILITIES = st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4).map(lambda p: np.array(p, np.float32))


def logit(p: float) -> float:
    inside = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(inside / (1 - inside))


@given(PROBABILITIES, st.floats(0, 1))
def test_hedging_is_what_a_loop_makes_of_it(p: np.ndarray, strength: float) -> None:
    found = OodScorer(LANDMARKS, SPEC, LLMS).shrunk(p, strength)
    averages = [
        math.log((llm.mean_correctness * llm.n_labels + 1) / (llm.n_labels * (1 - llm.mean_correctness) + 1))
        for llm in LLMS
    ]
    deviations = [logit(before) - average for before, average in zip(p.tolist(), averages, strict=True)]
    difficulty = sum(deviations) / len(deviations)
    for average, deviation, before, after in zip(averages, deviations, p.tolist(), found.tolist(), strict=True):
        full = 0.7 * (average + 0.75 * difficulty + 0.25 * (deviation - difficulty))
        moved = logit(before) + strength * (full - logit(before))
        assert after == pytest.approx(
            1 / (1 + math.exp(-moved)) if strength else before, abs=3e-3
        )  # float32 at the clipped ends


@given(st.floats(-4, 4), st.integers(0, 3))
def test_what_all_llms_share_is_kept_and_what_tells_them_apart_hardly_is(shift: float, one: int) -> None:
    scorer = OodScorer(LANDMARKS, SPEC, LLMS)
    averages = np.array([logit((m.mean_correctness * m.n_labels + 1) / (m.n_labels + 2)) for m in LLMS])

    def moved(logits: np.ndarray) -> np.ndarray:
        shrunk = scorer.shrunk((1 / (1 + np.exp(-logits))).astype(np.float32), 1.0)
        return np.array([logit(float(p)) for p in shrunk])

    plain = moved(averages)
    np.testing.assert_allclose(moved(averages + shift) - plain, 0.7 * 0.75 * shift, atol=2e-3)
    alone = averages.copy()
    alone[one] += shift
    apart = moved(alone) - plain
    others = np.delete(apart, one)
    assert apart[one] - others[0] == pytest.approx(0.7 * 0.25 * shift, abs=2e-3)
    np.testing.assert_allclose(others, others[0], atol=2e-3)


@pytest.mark.parametrize(
    ("x", "novelty", "strength"),
    [(0.0, 0.0, 0.0), (0.505, 51 / 101, 0.0), (3.0, 51 / 101, 0.0), (-2.0, 1.0, 1.0), (8.0, 1.0, 1.0)],
)
def test_novelty_is_the_rank_of_the_distance_in_units_of_the_landmark(
    x: float, novelty: float, strength: float
) -> None:
    """At 3 the nearest landmark lies at 4 and has twice the spread: half of ordinary prompts are nearer to theirs."""
    found = OodScorer(LANDMARKS, SPEC, LLMS).shrinkage(np.array([x, 7], np.float32))
    assert found.ood_score == pytest.approx(novelty, abs=0.011)
    assert found.strength == pytest.approx(strength, abs=1e-6)


def test_what_is_hedged_in_full_is_twice_as_uncertain() -> None:
    assert [Shrinkage(unfamiliarity=far).widening for far in (0.0, 0.5, 1.0)] == [1.0, 1.5, 2.0]


def test_traffic_hedges_what_the_prompt_alone_would_not() -> None:
    known = OodScorer(LANDMARKS, SPEC, LLMS)
    assert known.shrinkage(np.zeros(2, np.float32), 0.4).strength == 0.4
    assert known.shrinkage(None, 0.4) == Shrinkage(strength=0.4, unfamiliarity=0.4)


def test_weights_whose_novelty_was_never_measured_hedge_nothing() -> None:
    unmeasured = OodScorer(LANDMARKS, None, LLMS)
    found = unmeasured.shrinkage(np.full(2, 8, np.float32), 1.0)
    assert (found.ood_score, found.strength) == (None, 0.0)
    assert found.nearest is not None
    p = np.full(4, 0.9, np.float32)
    assert unmeasured.shrunk(p, 1.0) is p


def test_traffic_of_ordinary_prompts_is_never_hedged_and_of_novel_ones_soon_is() -> None:
    traffic, rng = CallerDrift(), np.random.default_rng(0)
    for novelty in rng.uniform(size=2_000):
        assert traffic.shrinkage("ordinary") == 0.0
        traffic.add("ordinary", float(novelty))
    for _ in range(80):
        traffic.add("novel", 0.95)
    assert traffic.shrinkage("novel") == 1.0
    assert traffic.shrinkage("ordinary") == traffic.shrinkage("new") == 0.0
    for novelty in rng.uniform(size=300):
        traffic.add("novel", float(novelty))
    assert traffic.shrinkage("novel") == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=80))
def test_a_new_caller_is_averaged_with_twenty_ordinary_prompts(novelties: list[float]) -> None:
    traffic = CallerDrift()
    for novelty in novelties:
        traffic.add("new", novelty)
    assert traffic.mean_ood_score("new") == pytest.approx(np.mean([0.5] * 20 + novelties))


def test_a_new_caller_of_an_unknown_kind_is_hedged_in_full_after_sixteen_prompts() -> None:
    traffic, demands = CallerDrift(), []
    for _ in range(16):
        demands.append(traffic.shrinkage("novel"))
        traffic.add("novel", 0.95)
    assert demands[:5] == [0.0] * 5
    assert demands[-1] < 1.0
    assert traffic.shrinkage("novel") == pytest.approx(1.0)


def test_of_too_many_callers_the_one_not_heard_of_for_longest_is_forgotten() -> None:
    traffic = CallerDrift()
    for caller in range(10_001):
        traffic.add(str(caller), 1.0)
        traffic.add("1", 1.0)
    assert traffic.mean_ood_score("0") == 0.5
    assert traffic.mean_ood_score("1") > 0.99


class Shelf:
    """What two workers share, as soon as it is put."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def put(self, key: str, value: str, ttl_s: float) -> None:
        assert ttl_s > 0
        self.texts[key] = value

    def get(self, key: str) -> str | None:
        return self.texts.get(key)


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=70))
def test_workers_know_a_caller_together_but_for_what_was_not_told_yet(prompts: list[tuple[int, float]]) -> None:
    """Each of two workers keeps at most four prompts to itself, and counts its own whatever the other tells."""
    shelf = Shelf()
    workers = CallerDrift(shelf), CallerDrift(shelf)
    for worker, novelty in prompts:
        workers[worker].shrinkage("key")  # as each request asks first
        workers[worker].add("key", novelty)
    everything = [0.5] * 20 + [novelty for _, novelty in prompts]
    for one in workers:
        assert one.mean_ood_score("key") == pytest.approx(np.mean(everything), abs=4.5 / len(everything))


def test_what_is_known_of_a_caller_survives_a_restart_and_its_name_is_not_written(
    measured: Artifact, tmp_path: Path
) -> None:
    settings = StateSettings(path=tmp_path / "state")
    state = open_state(settings, structlog.get_logger())
    before = lane(measured, CallerDrift(state))
    for _ in range(60):
        ask(before, "function", "key-1")
    state.save()
    after = lane(measured, CallerDrift(open_state(settings, structlog.get_logger())))
    assert [ask(after, "integral", caller)[1] for caller in ("key-1", "key-2")] == [1.0, 0.0]
    written = b"".join(file.read_bytes() for file in (tmp_path / "state").rglob("*") if file.is_file())
    assert b"novelty:" in written
    assert b"key-1" not in written


def test_what_decides_in_the_shadow_touches_no_shared_state(measured: Artifact) -> None:
    """It does so in a thread of its own, and shared state belongs to the event loop's."""
    shelf = Shelf()
    both = lanes(measured, CallerDrift(shelf), shadow={"max_accuracy_drop": 0.5})
    assert both.shadow is not None
    for _ in range(60):
        ask(both.shadow, "function", "key-1")
    assert shelf.texts == {}
    assert ask(both.shadow, "integral", "key-1")[1] == 1.0, "it hedges by what itself has seen"
    assert ask(both.live, "integral", "key-1")[1] == 0.0
    for _ in range(5):
        ask(both.live, "function", "key-1")
    assert len(shelf.texts) == 1


@pytest.mark.parametrize("text", ["", "0.9", "nan 50", "1.5 50", "0.9 5", "0.9 101", "a b", "0.9 50 1"])
def test_what_traffic_did_not_write_is_passed_over(text: str) -> None:
    shelf = Shelf()
    shelf.texts["novelty:key"] = text
    assert CallerDrift(shelf).mean_ood_score("key") == 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ranks": (0.2, 0.1)}, "do not ascend"),
        ({"ranks": ()}, "at least 1 item"),
        ({"ranks": (0.1, math.inf)}, "finite number"),
        ({"shrinkage": 0.0}, "greater than 0"),
        ({"shrinkage": 1.1}, "less than or equal to 1"),
    ],
)
def test_a_measurement_that_cannot_be_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OodSpec.model_validate({**SPEC.model_dump(), **change})


def test_novelty_without_landmarks_is_refused(tmp_path: Path) -> None:
    manifest = planted_artifact(tmp_path / "a").manifest
    with pytest.raises(ValidationError, match="novelty is a distance to landmarks, of which there are none"):
        type(manifest).model_validate({**manifest.model_dump(), "novelty": SPEC.model_dump()})


def test_the_spread_of_difficulty_is_found_again() -> None:
    """Forty categories whose offsets were drawn with a standard deviation of one, of three LLMs."""
    rng = np.random.default_rng(0)
    offsets = rng.normal(size=40)
    logits = np.repeat(offsets, 100)[:, None] + np.array([-0.5, 0.0, 1.0])
    labels = (rng.uniform(size=logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    observed = rng.uniform(size=labels.shape) < 0.8
    names = np.repeat([f"set/{i}" for i in range(40)], 100)
    assert difficulty_spread(labels, observed, names) == pytest.approx(offsets.std(), rel=0.1)
    assert difficulty_spread(labels, observed, np.array([f"set/{i}" for i in range(4_000)])) == 0.0


@pytest.fixture
def measured(tmp_path: Path) -> Artifact:
    """The planted artifact with landmarks of maths and law and what is ordinary near them."""
    plain = planted_artifact(tmp_path / "artifact")
    centres = [Router(plain).encode(text).prompt_embedding[:4] for text in ("integral", "statute")]
    projection = np.eye(4, plain.manifest.encoder.d_prompt, dtype=np.float16)
    known = tuple(Landmark(name=f"a/{name}", n_prompts=1, mean_correctness=0.5) for name in ("maths", "law"))
    return save_artifact(
        tmp_path / "artifact",
        plain.manifest.model_copy(update={"landmarks": known, "d_landmark": 4, "novelty": SPEC}),
        encoder=plain.encoder,
        decoder=plain.decoder,
        tokenizer_json=plain.tokenizer_json,
        model_card="",
        landmarks={"projection": projection, "landmarks": np.stack(centres).astype(np.float16)},
    )


def lane(artifact: Artifact, traffic: CallerDrift | None = None, **settings: object) -> Arm:
    return lanes(artifact, traffic, **settings).live


def lanes(artifact: Artifact, traffic: CallerDrift | None = None, **settings: object) -> Arms:
    router = Router(artifact)
    read = read_settings({"virtual_models": {"auto": {"default": "sprinter", **settings}}})
    rows = [deployment("wizard", WIZARD, (10.0, 40.0)), deployment("sprinter", SPRINTER, (0.2, 0.6))]
    groups = {router: read_model_groups(rows, {}, router.catalog)}
    return build_arms("auto", read.virtual_models["auto"], {None: router}, router, groups, traffic)


def ask(one: Arm, prompt: str, caller: str = "") -> tuple[float | None, float, float]:
    """As the plugin does: the caller's drift is read before the decision and learned after it."""
    key = one.caller_key(caller)
    state = RequestState(caller_shrinkage=one.drift.shrinkage(key))
    routing = one.router.route(prompt, objective=Objective(), policy=one.virtual_model.policy, state=state)
    chosen, shrinkage = routing.decision.chosen, routing.shrinkage
    assert chosen is not None
    assert chosen.p_correct is not None
    if shrinkage.ood_score is not None:
        one.drift.add(key, shrinkage.ood_score)
    return shrinkage.ood_score, shrinkage.strength, chosen.p_correct


def test_a_learned_kind_of_prompt_is_predicted_as_before_and_an_alien_one_is_hedged(measured: Artifact) -> None:
    novelty, strength, p = ask(lane(measured), "integral")
    assert novelty is not None
    assert (novelty < 0.1, strength) == (True, 0.0)
    assert p == pytest.approx(1 / (1 + math.exp(-3)), abs=1e-4)
    novelty, strength, p = ask(lane(measured), "function")
    assert (novelty, strength) == (1.0, 1.0)
    kept = 0.75 * 1 + 0.25 * 2  # logits 3, 0, 0 of LLMs whose averages are 0: difficulty 1, a difference of 2
    assert p == pytest.approx(1 / (1 + math.exp(-0.7 * kept)), abs=1e-3)


def test_the_record_keeps_what_was_predicted_before_it_was_hedged(measured: Artifact) -> None:
    one = lane(measured)
    alien, learned = (
        one.router.route(word, objective=Objective(), policy=one.virtual_model.policy).decision
        for word in ("function", "integral")
    )
    before = {candidate.name: candidate.p_unshrunk for candidate in candidate_records(alien)}
    after = {candidate.name: candidate.p_correct for candidate in candidate_records(alien)}
    assert before["wizard"] == pytest.approx(1 / (1 + math.exp(-3)), abs=1e-4)
    assert after["wizard"] == pytest.approx(1 / (1 + math.exp(-0.7 * 1.25)), abs=1e-3)
    assert {candidate.p_unshrunk for candidate in candidate_records(learned)} == {None}


def test_a_callers_alien_traffic_hedges_its_ordinary_prompts_and_nobody_elses(measured: Artifact) -> None:
    one = lane(measured)
    for _ in range(60):
        ask(one, "function", "key-1")
    assert ask(one, "integral", "key-1")[1] == 1.0
    assert ask(one, "integral", "key-2")[1] == 0.0


def test_beyond_the_settings_novelty_the_default_answers(measured: Artifact) -> None:
    one = lane(measured, max_ood_score=0.99)
    policy, pool = one.virtual_model.policy, one.virtual_model.pool
    for prompt, name, reason in (
        ("integral", "wizard", Reason.HIGHEST_UTILITY),
        ("function", "sprinter", Reason.OUT_OF_DISTRIBUTION),
    ):
        decision = one.router.route(prompt, objective=Objective(), policy=policy).decision
        assert (pool.names[decision.ranking[0]], decision.reason) == (name, reason)
    only = replace(NO_CONDITIONS, only=frozenset({"wizard"}))
    decision = one.router.route("function", objective=Objective(), policy=policy, conditions=only).decision
    assert (pool.names[decision.ranking[0]], decision.reason) == ("wizard", Reason.ONLY_CANDIDATE)
