"""Judged evaluation: a share of the requests is answered by other candidates, too, and a judge scores the answers.

It begins after the user has the answer and is out of every request's way: a bounded queue, two at work, calls of its
own that no user's key pays, and a budget per day that is reserved before each call. What it may ask is what could have
been chosen for the request: rules, the key's access and all else that excluded a candidate hold here, too. Scores
become feedback like any other, on the user's answer and on records of the other answers.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from embedllm_router.config.virtual_model import JudgingSettings
from embedllm_router.errors import ConfigError
from embedllm_router.proxy import litellm_state
from embedllm_router.proxy.asking import Asker
from embedllm_router.proxy.call import Failure, Message, Reply, billed_usd, bound_usd
from embedllm_router.proxy.comparing import Comparison, compared, comparison_messages, read_scores
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.routing.decision import Decision
from embedllm_router.routing.pool import Candidate
from embedllm_router.serving.arms import why_not_judge
from embedllm_router.serving.snapshot import LiveSnapshot
from embedllm_router.serving.state.shared import SharedState
from embedllm_router.telemetry.decision_record import DecisionRecord, Outcome
from embedllm_router.telemetry.metrics import Metrics, NoMetrics
from embedllm_router.telemetry.status import JudgingStatus

__all__ = ["AT_ONCE", "Judging"]

AT_ONCE: Final = 2
"""Requests that are judged at the same time."""

_MOST_WAITING: Final = 64
_MOST_CHARS: Final = 100_000
_DAY_S: Final = 86_400
_BYTES_PER_TOKEN, _VERDICT_TOKENS = 4, 64  # as a rule, to reckon what a judge will take
_LOOK_S: Final = 10.0
_MOST_FAILURES, _REST_S = 3, 300.0
"""A judge that fails so often in a row is not asked for so long: answers would be paid in vain."""
_CALL_TYPES: Final = frozenset({"acompletion", "completion"})
_HANDED_ON: Final = frozenset(
    {"temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "response_format"}
    | {"reasoning_effort", "verbosity"}
)
"""Parameters of a request that other candidates get as well."""
_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_WITHOUT_EFFECT: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "user", "metadata", "n", "store", "service_tier", "timeout"}
    | {"safety_identifier", "prompt_cache_key", "num_retries", "fallbacks", "context_window_fallbacks"}
    | {"content_policy_fallbacks", "tags", "embedllm", "no-log", "drop_params", "cache"}
)
"""Parameters that change nothing about what is answered. A request with any other is left alone: it may be a tool."""
_OF_LITELLM: Final = ("litellm_", "_litellm_")
_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})
_REDACTED: Final = "redacted-by-litellm"


@dataclass(frozen=True, slots=True)
class _Conversation:
    """What was asked and answered, as far as another LLM can be asked the same.

    Attributes:
        messages: What was asked.
        parameters: What else was said.
        max_tokens: The request's own limit on the answer; None when it set none.
        answer: What the user got.
    """

    messages: tuple[Message, ...]
    parameters: Mapping[str, object]
    max_tokens: int | None
    answer: str

    @property
    def n_bytes(self) -> int:
        """Size of what was asked."""
        return sum(len(one.content.encode()) for one in self.messages)


@dataclass(frozen=True, slots=True)
class _Job:
    """One request to be judged.

    Attributes:
        row: Its record.
        decision: The decision.
        conversation: What was asked and answered.
        settings: How it is judged.
        contenders: The other candidates that answer; none for a double.
        odds: Probability with which each candidate that could have been chosen is a contender.
    """

    row: RequestRecord
    decision: Decision
    conversation: _Conversation
    settings: JudgingSettings
    contenders: tuple[str, ...]
    odds: float


class _NotJudged(Exception):  # noqa: N818 - no error: a request that is left alone, and why
    """A request is not judged."""


class Judging:
    """Evaluates live traffic. Off, it does nothing.

    Args:
        live: What decides; its settings say whether and how to judge.
        state: Where spend is counted with the other proxies.
        log: Where it is reported.
        put: Takes a record; never blocks and never raises.
        draws: Random generator.
    """

    def __init__(
        self,
        live: LiveSnapshot,
        state: SharedState,
        log: FilteringBoundLogger,
        put: Callable[[RequestRecord | FeedbackRecord], None],
        draws: random.Random | None = None,
    ) -> None:
        self._live, self._state, self._log, self._put = live, state, log, put
        self._metrics: Metrics = NoMetrics()
        self._draws = draws or random.Random()  # noqa: S311 - which requests are judged is no secret
        self._waiting: asyncio.Queue[_Job] = asyncio.Queue(_MOST_WAITING)
        self._at_work = self._n_given_up = 0
        self._spent: Mapping[str, float] = {}
        self._n_judged, self._n_verdicts = Counter[str](), Counter[str]()
        self._left_out: dict[str, Counter[str]] = {}
        self._reported: set[tuple[str, ...]] = set()
        self._failures, self._rests_until = Counter[str](), dict[str, float]()
        self._asker: tuple[object, float, Asker] | None = None

    def count_with(self, metrics: Metrics) -> None:
        """Has what it does counted from now on."""
        self._metrics = metrics

    def status(self) -> tuple[JudgingStatus, ...]:
        """How it is doing, as last seen, for each virtual model that has it on; from any thread."""
        models = self._live.snapshot.settings.virtual_models
        return tuple(
            JudgingStatus(
                virtual_model=name,
                share=one.judging.share,
                usd_per_day=one.judging.usd_per_day or 0.0,
                spent_usd=self._spent.get(name, 0.0),
                n_waiting=self._waiting.qsize() + self._at_work,
                n_judged=self._n_judged[name],
                n_verdicts=self._n_verdicts[name],
                left_out=dict(self._left_out.get(name, {})),
            )
            for name, one in models.items()
            if one.judging.share > 0
        )

    def offer(
        self, record: DecisionRecord | None, outcome: Outcome, kwargs: Mapping[str, Any], response: object
    ) -> Callable[[RequestRecord], None] | None:
        """Draws a request that was answered; called after the answer, on the event loop.

        Args:
            record: Where it was sent and why; None for one that is not awaited.
            outcome: What became of it.
            kwargs: What LiteLLM hands to log hooks of a success.
            response: The answer.

        Returns:
            What takes its record, on any thread, when that is written; None where it is not judged.
        """
        if record is None:
            return None
        name = record.context.virtual_model
        model = self._live.snapshot.settings.virtual_models.get(name)
        settings = model.judging if model is not None else None
        if settings is None or settings.share <= 0 or self._draws.random() >= settings.share:
            return None
        try:
            job = self._drawn(record, outcome, settings, _conversation_of(kwargs, response))
        except _NotJudged as why:
            self._leave_out(name, str(why))
            return None
        loop = asyncio.get_running_loop()

        def written(row: RequestRecord) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._line_up, replace(job, row=row))

        return written

    async def run(self) -> None:
        """Judges what is drawn, one after the other, for as long as the proxy runs; several may run at once."""
        while True:
            job = await self._next()
            self._at_work += 1
            ended = "error"
            try:
                await self._judge(job)
                ended = ""
            except _NotJudged as why:
                ended = str(why)
            except asyncio.CancelledError:
                ended, self._n_given_up = "proxy_ended", self._n_given_up + 1
                raise
            finally:
                self._at_work -= 1
                if ended:
                    self._leave_out(job.row.virtual_model, ended)

    async def _next(self) -> _Job:
        """The next request; meanwhile what was spent is looked up now and then, since other proxies spend, too."""
        while True:
            judged = [
                name for name, one in self._live.snapshot.settings.virtual_models.items() if one.judging.share > 0
            ]
            self._spent = {name: max(self._state.total(self._spent_key(name)), 0.0) for name in judged}
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    return await self._waiting.get()

    def close(self) -> None:
        """Gives up what waits, and says how much that was; safe to call twice."""
        while not self._waiting.empty():
            self._leave_out(self._waiting.get_nowait().row.virtual_model, "proxy_ended")
            self._n_given_up += 1
        if self._n_given_up:
            self._log.info("judging.given_up", requests=self._n_given_up, reason="the proxy ends")
        self._n_given_up = 0

    def _drawn(
        self, record: DecisionRecord, outcome: Outcome, settings: JudgingSettings, conversation: _Conversation
    ) -> _Job:
        """What is to be done for a request that was drawn.

        Raises:
            _NotJudged: It may not be judged, or cannot.
        """
        decision, context = record.decision, record.context
        if context.private:
            raise _NotJudged("no-log")
        if decision is None or outcome.served is None or outcome.from_cache:
            raise _NotJudged("not_routed")
        if outcome.cut:
            raise _NotJudged("cut_off")
        if context.call_type not in _CALL_TYPES:
            raise _NotJudged("endpoint")
        served = decision.answered_by(outcome.served)
        others = [decision.pool.names[i] for i in decision.ranking if decision.pool.names[i] != served]
        if self._draws.random() < settings.doubles:
            contenders, odds = tuple[str, ...](), 1.0
        elif others:
            contenders = tuple(self._draws.sample(others, min(settings.candidates, len(others))))
            odds = len(contenders) / len(others)
        else:
            raise _NotJudged("no_other_candidate")
        return _Job(_NO_ROW, decision, conversation, settings, contenders, odds)

    def _line_up(self, job: _Job) -> None:
        if job.row.served is None:
            self._leave_out(job.row.virtual_model, "not_routed")
            return
        try:
            self._waiting.put_nowait(job)
        except asyncio.QueueFull:
            self._leave_out(job.row.virtual_model, "queue_full")

    async def _judge(self, job: _Job) -> None:
        """Has one request answered and judged.

        Raises:
            _NotJudged: Nothing came of it.
        """
        resting = await litellm_state.cooled_down(litellm_state.deployments())
        answers = [_Answer(job.row.served or "", job.conversation.answer)]
        if not job.contenders:
            answers.append(_Answer(answers[0].name, answers[0].text, usd=0.0))
        asker = await self._asker_of(job.settings)
        judge = self._judge_of(job, resting)
        for name in job.contenders:
            try:
                answers.append(await self._answered(job, name, asker, resting, judge))
            except _NotJudged as why:
                if len(answers) == 1:
                    raise
                answers.append(_Answer(name, "", error=str(why), usd=0.0))  # what was paid already is written down
        usable = [one for one in answers if one.text]
        verdict, judges_usd = None, 0.0
        if len(usable) > 1:
            verdict, judges_usd = await self._compared(job, judge, asker, usable)
        self._record(job, answers, _Verdict(judge, usable, verdict, judges_usd))

    def _judge_of(self, job: _Job, resting: frozenset[str]) -> Candidate:
        """Who judges: the first that is none of those judged; where all are, the first.

        Raises:
            _NotJudged: Nobody can.
        """
        served, conditions = self._live.served, job.decision.request.conditions
        groups = served.groups if served is not None else {}
        able = [
            groups[name].candidate
            for name in job.settings.judges
            if name not in resting
            and name not in conditions.barred
            and why_not_judge(name, conditions.rules, groups) is None
        ]
        if not able:
            raise _NotJudged("no_judge")
        able = [one for one in able if self._state.clock() >= self._rests_until.get(one.group, 0.0)]
        if not able:
            raise _NotJudged("judge_rests")
        pool = job.decision.pool
        judged = [pool.candidates[pool.index[name]] for name in (job.row.served, *job.contenders) if name in pool.index]
        theirs = {one.group for one in judged} | {one.llm for one in judged if one.llm is not None}
        return next((one for one in able if not {one.group, one.llm} & theirs), able[0])

    async def _answered(
        self, job: _Job, name: str, asker: Asker, resting: frozenset[str], judge: Candidate
    ) -> "_Answer":
        """Has a contender answer.

        Raises:
            _NotJudged: The budget does not allow it.
        """
        pool, said = job.decision.pool, job.conversation
        candidate = pool.candidates[pool.index[name]]
        if candidate.group in resting:
            return _Answer(name, "", error="cooled_down", usd=0.0)
        max_tokens = min(said.max_tokens or job.settings.max_output_tokens, job.settings.max_output_tokens)
        parameters = dict(said.parameters)
        if candidate.effort is not None:
            parameters["reasoning_effort"] = candidate.effort
        # What the judge will probably cost has to be left, too: an answer that nobody can judge is money lost.
        judged_bytes = said.n_bytes + (1 + len(job.contenders)) * len(said.answer)
        spare = 2 * (bound_usd(judge, judged_bytes // _BYTES_PER_TOKEN, 2, _VERDICT_TOKENS) or 0.0)
        return await self._paid(job, candidate, asker, said.messages, max_tokens, parameters, spare_usd=spare)

    async def _compared(
        self, job: _Job, judge: Candidate, asker: Asker, answers: "Sequence[_Answer]"
    ) -> tuple[Comparison | None, float]:
        """Asks the judge in both orders.

        Returns:
            What it says; None where a reply cannot be read. And what it cost in USD.
        """
        texts, spent = [one.text for one in answers], 0.0
        readings = list[tuple[float, ...]]()
        for is_reversed in (False, True):
            shown = texts[::-1] if is_reversed else texts
            messages = comparison_messages(job.conversation.messages, shown, job.settings.rubric)
            try:
                reply = await self._paid(job, judge, asker, messages, job.settings.max_output_tokens, {})
            except _NotJudged as why:
                self._leave_out(job.row.virtual_model, str(why))
                return None, spent
            spent += reply.usd or 0.0
            scores = read_scores(reply.text, len(texts))
            if scores is None:
                self._leave_out(job.row.virtual_model, reply.error or "unreadable_verdict")
                self._judge_failed(judge.group)
                return None, spent
            readings.append(scores[::-1] if is_reversed else scores)
        self._failures.pop(judge.group, None)
        return compared(*readings), spent

    def _judge_failed(self, group: str) -> None:
        """Gives a judge a rest that fails again and again."""
        self._failures[group] += 1
        if self._failures[group] >= _MOST_FAILURES:
            self._rests_until[group] = self._state.clock() + _REST_S
            consequence = f"it is not asked for {_REST_S:.0f} s, nor is what it alone could judge"
            self._log.warning(
                "judging.judge_rests", judge=group, failures=self._failures[group], consequence=consequence
            )

    async def _paid(  # noqa: PLR0913, PLR0917 - one call, and what it may cost
        self,
        job: _Job,
        candidate: Candidate,
        asker: Asker,
        messages: Sequence[Message],
        max_tokens: int,
        parameters: Mapping[str, object],
        spare_usd: float = 0.0,
    ) -> "_Answer":
        """Makes one call within the budget.

        Raises:
            _NotJudged: The budget does not allow it.
        """
        n_bytes = sum(len(one.content.encode()) for one in messages)
        bound = bound_usd(candidate, n_bytes, len(messages), max_tokens)
        if bound is None:
            return _Answer(candidate.name, "", error="price_unknown", usd=0.0)
        key = self._spent_key(job.row.virtual_model)
        await self._reserve(job, key, bound, spare_usd)
        cost = bound  # where nobody knows, the most it can be
        try:
            reply = await asker.ask(candidate.group, messages, max_tokens, parameters={**parameters, **_APART})
            known = billed_usd(candidate, reply)
            cost = bound if known is None else known
            kept = reply.text if reply.outcome == "answered" else ""
            return _Answer(candidate.name, kept, reply, None if kept else reply.outcome, cost)
        except Failure as failure:
            cost = 0.0 if failure.billed is False else bound
            self._report(job, candidate.group, failure)
            return _Answer(candidate.name, "", error=failure.outcome, usd=cost)
        finally:
            self._state.add(key, cost - bound, 2 * _DAY_S)

    async def _reserve(self, job: _Job, key: str, bound: float, spare_usd: float) -> None:
        """Sets an amount aside. Others see it before it is spent, so that all proxies together keep the budget.

        Raises:
            _NotJudged: It does not fit.
        """
        limit = job.settings.usd_per_day or 0.0
        self._state.add(key, bound, 2 * _DAY_S)
        await self._state.exchange()
        if self._state.total(key) + spare_usd <= limit:
            return
        self._state.add(key, -bound, 2 * _DAY_S)
        name = job.row.virtual_model
        if (name, key) not in self._reported:
            self._reported.add((name, key))
            fields = {"usd_per_day": limit, "committed_usd": self._state.total(key), "needed_usd": bound + spare_usd}
            remedy = "raise judging.usd_per_day, lower judging.share or judging.max_output_tokens, or wait for tomorrow"
            self._log.info("judging.budget_used_up", virtual_model=name, **fields, remedy=remedy)
        raise _NotJudged("budget")

    async def _asker_of(self, settings: JudgingSettings) -> Asker:
        """What asks the proxy's deployments as they are now.

        Raises:
            _NotJudged: LiteLLM cannot use them.
        """
        rows, made = litellm_state.deployments(), self._asker
        if made is not None and made[0] is rows and made[1] == settings.timeout_s:
            return made[2]
        try:
            asker = await asyncio.to_thread(Asker, list(rows), timeout_s=settings.timeout_s, in_proxy=True)
        except ConfigError as error:
            self._log.warning("judging.failed", error=str(error))
            raise _NotJudged("deployments") from error
        self._asker = (rows, settings.timeout_s, asker)
        return asker

    def _record(self, job: _Job, answers: "Sequence[_Answer]", verdict: "_Verdict") -> None:
        """Writes down what came of it: a record for each other answer, and feedback where it was scored."""
        name, now = job.row.virtual_model, datetime.now(UTC)
        rows = [_row(job, one, verdict, is_first=i == 0) for i, one in enumerate(answers[1:])]
        for row in rows:
            self._put(row)
        scored = {} if verdict.said is None else dict(zip(map(id, verdict.judged), verdict.said.scores, strict=True))
        given = [] if not job.contenders else [(job.row.request_id, scored.get(id(answers[0])))]
        if job.contenders:
            given += [(row.request_id, scored.get(id(one))) for row, one in zip(rows, answers[1:], strict=True)]
        verdicts = [(about, score) for about, score in given if score is not None]
        for about, score in verdicts:
            said = FeedbackRecord(at=now, request_id=about, score=score, source=f"judge:{verdict.judge.group}")
            self._put(said)
            self._metrics.feedback(said)
        answers_usd = sum(one.usd or 0.0 for one in answers[1:])
        self._n_judged[name] += verdict.said is not None
        self._n_verdicts[name] += len(verdicts)
        self._metrics.judged(name, answers_usd, verdict.usd, len(verdicts))
        self._log.info(
            "judging.judged",
            request_id=job.row.request_id,
            virtual_model=name,
            served=job.row.served,
            contenders=list(job.contenders),
            judge=verdict.judge.group,
            scores=None if verdict.said is None else [round(one, 3) for one in verdict.said.scores],
            answers_usd=answers_usd,
            judges_usd=verdict.usd,
        )

    def _report(self, job: _Job, group: str, failure: Failure) -> None:
        """Reports one failure of each kind and model group."""
        kind = (job.row.virtual_model, group, failure.outcome)
        if kind not in self._reported:
            self._reported.add(kind)
            consequence = "users' requests are not affected; reported once"
            self._log.warning("judging.call_failed", group=group, reason=str(failure), consequence=consequence)

    def _leave_out(self, virtual_model: str, reason: str) -> None:
        self._left_out.setdefault(virtual_model, Counter())[reason] += 1
        self._metrics.not_judged(virtual_model, reason)

    def _spent_key(self, virtual_model: str) -> str:
        return f"judging:{virtual_model}:{int(self._state.clock() // _DAY_S)}"


_APART: Final[Mapping[str, object]] = {"cache": {"no-cache": True, "no-store": True}, "no-log": True}
"""A copy of an answer has to be judged anew, and callbacks that log users' requests are not told of these calls."""
_NO_ROW: Final = RequestRecord(
    at=datetime.min.replace(tzinfo=UTC), request_id="", virtual_model="", call_type="", reason="", chosen="",
    route_ms=0.0, status="unknown",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """One answer, and what it cost.

    Attributes:
        name: Candidate or judge that gave it.
        text: Empty where it cannot be used.
        reply: What came; None where nothing did.
        error: Why there is no text; None where there is one.
        usd: What it cost; None for the answer that the user paid.
    """

    name: str
    text: str
    reply: Reply | None = None
    error: str | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a judge said.

    Attributes:
        judge: Who.
        judged: The answers it was shown, the user's first.
        said: Its scores of them; None where there are none.
        usd: What it cost.
    """

    judge: Candidate
    judged: Sequence[_Answer]
    said: Comparison | None
    usd: float


def _row(job: _Job, one: _Answer, verdict: _Verdict, *, is_first: bool) -> RequestRecord:
    """The record of an answer that no user got, at the time of the user's request: learning keeps them together."""
    weighed, reply, settings = job.decision.named(one.name), one.reply, job.settings
    place = next((i for i, judged in enumerate(verdict.judged) if judged is one), None)
    scores = verdict.said.scores if verdict.said is not None and place is not None else None
    share = settings.share * (1 - settings.doubles if job.contenders else settings.doubles)
    is_copy = not job.contenders
    return replace(
        job.row,
        request_id=f"judged-{token_hex(12)}",
        reason="judged",
        chosen=one.name,
        llm=weighed.llm if weighed else None,
        p_correct=weighed.p_correct if weighed else None,
        expected_output_tokens=weighed.expected_output_tokens if weighed else None,
        expected_cost_usd=weighed.cost_usd if weighed else None,
        utility=weighed.utility if weighed else None,
        propensity=job.odds,
        status="success" if one.text else "failure",
        served=one.name if one.text else None,
        fallback=False,
        served_p_correct=weighed.p_correct if weighed else None,
        error=one.error,
        response_id=None,
        billed_input_tokens=reply.input_tokens if reply else None,
        billed_output_tokens=reply.output_tokens if reply else None,
        billed_cost_usd=one.usd,
        latency_ms=reply.latency_s * 1e3 if reply else None,
        total_ms=None,
        failed_attempts=(),
        judged_for=job.row.request_id,
        judging="double" if is_copy else "contender",
        judging_share=share,
        judge=verdict.judge.group if place is not None and len(verdict.judged) > 1 else None,
        judge_score=scores[place] if scores is not None and place is not None else None,
        judge_score_served=scores[0] if scores is not None else None,
        judge_reversed=verdict.said.reversed[place] if verdict.said is not None and place is not None else None,
        judging_usd=verdict.usd if is_first else None,
    )


def _conversation_of(kwargs: Mapping[str, Any], response: object) -> _Conversation:
    """What was asked and answered.

    Raises:
        _NotJudged: Another LLM cannot be asked the same, or shall not.
    """
    request = (kwargs.get("litellm_params") or {}).get("proxy_server_request") or {}
    body = request.get("body")
    if not isinstance(body, Mapping):
        raise _NotJudged("unknown_body")
    given = {str(name): value for name, value in body.items() if value is not None}
    if body.get("n") not in {None, 1} or body.get("store") is True:
        raise _NotJudged("several_or_stored")
    given = {name: value for name, value in given.items() if not name.startswith(_OF_LITELLM)}
    if given.keys() - _HANDED_ON - _WITHOUT_EFFECT - set(_LIMITS):
        raise _NotJudged("tools_or_other_parameters")
    messages = tuple(_message(one) for one in kwargs.get("messages") or ())
    answer = _answer_in(response)
    if not messages or not answer or _REDACTED in {answer, *(one.content for one in messages)}:
        raise _NotJudged("no_text")
    if sum(len(one.content) for one in messages) + len(answer) > _MOST_CHARS:
        raise _NotJudged("too_long")
    limit = next((given[name] for name in _LIMITS if isinstance(given.get(name), int)), None)
    parameters = {name: value for name, value in given.items() if name in _HANDED_ON}
    return _Conversation(messages, parameters, limit, answer)


def _message(one: object) -> Message:
    """A message of text alone.

    Raises:
        _NotJudged: It is of something else.
    """
    if not isinstance(one, Mapping) or one.get("role") not in _ROLES:
        raise _NotJudged("not_text")
    if one.get("tool_calls") or one.get("function_call"):
        raise _NotJudged("not_text")
    content = one.get("content")
    if isinstance(content, list):
        parts = [
            part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in content
        ]
        content = None if None in parts else "\n".join(map(str, parts))
    if not isinstance(content, str):
        raise _NotJudged("not_text")
    return Message(one["role"], content)


def _answer_in(response: object) -> str:
    """The text of an answer that is nothing but text; else empty."""
    choices = getattr(response, "choices", None)
    if not isinstance(choices, list) or len(choices) != 1:
        return ""
    message = getattr(choices[0], "message", None)
    if getattr(message, "tool_calls", None) or getattr(message, "function_call", None):
        return ""
    content = getattr(message, "content", None)
    return content if isinstance(content, str) else ""
