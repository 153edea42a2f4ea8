"""The verdict from records whose truth is planted: who would have been right is known, though nobody saw it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest
from log_files import START, write_log
from recorded import make_feedback, make_record, make_records
from typer.testing import CliRunner

from embedllm_router.analysis.verdict.recorded import judge_records
from embedllm_router.analysis.verdict.result import RoutingVerdict
from embedllm_router.cli.main import app
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.evaluation.verdict import Answer
from embedllm_router.records.reader.recorded import Beside, Recorded, RecordedRequest, Wanted, read_recorded
from embedllm_router.records.reader.source import open_source
from embedllm_router.records.reader.verdicts import Verdict
from embedllm_router.records.schema import CandidateRecord
from embedllm_router.routing.policy import Objective

TOPICS = ("mmlu/history", "gsm8k/gsm")
COST = {"big": 0.01, "small": 0.001}
Truth = Mapping[str, tuple[float, float]]
SPECIALISTS: Truth = {"big": (0.4, 0.9), "small": (0.9, 0.4)}
BIG_IS_BEST: Truth = {"big": (0.9, 0.9), "small": (0.5, 0.5)}


@dataclass(frozen=True, kw_only=True)
class World:
    """How records come about: the truth, what was predicted, how much is explored, who gives feedback."""

    truth: Truth
    said: Truth
    epsilon: float = 0.3
    feedback: float = 0.8
    cost: Mapping[str, float] = field(default_factory=lambda: COST)

    def records(self, n: int, seed: int = 0) -> Recorded:
        rng = np.random.default_rng(seed)
        requests = tuple(self._one(i, int(rng.integers(2)), rng.random(3)) for i in range(n))
        return Recorded(requests, n, 0, 0, 0, "planted")

    def _one(self, number: int, topic: int, drawn: np.ndarray) -> RecordedRequest:
        best = max(self.said, key=lambda name: self.said[name][topic])
        odds = {name: self.epsilon / 2 + (1 - self.epsilon) * (name == best) for name in self.said}
        other = next(name for name in self.said if name != best)
        chosen = best if drawn[0] < odds[best] else other
        right = float(drawn[1] < self.truth[chosen][topic])
        return RecordedRequest(
            at=(START + timedelta(seconds=number)).replace(tzinfo=None),
            request_id=f"r{number}",
            virtual_model="auto",
            category=TOPICS[topic],
            objective=Objective(0.0),
            objective_from="config",
            reason="highest_utility",
            chosen=chosen,
            served=chosen,
            propensity=odds[chosen] if self.epsilon else 1.0,
            candidates=tuple(
                CandidateRecord(
                    name, name, p[topic], 100.0, self.cost[name], p[topic], None,
                    propensity=odds[name] if self.epsilon else None,
                )
                for name, p in self.said.items()
            ),
            artifact="a",
            encoder="e",
            prompt_chars=10,
            input_tokens=10,
            max_output_tokens=None,
            needs=(),
            prompt_hash=None,
            prompt=None,
            embedding=None,
            billed_cost_usd=None,
            verdicts=(Verdict("user", right),) if drawn[2] < self.feedback else (),
        )  # fmt: skip


def judged(world: World, n: int = 3000, baseline: str | None = None) -> RoutingVerdict:
    return judge_records(world.records(n), baseline=baseline)


def test_routing_pays_where_each_llm_is_good_at_other_prompts() -> None:
    found = judged(World(truth=SPECIALISTS, said=SPECIALISTS), baseline="big")
    assert found.best.known
    assert found.best.judgement.answer is Answer.PAYS
    assert found.baseline is not None
    assert found.baseline.judgement.answer is Answer.PAYS
    assert found.baseline.judgement.cheaper
    assert {one.topic for one in found.topics} == {"history and geography", "arithmetic"}


def test_predictions_that_are_wrong_are_found_out_by_exploration() -> None:
    """Predicted to be specialists; in truth the big one is best everywhere."""
    found = judged(World(truth=BIG_IS_BEST, said=SPECIALISTS, cost={"big": 0.001, "small": 0.01}))
    assert found.best.known
    assert found.best.llm == "big"
    assert found.best.judgement.answer is Answer.USE_ONE
    assert found.best.headline == (
        "Use big for everything: routing is neither better nor cheaper by an amount worth having."
    )


def test_without_exploration_the_answer_is_not_known_and_the_remedy_is_named() -> None:
    found = judged(World(truth=BIG_IS_BEST, said=SPECIALISTS, epsilon=0.0))
    assert not found.best.known
    assert found.best.supported < 0.6
    assert "exploration: {epsilon: 0.1" in found.best.headline
    assert "more answers needed with feedback" in found.best.headline


def test_a_coin_toss_is_not_shown() -> None:
    same: Truth = {"big": (0.5, 0.5), "small": (0.5, 0.5)}
    level = {"big": 0.01, "small": 0.01}
    found = judged(World(truth=same, said={"big": (0.51, 0.5), "small": (0.5, 0.51)}, cost=level), n=400)
    assert found.best.known
    assert found.best.judgement.answer is Answer.NOT_SHOWN
    assert found.best.judgement.n_more


def test_the_interval_holds_the_truth_although_predictions_are_wrong() -> None:
    """Against always the big one: routing with its exploration is right so much less often."""
    world = World(truth=BIG_IS_BEST, said=SPECIALISTS)
    truth = -0.5 * (0.85 * 0.4 + 0.15 * 0.0) - 0.5 * 0.15 * 0.4
    held = 0
    for seed in range(25):
        found = judge_records(world.records(200, seed), baseline="big").baseline
        assert found is not None
        change = found.judgement.for_accuracy.accuracy_change
        held += change.low <= truth <= change.high
    assert held >= 20


def test_an_llm_that_is_never_chosen_is_named() -> None:
    said = {**SPECIALISTS, "idle": (0.1, 0.1)}
    world = World(truth=said, said=said, cost={**COST, "idle": 0.05})
    roles = {one.llm: one.role for one in judged(world).llms}
    assert roles == {"big": "earns its place", "small": "earns its place", "idle": "never chosen"}


def test_too_few_verdicts_are_an_error_that_says_how_many_there_are() -> None:
    world = World(truth=SPECIALISTS, said=SPECIALISTS, feedback=0.1)
    with pytest.raises(DataError, match=r"100 requests at planted have predictions, and \d+ answers .* at least 30"):
        judge_records(world.records(100))


def test_a_baseline_that_was_no_candidate_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"'bigg' could take none of these requests.*Did you mean 'big'"):
        judged(World(truth=SPECIALISTS, said=SPECIALISTS), n=100, baseline="bigg")


def test_an_answer_by_a_fallback_says_nothing_of_the_chosen_llm() -> None:
    world = World(truth=SPECIALISTS, said=SPECIALISTS)
    recorded = world.records(100)
    fell = Recorded(tuple(replace(r, served="other") for r in recorded.requests), 100, 0, 0, 0, "planted")
    with pytest.raises(DataError, match="and 0 answers"):
        judge_records(fell)


def test_the_command_answers_from_record_files(tmp_path: Path) -> None:
    records = make_records(600)
    folder = write_log(tmp_path / "log", records, make_feedback(records, share=0.5))
    astray = CliRunner().invoke(app, ["verdict", f"--from={folder}", "--virtual-model=atuo"])
    assert astray.exit_code == 2
    assert "no record at" in astray.output
    assert "Did you mean 'auto'?" in " ".join(astray.output.split())
    done = CliRunner().invoke(app, ["verdict", f"--from={folder}", "--virtual-model=auto", "--baseline=wizard"])
    assert done.exit_code == 0, done.output
    first = " ".join(done.stdout.split())
    assert first.startswith("Not known from these records: for")
    assert "Against wizard, which you used before:" in first
    as_json = CliRunner().invoke(app, ["verdict", f"--from={folder}", "--json"])
    fields = orjson.loads(as_json.stdout)
    assert fields["basis"] == "records"
    assert not fields["best"]["known"]


def test_options_of_graded_data_are_refused_with_records(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["verdict", f"--from={tmp_path}", "--llm=a"])
    assert done.exit_code == 2
    assert "--llm go with --data" in done.output


# Pairs of judged evaluation: another LLM answered the same request, and one judge scored both answers.


def with_pairs(world: World, n: int, share: float, seed: int = 0) -> Recorded:
    """The same world, of which a share of the requests was judged: the other LLM answered, too."""
    rng, recorded = np.random.default_rng(seed + 1), world.records(n, seed)
    requests = []
    for request in recorded.requests:
        other = next(name for name in world.said if name != request.chosen)
        topic, (drawn, mine, its) = TOPICS.index(request.category or ""), rng.random(3)
        if drawn < share:
            its_score, score = (float(u < world.truth[n][topic]) for u, n in ((its, other), (mine, request.chosen)))
            beside = (Beside(other, its_score, score, share),)
            request = replace(request, beside=beside, verdicts=(Verdict("judge:umpire", score),))  # noqa: PLW2901
        requests.append(request)
    return replace(recorded, requests=tuple(requests))


UNEXPLORED = World(truth=BIG_IS_BEST, said=SPECIALISTS, epsilon=0.0, feedback=0.0, cost={"big": 0.001, "small": 0.01})


def test_pairs_tell_without_exploration_and_without_anybody_s_feedback() -> None:
    found = judge_records(with_pairs(UNEXPLORED, 2000, 0.2), baseline="big")
    assert found.best.known
    assert found.best.judgement.answer is Answer.USE_ONE
    assert (found.best.llm, found.best.supported) == ("big", pytest.approx(1.0, abs=0.002))
    n_pairs = found.best.n_pairs
    assert 120 < n_pairs < 280  # a fifth of the half that goes to the other one
    assert any(f"rests on {n_pairs:,} requests that both answered" in note for note in found.notes)
    assert found.baseline is not None
    assert found.baseline.n_pairs == n_pairs
    small = judge_records(with_pairs(UNEXPLORED, 2000, 0.2), baseline="small")
    assert [note.split(" rests on ")[0] for note in small.notes if " rests on " in note] == [
        "the comparison with big",
        "the comparison with small",
    ]


def test_few_pairs_are_not_enough() -> None:
    found = judge_records(with_pairs(UNEXPLORED, 320, 0.11), baseline="big")
    assert not found.best.known
    assert 0 < found.best.n_pairs < 20
    assert "verdicts on answers of big count as" in found.best.headline
    assert f"on: {found.best.n_pairs} requests were answered by both" in found.best.headline
    assert "at least 20 must be; a higher judging.share brings more." in found.best.headline
    assert "set judging" not in found.best.headline


def test_where_feedback_tells_more_than_pairs_it_counts() -> None:
    world = World(truth=SPECIALISTS, said=SPECIALISTS, epsilon=0.5, feedback=1.0)
    recorded, few = world.records(3000), with_pairs(replace(world, feedback=0.0), 3000, 0.05)
    both = tuple(replace(one, beside=two.beside) for one, two in zip(recorded.requests, few.requests, strict=True))
    found = judge_records(replace(recorded, requests=both), baseline="big")
    assert found.best.known
    assert found.best.n_pairs == 0
    assert any("they tell less than other feedback does" in note for note in found.notes)


def test_the_interval_by_pairs_holds_the_truth_although_predictions_are_wrong() -> None:
    """Always the big one is right 0.4 more often on the half of the requests that goes to the small one."""
    held, widths = 0, []
    for seed in range(40):
        found = judge_records(with_pairs(UNEXPLORED, 600, 0.3, seed), baseline="big").baseline
        assert found is not None
        assert found.n_pairs
        change = found.judgement.for_accuracy.accuracy_change
        held += change.low <= -0.2 <= change.high
        widths.append(change.high - change.low)
    assert held >= 34
    assert np.mean(widths) < 0.2


def test_requests_that_are_never_judged_leave_it_open() -> None:
    """A tenth of the requests has tools and is never drawn: of these nobody knows."""
    recorded = with_pairs(UNEXPLORED, 2000, 0.3)
    few = tuple(
        replace(one, needs=("tools",), beside=()) if number % 5 == 0 else one
        for number, one in enumerate(recorded.requests)
    )
    found = judge_records(replace(recorded, requests=few), baseline="big")
    assert not found.best.known
    assert found.best.supported == pytest.approx(0.9, abs=0.02)
    assert "--since leaves out requests from before it was on" in found.best.headline
    assert "must be" not in found.best.headline


def test_pairs_of_which_none_differed_prove_no_more_than_their_number() -> None:
    """25 pairs for 1,000 requests: that they never differed is the evidence of 25 answers."""
    level: Truth = {"big": (1.0, 1.0), "small": (1.0, 1.0)}
    world = World(truth=level, said={"big": (1.0, 0.999), "small": (0.999, 1.0)}, epsilon=0.0, feedback=0.0)
    change = judge_records(with_pairs(world, 1000, 0.05), baseline="big").baseline
    assert change is not None
    interval = change.judgement.for_accuracy.accuracy_change
    share = 1 / 2
    assert interval.high > 1.96 * share / (change.n_pairs + 2)


def test_pairs_are_read_from_the_files_beside_their_request(tmp_path: Path) -> None:
    requests = [make_record(n, status="success", served="wizard", chosen="wizard") for n in range(3)]
    beside = replace(
        requests[1], request_id="judged-1", judged_for=requests[1].request_id, judging="contender", judging_share=0.25,
        propensity=0.5, chosen="novice", served="novice", judge="umpire", judge_score=0.75, judge_score_served=0.5,
    )  # fmt: skip
    double = replace(beside, request_id="judged-2", judging="double")
    unread = replace(beside, request_id="judged-3", judge_score=None, judge_score_served=None)
    source = open_source(write_log(tmp_path / "log", [*requests, beside, double, unread], []))
    read = read_recorded(source, Wanted(with_pairs=True)).requests
    assert [one.beside for one in read] == [(), (Beside("novice", 0.75, 0.5, odds=0.125),), ()]
    assert all(not one.beside for one in read_recorded(source).requests)
    source.close()
