"""What was planted is learned, what was not is left alone, and feedback that is wrong does no harm."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from feedback_log import AS_TRAINED, GOOD, World, changed, read_back
from planted import NOVICE, SPRINTER, TOPICS, WIZARD, WORDS

from embedllm_router import Router
from embedllm_router.artifact.manifest import GuaranteeRow
from embedllm_router.artifact.weights import Artifact, check_beside, load_artifact, read_card
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.training.update.answers import gather
from embedllm_router.training.update.fit import Update
from embedllm_router.training.update.guard import Lesson, LessonOptions, LLMLesson
from embedllm_router.training.update.learn import learn_lesson, write_update

Feedback = list[FeedbackRecord]
WORD_OF = {topic: word for word, topic in WORDS.items()}


@dataclass
class School:
    """Learns from worlds."""

    router: Router
    folder: Path

    @property
    def artifact(self) -> Artifact:
        return self.router.artifact

    def teach(
        self, world: World, tamper: Callable[[Feedback], Feedback] = list, options: LessonOptions | None = None
    ) -> tuple[Lesson, Update]:
        records, feedback = world.log(self.router)
        return self.learn(records, tamper(feedback), options)

    def learn(
        self, records: list[RequestRecord], feedback: Feedback, options: LessonOptions | None = None
    ) -> tuple[Lesson, Update]:
        return learn_lesson(read_back(self.folder / "log", records, feedback), self.artifact, options)

    def written(self, lesson: Lesson, update: Update) -> Router:
        out = self.folder / "new"
        write_update(self.artifact, "# Parent\n", update, lesson, out)
        return Router.load(out)


@pytest.fixture
def school(router: Router, tmp_path: Path) -> School:
    return School(router, tmp_path)


def p_correct(router: Router, llm: str, topic: str) -> float:
    assessed = router.route(WORD_OF[topic]).decision.named(llm)
    assert assessed is not None
    assert assessed.p_correct is not None
    return assessed.p_correct


def of(lesson: Lesson, llm: str) -> LLMLesson:
    return next(one for one in lesson.llms if one.llm == llm)


def coin_flips(feedback: Feedback, seed: int = 1) -> Feedback:
    rng = random.Random(seed)
    return [replace(one, score=float(rng.random() < 0.5)) for one in feedback]


@pytest.mark.parametrize("keep", ["embedding", "text"])
def test_an_llm_that_got_worse_in_one_topic_is_learned_and_the_others_stay(school: School, keep: str) -> None:
    lesson, update = school.teach(World(changed(WIZARD, "maths", 0.2), keep=keep))
    assert lesson.refusals == ()
    assert of(lesson, WIZARD).changed == "embedding"
    assert lesson.held.change.negative
    new = school.written(lesson, update)
    assert p_correct(new, WIZARD, "maths") < 0.5
    for topic in ("chat", "law", "code"):
        assert p_correct(new, WIZARD, topic) > 0.85
    for llm in (SPRINTER, NOVICE):
        for topic in TOPICS:
            assert p_correct(new, llm, topic) == pytest.approx(p_correct(school.router, llm, topic), abs=0.05)


def test_the_parents_contract_is_not_handed_down(school: School) -> None:
    row = GuaranteeRow(
        promise="min_p_correct",
        value=0.9,
        n_prompts=10,
        n_labels=10,
        predicted=0.9,
        correct=0.9,
        low=0.8,
        high=1.0,
        at_least=0.82,
    )
    lesson, update = school.teach(World(changed(WIZARD, "maths", 0.2)))
    manifest = school.artifact.manifest.model_copy(update={"contract": (row,)})
    parent = replace(school.artifact, manifest=manifest)
    assert write_update(parent, "", update, lesson, school.folder / "new").manifest.contract == ()


def test_the_new_weights_route_around_it(school: School) -> None:
    lesson, update = school.teach(World(changed(WIZARD, "maths", 0.1)))
    chosen = school.written(lesson, update).route("integral").decision
    assert school.router.route("integral").decision.assessments()[0].llm == WIZARD
    best = max((a for a in chosen.assessments() if a.p_correct is not None), key=lambda a: a.p_correct or 0)
    assert best.llm == NOVICE


def test_the_written_artifact_predicts_what_the_update_says(school: School) -> None:
    records, feedback = World(changed(WIZARD, "maths", 0.2), n=600).log(school.router)
    recorded = read_back(school.folder / "log", records, feedback)
    lesson, update = learn_lesson(recorded, school.artifact)
    new = school.written(lesson, update)
    said = update.logit(gather(recorded, school.artifact, max_weight=10).answers)
    found = gather(recorded, new.artifact, max_weight=10).answers.logit
    assert np.abs(said - found).max() < 1e-4
    assert np.abs(found - gather(recorded, school.artifact, max_weight=10).answers.logit).max() > 1


def test_the_written_artifact_is_a_child_that_reads_the_same_embeddings(school: School) -> None:
    lesson, update = school.teach(World(changed(WIZARD, "maths", 0.2)))
    new = school.written(lesson, update)
    assert new.artifact.manifest.training["parent_artifact"] == school.artifact.id
    assert "answers with feedback that were held out" in new.artifact.manifest.measured
    assert school.artifact.manifest.measured == "Measured on benchmark prompts that training set aside."
    assert new.artifact.manifest.training["feedback_answers"] == lesson.n_answers
    assert new.artifact.id != school.artifact.id
    assert new.encoder_id == school.router.encoder_id


def test_without_text_or_embedding_the_calibration_learns(school: School) -> None:
    lesson, update = school.teach(World(changed(WIZARD, "maths", 0.2), keep="neither"))
    assert lesson.basis == {"recorded probability by the same weights": 1200}
    assert of(lesson, WIZARD).changed == "offset"
    assert of(lesson, WIZARD).offset < -0.5
    assert lesson.shared.terms == "offsets"
    assert lesson.refusals == ()
    assert p_correct(school.written(lesson, update), WIZARD, "chat") < GOOD - 0.05  # it cannot tell topics apart


def test_a_recorded_probability_of_other_weights_is_not_used(school: School) -> None:
    records, feedback = World(keep="neither", n=200).log(school.router)
    others = [replace(r, artifact="0" * 12) for r in records]
    with pytest.raises(DataError, match=r"decided by other weights': 200"):
        school.learn(others, feedback)


def test_the_embedding_is_learned_from_what_has_one_even_by_other_weights(school: School) -> None:
    records, feedback = World(changed(WIZARD, "maths", 0.2)).log(school.router)
    lesson, _ = school.learn([replace(r, artifact="0" * 12) for r in records], feedback)
    assert of(lesson, WIZARD).changed == "embedding"


def test_feedback_as_the_weights_predict_changes_nothing(school: School) -> None:
    lesson, update = school.teach(World(seed=4))
    assert not lesson.changes
    assert lesson.refusals == ()
    for name, tensor in update.applied(school.artifact).decoder.items():
        np.testing.assert_array_equal(tensor, school.artifact.decoder[name])


def test_thin_feedback_changes_little(school: School) -> None:
    """Ninety answers over three LLMs, seven times: whatever chance says, probabilities hardly move."""
    lessons = [school.teach(World(n=90, seed=seed))[0] for seed in range(7)]
    shifts = [abs(one.mean_p_after - one.mean_p_before) for lesson in lessons for one in lesson.llms]
    assert np.mean(shifts) < 0.03


@pytest.mark.parametrize("seed", range(4))
def test_feedback_by_the_toss_of_a_coin_is_refused(school: School, seed: int) -> None:
    lesson, _ = school.teach(World(n=600, seed=seed), lambda said: coin_flips(said, seed))
    assert [one.finding for one in lesson.sources] == ["unrelated"]
    assert any("nothing to do with" in reason for reason in lesson.refusals)


def test_so_few_tosses_of_a_coin_that_nobody_can_tell_are_not_called_agreement(school: School) -> None:
    found = [school.teach(World(n=52, seed=seed), partial(coin_flips, seed=seed))[0] for seed in range(4)]
    assert "too few to tell" in {one.finding for lesson in found for one in lesson.sources}
    assert all(one.auc > 0.6 for lesson in found for one in lesson.sources if one.finding == "agrees")


def test_feedback_turned_round_is_refused(school: School) -> None:
    lesson, _ = school.teach(World(n=600), lambda said: [replace(one, score=1 - one.score) for one in said])
    assert any("is its scale reversed?" in reason for reason in lesson.refusals)


def test_one_bad_source_beside_a_good_one_is_named(school: School) -> None:
    def tamper(said: Feedback) -> Feedback:
        return [*said, *(replace(one, score=1 - one.score, source="judge") for one in said[::2])]

    lesson, _ = school.teach(World(n=600), tamper)
    assert {one.source: one.finding for one in lesson.sources} == {"user": "agrees", "judge": "contradicts"}
    assert len([reason for reason in lesson.refusals if "'judge'" in reason]) == 1


def test_poison_that_ended_before_the_held_out_answers_is_refused_by_them(school: School) -> None:
    lesson, _ = school.teach(World(), lambda said: [*coin_flips(said[:800]), *said[800:]])
    assert any("held-out log-loss" in reason for reason in lesson.refusals)
    assert lesson.held.change.positive


def test_a_few_bad_verdicts_do_not_matter(school: School) -> None:
    lesson, _ = school.teach(World(changed(WIZARD, "maths", 0.2)), lambda said: [*coin_flips(said[:60]), *said[60:]])
    assert lesson.refusals == ()


def harsher(p: float, by: float) -> float:
    return 1 / (1 + math.exp(by - math.log(p / (1 - p))))


def test_harsh_people_lower_every_llm_also_the_one_nobody_spoke_of(school: School) -> None:
    """Needs three LLMs with feedback, so a fourth is added that has none."""
    harsh = {llm: {t: harsher(p, 1.5) for t, p in topics.items()} for llm, topics in AS_TRAINED.items()}
    lesson, update = school.teach(World(harsh, n=2000))
    assert lesson.common == pytest.approx(-1.5, abs=0.4)
    assert lesson.refusals == ()
    bias = np.append(school.artifact.decoder["llm_bias"], np.float32(0))
    embeddings = np.vstack([school.artifact.decoder["llm_embeddings"], np.zeros((1, len(TOPICS)), np.float32)])
    wider = replace(
        school.artifact, decoder={**school.artifact.decoder, "llm_bias": bias, "llm_embeddings": embeddings}
    )
    assert update.applied(wider).decoder["llm_bias"][3] == pytest.approx(-1.5, abs=0.4)


def test_one_llm_that_got_worse_lowers_nobody_else(school: School) -> None:
    worse = {**AS_TRAINED, WIZARD: dict.fromkeys(TOPICS, 0.3)}
    lesson, _ = school.teach(World(worse, n=2000))
    assert abs(lesson.common) < 0.05
    assert of(lesson, WIZARD).mean_p_after == pytest.approx(0.3, abs=0.06)


def test_explored_answers_count_by_their_propensity_and_no_more_than_allowed(school: School) -> None:
    """The wizard is asked 30 times as rarely: its answers weigh up to the limit, and count as that many."""
    world = World(asked={WIZARD: 0.03, SPRINTER: 0.485, NOVICE: 0.485}, n=1500)
    lesson, _ = school.teach(world, options=LessonOptions(max_weight=10.0))
    n_wizard = of(lesson, WIZARD).n + of(lesson, WIZARD).n_held
    assert (lesson.n_explored, lesson.n_clipped) == (1500, n_wizard)
    assert of(lesson, WIZARD).effective_n == pytest.approx(of(lesson, WIZARD).n)  # equal weights


def test_weights_correct_what_exploration_skewed(school: School) -> None:
    """The wizard was right on chat and wrong on maths, and asked ten times as often on chat; no text was kept.

    Unweighted, its mean probability would follow chat; weighted, it follows the traffic.
    """
    records, feedback = World(changed(WIZARD, "maths", 0.05), keep="neither", n=3000).log(school.router)
    rng = random.Random(0)
    kept, said = [], []
    for record, verdict in zip(records, feedback, strict=True):
        maths = record.prompt_chars == len("integral")
        chance = 0.1 if maths and record.chosen == WIZARD else 1.0
        if rng.random() < chance:
            kept.append(replace(record, propensity=record.propensity * chance))
            said.append(verdict)
    weighted, _ = school.learn(kept, said, LessonOptions(max_weight=1000))
    flat, _ = school.learn(kept, said, LessonOptions(max_weight=1))
    truth = (3 * GOOD + 0.05) / 4
    off = of(flat, WIZARD).mean_p_after - truth
    assert off > 0.1
    assert abs(of(weighted, WIZARD).mean_p_after - truth) < off / 2  # the prior holds back the rest
    assert of(weighted, WIZARD).effective_n < of(flat, WIZARD).effective_n


def test_a_fallbacks_answer_teaches_about_the_fallback(school: School) -> None:
    """Every answer was the sprinter's, whatever was chosen."""
    records, feedback = World(n=300).log(school.router)
    lesson, _ = school.learn([replace(r, served=SPRINTER, fallback=True) for r in records], feedback)
    assert [one.llm for one in lesson.llms] == [SPRINTER]


def test_the_held_out_answers_are_the_newest_or_those_a_hash_says(school: School) -> None:
    world = World(n=400)
    by_time, _ = school.teach(world, options=LessonOptions(holdout=0.3))
    assert by_time.held.n == 120
    by_prompt, _ = school.teach(world, options=LessonOptions(holdout=0.3, by="prompt"))
    assert 80 <= by_prompt.held.n <= 160
    again, _ = school.teach(world, options=LessonOptions(holdout=0.3, by="prompt"))
    assert again == by_prompt


def test_equal_prompts_are_never_on_both_sides_of_a_hashed_split(school: School) -> None:
    records, feedback = World(n=400).log(school.router)
    same = [replace(r, prompt_hash="0" * 24) for r in records]
    with pytest.raises(DataError, match="held out"):
        school.learn(same, feedback, LessonOptions(by="prompt"))


def test_too_little_feedback_is_said(school: School) -> None:
    with pytest.raises(DataError, match="19 usable answers"):
        school.teach(World(n=19))
    with pytest.raises(DataError, match="0 usable answers"):
        school.teach(World(n=30), lambda _: [])


def test_an_llm_the_weights_do_not_know_is_left_out(school: School) -> None:
    records, feedback = World(n=300).log(school.router)
    strange = [replace(r, served="stranger") if i % 2 else r for i, r in enumerate(records)]
    lesson, _ = school.learn(strange, feedback)
    assert lesson.n_answers == 150
    assert lesson.skipped == {"no LLM answered that these weights know": 150}


def test_the_parent_is_never_overwritten(artifact_dir: Path) -> None:
    with pytest.raises(ConfigError, match="name another folder"):
        check_beside(artifact_dir, artifact_dir / ".." / artifact_dir.name)


def test_the_card_says_what_it_was_learned_from(school: School, artifact_dir: Path) -> None:
    lesson, update = school.teach(World(changed(WIZARD, "maths", 0.2)))
    new = school.written(lesson, update)
    card = read_card(school.folder / "new")
    assert card.startswith("# Parent\n")
    assert f"parent is {school.artifact.id}" in card
    assert f"| {WIZARD} |" in card
    assert new.artifact.manifest.metrics["feedback.log_loss"] == lesson.held.log_loss_after
    assert load_artifact(artifact_dir).id == school.artifact.id  # the parent is as it was
