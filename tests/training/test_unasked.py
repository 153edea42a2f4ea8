"""Learning unasked: what is learned is guarded, put in place whole, counted once, and can be undone."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from feedback_log import START, World, changed
from planted import WIZARD

from embedllm_router import Router
from embedllm_router.artifact.versions import Attempt, Versions
from embedllm_router.errors import ArtifactError, DataError
from embedllm_router.records.schema import FeedbackRecord
from embedllm_router.training.update.unasked import Job, attempt

WORSE = World(changed(WIZARD, "maths", 0.2), n=400)
NOW = START + timedelta(days=2)


class Bench:
    """A log in files, learned from unasked."""

    def __init__(self, router: Router, artifact: Path, folder: Path) -> None:
        self.router, self.artifact, self.log, self.folder = router, artifact, folder / "log", folder / "learned"
        self.versions = Versions(self.folder, router.artifact_id)
        self.log.mkdir()

    def write(
        self, world: World, *, name: str = "planted", later: timedelta = timedelta(), inverted: bool = False
    ) -> None:
        records, feedback = world.log(self.router)
        moved = [replace(one, at=one.at + later, request_id=f"{name}-{one.request_id}") for one in records]
        said = [replace(self._turned(one, inverted=inverted), at=one.at + later) for one in feedback]
        said = [replace(one, request_id=f"{name}-{one.request_id}") for one in said]
        for kind, written in (("requests", moved), ("feedback", said)):
            (self.log / f"{kind}-{name}.jsonl").write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in written))

    def learn(self, now: datetime = NOW, **changes: object) -> Attempt | None:
        return attempt(self.job(**changes), now)

    def job(self, **changes: object) -> Job:
        job = Job(
            store=str(self.log),
            artifact=self.artifact,
            folder=self.folder,
            every=50,
            keep=1,
            sources=None,
            max_requests=20_000,
            timeout_s=60,
            memory_mb=4096,
        )
        return replace(job, **changes)  # type: ignore[arg-type]  # names and types are those above

    def undo(self, now: datetime) -> Attempt | None:
        with self.versions.lock() as held:
            assert held is not None
            return self.versions.undo(now, now)

    @property
    def kept(self) -> set[str]:
        return {folder.name for folder in self.versions.folder.iterdir() if folder.is_dir()}

    @staticmethod
    def _turned(one: FeedbackRecord, *, inverted: bool) -> FeedbackRecord:
        return replace(one, score=1 - one.score) if inverted else one


@pytest.fixture
def bench(router: Router, artifact_dir: Path, tmp_path: Path) -> Bench:
    (one := Bench(router, artifact_dir, tmp_path)).versions.folder.mkdir(parents=True)
    return one


def test_better_weights_are_put_in_place_and_say_what_they_are(bench: Bench) -> None:
    bench.write(WORSE)
    made = bench.learn()
    assert made is not None
    assert (made.outcome, made.n_verdicts, made.n_answers) == ("learned", 400, 400)
    assert (made.change_high or 0) < 0
    assert made.before == bench.router.artifact_id
    assert made.artifact == bench.versions.current()
    learned = bench.versions.path_of(bench.versions.current())
    assert learned is not None
    router = Router.load(learned)
    assert router.artifact_id == made.artifact
    assert router.artifact.manifest.training["parent_artifact"] == bench.router.artifact_id
    assert bench.versions.attempts() == (made,)


def test_a_verdict_is_counted_once(bench: Bench) -> None:
    bench.write(WORSE)
    assert bench.learn() is not None
    assert bench.learn() is None
    bench.write(World(n=49), name="few", later=timedelta(days=1))
    assert bench.learn() is None
    bench.write(World(n=50), name="few", later=timedelta(days=1))
    made = bench.learn()
    assert made is not None
    assert made.n_verdicts == 50
    assert made.n_answers == 450, "all verdicts are learned from, by the weights that the settings name"


def test_refused_weights_change_nothing(bench: Bench) -> None:
    bench.write(World(n=400), inverted=True)
    made = bench.learn()
    assert made is not None
    assert made.outcome == "refused"
    assert any("contradicts the weights" in reason for reason in made.reasons)
    assert bench.versions.current() == bench.router.artifact_id
    assert bench.kept == set()
    assert bench.learn() is None, "refused verdicts are not tried again by themselves"


@pytest.mark.parametrize(("world", "outcome"), [(World(n=800, seed=4), "unchanged"), (World(n=10), "too_few")])
def test_nothing_to_learn_is_kept_on_record(bench: Bench, world: World, outcome: str) -> None:
    bench.write(world)
    made = bench.learn(every=10)
    assert made is not None
    assert made.outcome == outcome
    assert bench.versions.current() == bench.router.artifact_id
    assert bench.versions.attempts() == (made,)


def test_only_the_sources_that_count_are_counted(bench: Bench) -> None:
    bench.write(WORSE)
    assert bench.learn(sources=("judge",)) is None
    assert bench.learn(sources=("judge", "user")) is not None


def test_undone_weights_do_not_come_back_before_new_verdicts(bench: Bench) -> None:
    bench.write(WORSE)
    made = bench.learn()
    assert made is not None
    back = bench.undo(NOW)
    assert back is not None
    assert (back.outcome, back.artifact, back.before) == ("undone", bench.router.artifact_id, made.artifact)
    assert bench.versions.current() == bench.router.artifact_id
    assert bench.learn(NOW + timedelta(hours=1)) is None
    assert bench.undo(NOW) is None, "there is nothing further back"
    bench.write(replace(WORSE, n=60), name="more", later=timedelta(days=3))
    again = bench.learn(NOW + timedelta(days=3))
    assert again is not None
    assert (again.outcome, again.before) == ("learned", bench.router.artifact_id)


def test_older_weights_go_and_one_can_go_back_as_far_as_they_are_kept(bench: Bench) -> None:
    ids = []
    for number in range(3):
        bench.write(replace(WORSE, n=300, seed=number), name=f"log{number}", later=timedelta(days=number))
        made = bench.learn(NOW + timedelta(days=number))
        assert made is not None
        ids.append(made.artifact)
    assert bench.kept == set(ids[1:])
    back = bench.undo(NOW + timedelta(days=9))
    assert back is not None
    assert back.artifact == bench.versions.current() == ids[1]
    further = bench.undo(NOW + timedelta(days=9))
    assert further is not None
    assert further.artifact == bench.router.artifact_id, "the first is gone, so the parent decides"


def _cut(bench: Bench) -> None:
    (bench.log / "requests-bad.parquet").write_bytes(b"PAR1 no more than this")


def _attempts_damaged(bench: Bench) -> None:
    (bench.versions.folder / "attempts.json").write_text("{")


def _no_parent(bench: Bench) -> None:
    shutil.rmtree(bench.artifact)


@pytest.mark.parametrize(
    ("harm", "error"), [(_cut, DataError), (_attempts_damaged, ArtifactError), (_no_parent, ArtifactError)]
)
def test_trouble_is_one_error_and_changes_nothing(
    bench: Bench, tmp_path: Path, harm: Callable[[Bench], None], error: type[Exception]
) -> None:
    bench.artifact = Path(shutil.copytree(bench.artifact, tmp_path / "parent"))
    bench.write(WORSE)
    harm(bench)
    with pytest.raises(error):
        bench.learn()
    assert bench.versions.current() == bench.router.artifact_id


def test_what_a_crash_left_behind_is_cleared_away(bench: Bench) -> None:
    bench.write(WORSE)
    for left in ("draft", ".draft-x7"):
        (bench.versions.folder / left).mkdir(parents=True)
        (bench.versions.folder / left / "half").write_bytes(b"?")
    made = bench.learn()
    assert made is not None
    assert bench.kept == {made.artifact}


def test_a_damaged_pointer_is_an_error_with_a_remedy(bench: Bench) -> None:
    for text in ("{", '{"artifact": "../../etc"}', '{"artifact": "0a1b2c3d4e5f", "more": 1}'):
        bench.versions.pointer.write_text(text)
        with pytest.raises(ArtifactError, match=r"damaged. Remove it"):
            bench.versions.current()


def test_one_process_at_a_time_has_the_lock(bench: Bench) -> None:
    with bench.versions.lock() as first, bench.versions.lock() as second:
        assert first is not None
        assert second is None
    with bench.versions.lock() as third:
        assert third is not None


def test_times_are_read_back_as_they_were_written(bench: Bench) -> None:
    said = Attempt(at=datetime(2026, 1, 1, tzinfo=UTC), outcome="refused", reasons=("no",), log_loss_before=0.5)
    bench.versions.note(said, said.at)
    assert bench.versions.attempts() == (said,)
    assert bench.versions.seen_until() == said.at
    bench.versions.note(said, said.at - timedelta(days=1))
    assert bench.versions.seen_until() == said.at, "it never goes back"
