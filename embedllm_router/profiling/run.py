"""The order of events: prompts are chosen, asked and graded in rounds, then the weights learn from the grades."""

import asyncio
import math
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from embedllm_router._stats import sigmoid
from embedllm_router.artifact.weights import Artifact, read_card
from embedllm_router.data.matrix import CorrectnessMatrix
from embedllm_router.errors import ConfigError
from embedllm_router.evaluation.inputs import OnProgress
from embedllm_router.profiling.calls import USED_UP, Asks, Budget, Call, Caller, Pace
from embedllm_router.profiling.choosing import Known, choose
from embedllm_router.profiling.doubts import GradedAnswer, doubts, why_not_learned
from embedllm_router.profiling.graders import LATER, grade, same_answer
from embedllm_router.profiling.journal import Begun, CallKey, Ended, Graded, History, Journal
from embedllm_router.profiling.judging import JUDGE_TOKENS, judge_messages, read_verdict
from embedllm_router.profiling.learning import Embeddings, learn, predicted, priors, write_learned
from embedllm_router.profiling.pool import Pool, expected_tokens
from embedllm_router.profiling.result import JudgeResult, LLMResult, Result, judge_result_of, result_of, unknown_because
from embedllm_router.profiling.sandbox import run_tests
from embedllm_router.profiling.set_aside import SetAside, set_aside, write_set_aside
from embedllm_router.profiling.tasks import Task
from embedllm_router.proxy.asking import Asker
from embedllm_router.proxy.call import Reply, billed_usd, bound_usd, cost_usd
from embedllm_router.training.add_llm import Population, embed

__all__ = ["Options", "Profile", "Progress", "run"]

Floats = NDArray[np.float64]
_ROUNDS: Final = 5
_LEAST_ROUND: Final = 10
_CHARS_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a pool is asked.

    Attributes:
        n: Prompts for each LLM at most.
        budget_usd: What everything may cost, judges included.
        cost_weight: λ by which the LLMs will be chosen; prompts are preferred at which it is open who is.
        max_tokens: Most tokens of an answer, hidden reasoning included.
        timeout_s: Seconds after which a request is given up.
        pace: How requests are sent.
        grades_to: File for prompts and grades as JSON lines, which `ingest` reads; None writes none.
        unfinished_are_wrong: Whether an empty or truncated answer is a wrong one; else it is not graded.
        n_set_aside: Prompts that are set aside for the verdict: drawn at random, put to every LLM, not learned from.
        data_to: Data folder for their grades; None where none are set aside.
    """

    n: int = 200
    budget_usd: float = 5.0
    cost_weight: float = 20.0
    max_tokens: int = 4096
    timeout_s: float = 120.0
    pace: Pace = field(default_factory=Pace)
    grades_to: Path | None = None
    unfinished_are_wrong: bool = False
    n_set_aside: int = 0
    data_to: Path | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        done: Prompts that each LLM has done with, by model group.
        planned: Prompts for each LLM.
        spent_usd: Known bills.
        unknown_usd: The most that requests without a known bill can have cost.
    """

    done: Mapping[str, int]
    planned: int
    spent_usd: float
    unknown_usd: float


OnAsked = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Profile:
    """What is asked of whom.

    Attributes:
        artifact: The weights that shall know the pool.
        pool: Who is asked.
        tasks: What may be asked.
        prompts: Embeddings of the tasks.
        known: What is known of each contestant, by model group.
        answer_usd: What an answer is expected to cost, by model group.
    """

    artifact: Artifact
    pool: Pool
    tasks: tuple[Task, ...]
    prompts: Embeddings
    known: Mapping[str, Known]
    answer_usd: Mapping[str, float]

    @classmethod
    def of(
        cls, artifact: Artifact, pool: Pool, tasks: Sequence[Task], on_progress: OnProgress | None = None
    ) -> "Profile":
        """Reads the tasks and what is known of the pool."""
        prompts = embed(artifact, [task.text for task in tasks], on_progress)
        population = Population.of(artifact, "prompt")
        columns = population.columns(prompts)
        nothing = np.zeros(0, dtype=np.intp), np.zeros(0)
        before = priors(artifact, population, pool.contestants)
        known = {name: Known(may_be, columns, *nothing) for name, may_be in before.items()}
        usual = round(float(np.mean([task.n_bytes for task in tasks])) / _CHARS_PER_TOKEN)
        usd = {
            one.name: cost_usd(one.group.candidate, usual, round(expected_tokens(artifact, one, prompts))) or 0.0
            for one in pool.contestants
        }
        return cls(artifact, pool, tuple(tasks), prompts, known, usd)

    def p_before(self, name: str) -> float:
        """p_correct that is expected of a contestant on all tasks before any answer, on average."""
        one = self.known[name]
        return float(sigmoid(one.columns @ one.population.mean).mean())

    @property
    def strongest(self) -> str:
        """The contestant that is expected to be right most often."""
        return max(self.known, key=self.p_before)


def run(  # noqa: PLR0913, PLR0917 - what, how, where to and who watches
    profile: Profile,
    options: Options,
    asker: Asker,
    journal: Journal,
    card: Path,
    out: Path,
    on_asked: OnAsked = lambda _: None,
) -> Result:
    """Asks a pool and learns from its answers.

    Args:
        profile: What is asked of whom.
        options: How.
        asker: What sends requests to the pool.
        journal: Where everything is written down; one that is not empty is gone on with.
        card: Folder of the weights, whose model card is handed down.
        out: Folder of the new weights.
        on_asked: Called after each request.

    Raises:
        ConfigError: The journal cannot be written, or the weights in `out` learned
            from prompts that this run does not have.
        ArtifactError: `out` holds something else.
    """
    _check_prompts(profile, journal, out)
    if journal.history.begun is None:
        journal.write(Begun(weights=profile.artifact.id))
    session = Session(profile, options, journal, asker, on_asked)
    asyncio.run(_asked(session, asker, profile.pool.contestants[0].group.candidate.group))
    return _result(session, read_card(card), out)


def _others(profile: Profile, history: History) -> set[str]:
    """Tasks of the journal that this run does not have; what was asked there, the journal does not say."""
    return {key.task for key in history.ended if not key.judged} - {task.id for task in profile.tasks}


def _check_prompts(profile: Profile, journal: Journal, out: Path) -> None:
    others = _others(profile, journal.history)
    if others and out.exists():
        raise ConfigError(
            f"{out} holds weights that learned from {len(others):,} prompts which this run does not have; it would "
            "replace them by weights without these. Name another --out; or give the earlier prompts too, in one file "
            "with the new ones, or as before by --n and --seed."
        )


async def _asked(session: "Session", asker: Asker, first: str) -> None:
    await asker.warm_up(first)
    with _stopped_by_hand(session):
        await session.ask_all()


@contextmanager
def _stopped_by_hand(session: "Session") -> Iterator[None]:
    """Ctrl-C lets what is under way end, since it is paid for; a second one does not."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        if session.caller.stopping and task is not None:
            task.cancel()
        session.caller.stopping = True

    signals = (signal.SIGINT, signal.SIGTERM)
    for one in signals:
        loop.add_signal_handler(one, stop)
    try:
        yield
    except asyncio.CancelledError:
        if not session.caller.stopping:
            raise
    finally:
        for one in signals:
            loop.remove_signal_handler(one)


class Session:
    """One run: prompts in rounds, each chosen by what the rounds before have shown.

    Args:
        profile: What is asked of whom.
        options: How.
        journal: Where everything is written down.
        asks: What sends requests.
        on_asked: Called after each request.

    Attributes:
        caller: Carries the requests out.
    """

    def __init__(
        self, profile: Profile, options: Options, journal: Journal, asks: Asks, on_asked: OnAsked = lambda _: None
    ) -> None:
        self.profile, self.options, self.journal, self._on_asked = profile, options, journal, on_asked
        self._tasks = {task.id: task for task in profile.tasks}
        self._rows = {task.id: row for row, task in enumerate(profile.tasks)}
        self._aside = set_aside(profile.tasks, options.n_set_aside)
        self._texts = {key: end.text for key, end in journal.history.ended.items() if end.text is not None}
        budget = Budget(options.budget_usd, journal.history.counted_usd)
        self._ended_now, self._judged_now, self._upto = set[CallKey](), set[CallKey](), 0
        self._n_done = Counter({name: len(self._taken(name)) for name in profile.known})
        self.caller = Caller(
            asks, budget, journal, options.pace, price=self._price, mark=self._mark, on_ended=self._ended
        )

    @property
    def history(self) -> History:
        """The journal's."""
        return self.journal.history

    async def ask_all(self) -> None:
        """Asks everybody; prompts are chosen in rounds, each by the answers until then."""
        await self.caller.carry_out(self._next)

    def _next(self) -> list[Call]:
        calls = self._grading_calls()
        while not calls and self._upto < self.options.n:
            self._upto = min(self._upto + max(-(-self.options.n // _ROUNDS), _LEAST_ROUND), self.options.n)
            calls = self._next_calls(self._upto)
        return calls

    # Choosing

    def _next_calls(self, upto: int) -> list[Call]:
        taken = {name: self._taken(name) for name in self.profile.known if name not in self.caller.given_up}
        known = {name: self._with_answers(name) for name in taken}
        if not known:
            return []
        calls = self._of_those_aside(taken, upto)
        due = Counter(name for name, _ in calls)
        short = {name: max(upto - len(rows) - due[name], 0) for name, rows in taken.items()}
        if most := max(short.values()):
            never = {name: rows.union(self._aside) for name, rows in taken.items()}
            chosen = choose(known, self.profile.answer_usd, self.options.cost_weight, most, never)
            calls += _in_turn({name: rows[: short[name]] for name, rows in chosen.items()})
        return [self._call(name, self.profile.tasks[row]) for name, row in self._with_the_strongest(calls)]

    def _of_those_aside(self, taken: Mapping[str, set[int]], upto: int) -> list[tuple[str, int]]:
        """Prompts set aside that are due, as large a part of them as of all: a budget that ends early cuts both."""
        n = min(self.options.n, len(self.profile.tasks))
        due = self._aside[: math.ceil(len(self._aside) * min(upto / n, 1.0))]
        return [(name, row) for row in due for name, rows in taken.items() if row not in rows]

    def _with_the_strongest(self, calls: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Where answers are compared with the strongest LLM's, it is asked too."""
        agreeing = {row: None for _, row in calls if self.profile.tasks[row].grader.type == "agreement"}
        strongest = self.profile.strongest
        return list(dict.fromkeys([*((strongest, row) for row in agreeing), *calls]))

    def _taken(self, name: str) -> set[int]:
        keys = [key for key in (*self.history.lost, *self.history.ended) if key.llm == name and not key.judged]
        done = (key for key in keys if key in self._ended_now or self.history.is_settled(key))
        return {self._rows[key.task] for key in done if key.task in self._rows}

    def _with_answers(self, name: str) -> Known:
        scores = self.taught(name)
        asked = np.fromiter((self._rows[task] for task in scores), dtype=np.intp)
        return replace(self.profile.known[name], asked=asked, score=np.fromiter(scores.values(), dtype=np.float64))

    def finished(self, name: str) -> bool:
        """Whether an LLM was asked to the end, or as far as the budget went."""
        return self.caller.given_up.get(name, USED_UP) == USED_UP

    def scores(self, name: str) -> dict[str, float]:
        """Grades of an LLM's answers, by task."""
        keys = [key for key in self.history.ended if key.llm == name and not key.judged and key.task in self._rows]
        return {key.task: score for key in keys if (score := self._score(key)) is not None}

    def taught(self, name: str) -> dict[str, float]:
        """Of these the ones that weights learn from, and prompts are chosen by: none of a prompt set aside."""
        aside = self.aside
        return {task: score for task, score in self.scores(name).items() if task not in aside}

    @property
    def aside(self) -> frozenset[str]:
        """Tasks set aside for the verdict."""
        return frozenset(self.profile.tasks[row].id for row in self._aside)

    def graded(self) -> list[GradedAnswer]:
        """All grades, LLM by LLM."""
        return [
            GradedAnswer(name, self._tasks[task].grader.type, score)
            for name in self.profile.known
            for task, score in self.scores(name).items()
        ]

    def _score(self, key: CallKey) -> float | None:
        unfinished = self.history.ended[key].outcome in {"empty", "truncated"}
        return 0.0 if unfinished and self.options.unfinished_are_wrong else self.history.score(key)

    # Asking

    def _call(self, name: str, task: Task) -> Call:
        most = self.options.max_tokens
        bound = bound_usd(self.profile.pool.candidates[name], task.n_bytes, len(task.messages), most)
        assert bound is not None  # the pool has nobody without a price
        asked = self.profile.pool.candidates[name]
        return Call(CallKey(name, task.id), task.messages, bound, most, asked.group, asked.effort)

    def _price(self, call: Call, reply: Reply) -> float | None:
        return billed_usd(self.profile.pool.candidates[call.key.llm], reply)

    async def _mark(self, call: Call, reply: Reply) -> tuple[float | None, str]:
        if call.key.judged:
            verdict = read_verdict(reply.text)
            return verdict.score, verdict.why
        grader = self._tasks[call.key.task].grader
        self._texts[call.key] = reply.text
        if grader.type == "unit_tests":
            found = await asyncio.to_thread(run_tests, str(grader.reference), reply.text)
        elif grader.type in LATER:
            return None, ""
        else:
            found = grade(grader, reply.text)
        return found.score, found.why

    def _ended(self, ended: Ended, is_done: bool) -> None:  # noqa: FBT001 - called by `Caller` alone
        if ended.key.judged and ended.outcome == "answered":
            about = CallKey(ended.key.judged, ended.key.task)
            self.journal.write(Graded(key=about, score=ended.score, why=ended.why))
        elif is_done and not ended.key.judged:
            self._ended_now.add(ended.key)
            self._n_done[ended.key.llm] += 1
        self._on_asked(Progress(self._n_done, self.options.n, self.history.spent_usd, self.history.unknown_usd))

    # Grading by others

    def _grading_calls(self) -> list[Call]:
        """Compares answers with the strongest LLM's, and has judged what is to be judged."""
        waiting = [key for key in self._texts if key.task in self._tasks and self.history.score(key) is None]
        for key in waiting:
            if self._kind(key) == "agreement":
                self._compare(key)
        judged = [
            key for key in waiting if self._kind(key) == "judge" and key not in self._judged_now and not key.judged
        ]
        self._judged_now.update(judged)
        return [call for key in judged if (call := self._judge_call(key)) is not None]

    def _kind(self, key: CallKey) -> str:
        return self._tasks[key.task].grader.type

    def _compare(self, key: CallKey) -> None:
        strongest = self._texts.get(CallKey(self.profile.strongest, key.task))
        if key.llm != self.profile.strongest and strongest is not None:
            self.journal.write(Graded(key=key, score=float(same_answer(self._texts[key], strongest))))

    def _judge_call(self, key: CallKey) -> Call | None:
        judge = self.profile.pool.judge_of(key.llm)
        if judge in self.caller.given_up:
            return None
        messages = judge_messages(self._tasks[key.task], self._texts[key])
        n_bytes = sum(len(one.content.encode("utf-8", "surrogatepass")) for one in messages)
        bound = bound_usd(self.profile.pool.candidates[judge], n_bytes, len(messages), JUDGE_TOKENS)
        assert bound is not None  # the pool takes no judge without a price
        return Call(CallKey(judge, key.task, key.llm), messages, bound, JUDGE_TOKENS)

    def judge_results(self) -> tuple[JudgeResult, ...]:
        """What came of the judges, one by one."""
        ungraded = Counter(
            self.profile.pool.judge_of(key.llm)
            for key, end in self.history.ended.items()
            if not key.judged and key.task in self._tasks and key.llm in self.profile.known
            if end.outcome == "answered" and self._kind(key) == "judge" and self.history.score(key) is None
        )
        given_up = self.caller.given_up
        names = dict.fromkeys(self.profile.pool.judges)
        return tuple(judge_result_of(self.history, one, ungraded[one], given_up.get(one)) for one in names)


def _in_turn(rows: Mapping[str, Sequence[int]]) -> list[tuple[str, int]]:
    """The first of every LLM, then the second of every one, and so on."""
    most = max((len(its) for its in rows.values()), default=0)
    return [(name, row) for rank in range(most) for name, its in rows.items() for row in its[rank : rank + 1]]


# What came of it


def _result(session: Session, card: str, out: Path) -> Result:
    profile, history = session.profile, session.history
    others, given_up = _others(profile, history), session.caller.given_up
    found = {
        one.name: replace(
            result_of(history, one, profile.p_before(one.name), session.scores(one.name), others),
            given_up=given_up.get(one.name),
        )
        for one in profile.pool.contestants
    }
    graded = session.graded()
    judges = session.judge_results()
    artifact, notes = None, list[str]()
    if lacking := session.caller.lacking_usd:
        least = math.ceil((history.counted_usd + lacking) * 1e4) / 1e4
        limit = f"one more request may cost up to {lacking:.4f} USD"
        notes.append(f"the budget ended the run: {limit}; give --budget-usd {least:.4f} or more")
    if others:
        notes.append(
            f"answers to {len(others):,} prompts of the journal that this run does not have count in USD alone"
        )
    if session.options.grades_to is not None:
        _write_grades(session, session.options.grades_to)
    aside, mark = _set_aside(session)
    if session.caller.stopping:
        notes.append("stopped before the end; the same command goes on where it was, and asks nothing twice")
    elif not graded:
        notes += [*_warnings(judges), "no answer was graded, so there is nothing to learn from"]
    elif (reason := why_not_learned(graded)) is not None:
        notes += [*_warnings(judges), reason]
    else:
        notes += [*_warnings(judges), *doubts(graded)]
        found, artifact = _learned(session, found, card, out, mark)
    return Result(
        parent=profile.artifact.id,
        artifact=artifact,
        out=None if artifact is None else str(out),
        journal=str(session.journal.path),
        llms=tuple(found.values()),
        judges=judges,
        left_out=profile.pool.left_out,
        spent_usd=history.spent_usd,
        unknown_usd=history.unknown_usd,
        unknown_because=unknown_because(history),
        judges_usd=history.bills.get("", 0.0),
        budget_usd=session.options.budget_usd,
        set_aside=aside,
        interrupted=session.caller.stopping,
        notes=tuple(notes),
    )


def _warnings(judges: Sequence[JudgeResult]) -> list[str]:
    return [one.warning for one in judges if one.warning is not None]


def _set_aside(session: Session) -> tuple[SetAside | None, str]:
    """Writes the grades of prompts set aside; what came of them, and their fingerprint. None without any."""
    folder, aside = session.options.data_to, session.aside
    rows = [row for task, row in _grades(session) if task in aside]
    if folder is None or session.caller.stopping or not rows:
        return None, ""
    asked = [one.name for one in session.profile.pool.contestants if session.finished(one.name)]
    complete = set.intersection(set(aside), *(set(session.scores(name)) for name in asked)) if asked else set[str]()
    return SetAside(str(folder), len(aside), len(complete)), write_set_aside(rows, folder)


def _grades(session: Session) -> list[tuple[str, dict[str, Any]]]:
    """Tasks with prompt, grade, lengths and bill in the long form of correctness data, LLM by LLM."""
    text = {task.id: (task.text, task.category) for task in session.profile.tasks}
    rows = []
    for one in session.profile.pool.contestants:
        for task, score in session.scores(one.name).items():
            end = session.history.ended[CallKey(one.name, task)]
            lengths = {"input_tokens": end.input_tokens, "output_tokens": end.output_tokens, "cost_usd": end.cost_usd}
            prompt, category = text[task]
            rows.append(
                (task, {"prompt": prompt, "category": category, "llm": one.llm, "score": score, **lengths}),
            )
    return rows


def _write_grades(session: Session, path: Path) -> None:
    """All grades, in a file that its owner alone can read, since it holds the prompts."""
    try:
        path.touch(0o600)
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for _, row in _grades(session)))
    except OSError as error:
        raise ConfigError(f"--grades-to {path} cannot be written ({error.strerror}). Name another file.") from error


def _learned(
    session: Session, found: Mapping[str, LLMResult], card: str, out: Path, mark: str
) -> tuple[dict[str, LLMResult], str | None]:
    profile = session.profile
    matrix, rows = _matrix(session)
    learned = learn(profile.artifact, matrix, [profile.prompts[row] for row in rows], profile.pool.contestants)
    n_graded = int(matrix.observed.sum())
    is_new = learned.added or learned.changed or learned.timed
    written = write_learned(profile.artifact, card, learned, n_graded, mark, out) if is_new else None
    told = {
        **dict.fromkeys(learned.timed, "length only"),
        **dict.fromkeys(learned.added, "added"),
        **dict.fromkeys(learned.changed, "updated"),
        **learned.left_out,
    }
    results = {}
    for name, one in found.items():
        after = predicted(learned.artifact, profile.prompts, one.llm)
        p_after = None if after is None else float(after.mean())
        results[name] = replace(one, learned=told.get(one.llm, "unchanged"), p_after=p_after)
    return results, None if written is None else written.id


def _matrix(session: Session) -> tuple[CorrectnessMatrix, list[int]]:
    """The grades that teach as correctness data, and which tasks its rows are."""
    pool, history = session.profile.pool.contestants, session.history
    scores = [session.taught(one.name) for one in pool]
    rows = [row for row, task in enumerate(session.profile.tasks) if any(task.id in mine for mine in scores)]
    tasks = [session.profile.tasks[row] for row in rows]
    score, tokens = (np.full((len(tasks), len(pool)), np.nan, dtype=np.float32) for _ in range(2))
    for column, (one, mine) in enumerate(zip(pool, scores, strict=True)):
        for row, task in enumerate(tasks):
            if task.id in mine:
                score[row, column] = mine[task.id]
                tokens[row, column] = history.ended[CallKey(one.name, task.id)].output_tokens or np.nan
    matrix = CorrectnessMatrix(
        prompts=tuple(task.text for task in tasks),
        prompt_ids=tuple(task.id for task in tasks),
        categories=tuple(task.category for task in tasks),
        datasets=("profile",) * len(tasks),
        llm_ids=tuple(one.llm for one in pool),
        correctness=np.nan_to_num(score),
        observed=np.isfinite(score),
        output_tokens=tokens,
        counted=np.isfinite(tokens),
        input_tokens=np.full(len(tasks), np.nan, dtype=np.float32),
    )
    return matrix, rows
