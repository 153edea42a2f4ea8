"""Contenders and judges are asked: within a budget per day, one call after the other, by calls that no user's key pays.

What a call can cost at most is reserved in the shared state before it is sent and exchanged for the bill afterwards.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from structlog.typing import FilteringBoundLogger

from embedllm_router.config.virtual_model import JudgingSettings
from embedllm_router.errors import ConfigError
from embedllm_router.proxy import litellm_state
from embedllm_router.proxy.asking import Asker
from embedllm_router.proxy.call import Failure, Message, billed_usd, bound_usd
from embedllm_router.proxy.comparing import Comparison, compared, comparison_messages, read_scores
from embedllm_router.proxy.judging.drawing import Job, NotJudged
from embedllm_router.proxy.judging.recording import Answer, Verdict
from embedllm_router.routing.pool import Candidate, Exclusion
from embedllm_router.serving.arms import why_not_judge
from embedllm_router.serving.snapshot import LiveSnapshot
from embedllm_router.serving.state.shared import SharedState

__all__ = ["Panel", "Purse"]

_DAY_S: Final = 86_400
_BYTES_PER_TOKEN, _VERDICT_TOKENS = 4, 64  # as a rule, to reckon what a judge will take
_MOST_FAILURES, _REST_S = 3, 300.0
"""A judge that fails so often in a row is not asked for so long: answers would be paid in vain."""
_APART: Final[Mapping[str, object]] = {"cache": {"no-cache": True, "no-store": True}, "no-log": True}
"""A copy of an answer has to be judged anew, and callbacks that log users' requests are not told of these calls."""


class Purse:
    """What judged evaluation may spend per day (UTC), counted by all proxies together.

    Args:
        state: Where it is counted.
        log: Where a day's end of the money is reported, once.
    """

    def __init__(self, state: SharedState, log: FilteringBoundLogger) -> None:
        self._state, self._log = state, log
        self._reported: set[str] = set()

    def spent_usd(self, virtual_model: str) -> float:
        """Spent or reserved today, as far as this process knows; at least 0."""
        return max(self._state.total(self._key(virtual_model)), 0.0)

    async def reserve(self, virtual_model: str, usd_per_day: float, bound: float, spare_usd: float = 0.0) -> str:
        """Sets an amount aside. Others see it before it is spent, so that all proxies together keep the budget.

        Args:
            virtual_model: Whose budget it is.
            usd_per_day: The budget.
            bound: The amount in USD.
            spare_usd: What must be left besides.

        Returns:
            What `settle` takes.

        Raises:
            NotJudged: It does not fit.
        """
        key = self._key(virtual_model)
        self._state.add(key, bound, 2 * _DAY_S)
        await self._state.exchange()
        if self._state.total(key) + spare_usd <= usd_per_day:
            return key
        self.settle(key, -bound)
        if key not in self._reported:
            self._reported.add(key)
            fields = {"usd_per_day": usd_per_day, "committed_usd": self._state.total(key)}
            remedy = "raise judging.usd_per_day, lower judging.share or judging.max_output_tokens, or wait for tomorrow"
            needed = bound + spare_usd
            self._log.info(
                "judging.budget_used_up", virtual_model=virtual_model, **fields, needed_usd=needed, remedy=remedy
            )
        raise NotJudged("budget")

    def settle(self, key: str, change: float) -> None:
        """Exchanges what was reserved for what was billed.

        Args:
            key: From `reserve`.
            change: What was billed less what was reserved, in USD.
        """
        self._state.add(key, change, 2 * _DAY_S)

    def _key(self, virtual_model: str) -> str:
        return f"judging:{virtual_model}:{int(self._state.clock() // _DAY_S)}"


class Panel:
    """Asks contenders and judges.

    Args:
        live: What decides; it knows the proxy's model groups.
        purse: What may be spent.
        excluded: Model groups that are left alone at the moment, with the reason.
        clock: In seconds.
        log: Where it is reported.
        leave_out: Counts a request that is not judged; takes the virtual model and the reason.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - everything that a call depends on
        self,
        live: LiveSnapshot,
        purse: Purse,
        excluded: Callable[[], Mapping[str, Exclusion]],
        clock: Callable[[], float],
        log: FilteringBoundLogger,
        leave_out: Callable[[str, str], None],
    ) -> None:
        self._live, self._purse, self._excluded, self._clock = live, purse, excluded, clock
        self._log, self._leave_out = log, leave_out
        self._reported: set[tuple[str, ...]] = set()
        self._failures, self._rests_until = Counter[str](), dict[str, float]()
        self._askers: dict[float, tuple[object, Asker]] = {}

    async def judged(self, job: Job) -> tuple[list[Answer], Verdict]:
        """Has one request answered and judged.

        Returns:
            The user's answer and the others', and what the judge said of them.

        Raises:
            NotJudged: Nothing came of it.
        """
        answers = [Answer(job.row.served or "", job.conversation.answer)]
        if not job.contenders:
            answers.append(Answer(answers[0].name, answers[0].text, usd=0.0))
        asker = await self._asker_of(job.settings)
        judge = self._judge_of(job)
        for name in job.contenders:
            try:
                answers.append(await self._answered(job, name, asker, judge))
            except NotJudged as why:
                if len(answers) == 1:
                    raise
                answers.append(Answer(name, "", error=str(why), usd=0.0))  # what was paid already is written down
        usable = [one for one in answers if one.text]
        if len(usable) < 2:  # noqa: PLR2004 - a comparison is of two
            return answers, Verdict(judge, usable, None, 0.0)
        said, judges_usd = await self._compared(job, judge, asker, usable)
        return answers, Verdict(judge, usable, said, judges_usd)

    def _judge_of(self, job: Job) -> Candidate:
        """Who judges: the first that is none of those judged; where all are, the first.

        Raises:
            NotJudged: Nobody can.
        """
        served, conditions, excluded = self._live.served, job.decision.request.conditions, self._excluded()
        groups = served.groups if served is not None else {}
        able = [
            groups[name].candidate
            for name in job.settings.judges
            if name not in excluded
            and name not in conditions.barred
            and why_not_judge(name, conditions.rules, groups) is None
        ]
        if not able:
            raise NotJudged("no_judge")
        able = [one for one in able if self._clock() >= self._rests_until.get(one.group, 0.0)]
        if not able:
            raise NotJudged("judge_rests")
        pool = job.decision.pool
        judged = [pool.candidates[pool.index[name]] for name in (job.row.served, *job.contenders) if name in pool.index]
        theirs = {one.group for one in judged} | {one.llm for one in judged if one.llm is not None}
        return next((one for one in able if not {one.group, one.llm} & theirs), able[0])

    async def _answered(self, job: Job, name: str, asker: Asker, judge: Candidate) -> Answer:
        """Has a contender answer.

        Raises:
            NotJudged: The budget does not allow it.
        """
        pool, said = job.decision.pool, job.conversation
        candidate = pool.candidates[pool.index[name]]
        left_alone = self._excluded().get(candidate.group)
        if left_alone is not None:
            return Answer(name, "", error=left_alone, usd=0.0)
        max_tokens = min(said.max_tokens or job.settings.max_output_tokens, job.settings.max_output_tokens)
        parameters = dict(said.parameters)
        if candidate.effort is not None:
            parameters["reasoning_effort"] = candidate.effort
        # What the judge will probably cost has to be left, too: an answer that nobody can judge is money lost.
        judged_bytes = said.n_bytes + (1 + len(job.contenders)) * len(said.answer)
        spare = 2 * (bound_usd(judge, judged_bytes // _BYTES_PER_TOKEN, 2, _VERDICT_TOKENS) or 0.0)
        return await self._paid(job, candidate, asker, said.messages, max_tokens, parameters, spare_usd=spare)

    async def _compared(
        self, job: Job, judge: Candidate, asker: Asker, answers: Sequence[Answer]
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
            except NotJudged as why:
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
            self._rests_until[group] = self._clock() + _REST_S
            consequence = f"it is not asked for {_REST_S:.0f} s, nor is what it alone could judge"
            self._log.warning(
                "judging.judge_rests", judge=group, failures=self._failures[group], consequence=consequence
            )

    async def _paid(  # noqa: PLR0913, PLR0917 - one call, and what it may cost
        self,
        job: Job,
        candidate: Candidate,
        asker: Asker,
        messages: Sequence[Message],
        max_tokens: int,
        parameters: Mapping[str, object],
        spare_usd: float = 0.0,
    ) -> Answer:
        """Makes one call within the budget.

        Raises:
            NotJudged: The budget does not allow it.
        """
        n_bytes = sum(len(one.content.encode()) for one in messages)
        bound = bound_usd(candidate, n_bytes, len(messages), max_tokens)
        if bound is None:
            return Answer(candidate.name, "", error="price_unknown", usd=0.0)
        limit = job.settings.usd_per_day or 0.0
        reserved = await self._purse.reserve(job.row.virtual_model, limit, bound, spare_usd)
        cost = bound  # where nobody knows, the most it can be
        try:
            reply = await asker.ask(candidate.group, messages, max_tokens, parameters={**parameters, **_APART})
            known = billed_usd(candidate, reply)
            cost = bound if known is None else known
            kept = reply.text if reply.outcome == "answered" else ""
            return Answer(candidate.name, kept, reply, None if kept else reply.outcome, cost)
        except Failure as failure:
            cost = 0.0 if failure.billed is False else bound
            self._report(job, candidate.group, failure)
            return Answer(candidate.name, "", error=failure.outcome, usd=cost)
        finally:
            self._purse.settle(reserved, cost - bound)

    def _report(self, job: Job, group: str, failure: Failure) -> None:
        """Reports one failure of each kind and model group."""
        kind = (job.row.virtual_model, group, failure.outcome)
        if kind not in self._reported:
            self._reported.add(kind)
            consequence = "users' requests are not affected; reported once"
            self._log.warning("judging.call_failed", group=group, reason=str(failure), consequence=consequence)

    async def _asker_of(self, settings: JudgingSettings) -> Asker:
        """What asks the proxy's deployments as they are now.

        Raises:
            NotJudged: LiteLLM cannot use them.
        """
        rows, made = litellm_state.deployments(), self._askers.get(settings.timeout_s)
        if made is not None and made[0] is rows:
            return made[1]
        try:
            asker = await asyncio.to_thread(Asker, list(rows), timeout_s=settings.timeout_s, in_proxy=True)
        except ConfigError as error:
            self._log.warning("judging.failed", error=str(error))
            raise NotJudged("deployments") from error
        self._askers = {limit: one for limit, one in self._askers.items() if one[0] is rows}
        self._askers[settings.timeout_s] = (rows, asker)
        return asker
