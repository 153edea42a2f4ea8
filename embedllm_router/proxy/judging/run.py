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
from datetime import UTC, datetime
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from embedllm_router.proxy.judging.asking import Panel, Purse
from embedllm_router.proxy.judging.drawing import Job, NotJudged, conversation_of, job_of
from embedllm_router.proxy.judging.recording import Answer, Verdict, feedback_of, record_of
from embedllm_router.records.schema import FeedbackRecord, RequestRecord
from embedllm_router.routing.pool import Exclusion
from embedllm_router.serving.snapshot import LiveSnapshot
from embedllm_router.serving.state.shared import SharedState
from embedllm_router.telemetry.decision_record import DecisionRecord, Outcome
from embedllm_router.telemetry.metrics import Metrics, NoMetrics
from embedllm_router.telemetry.status import JudgingStatus

__all__ = ["AT_ONCE", "Judging"]

AT_ONCE: Final = 2
"""Requests that are judged at the same time."""

_MOST_WAITING: Final = 64
_LOOK_S: Final = 10.0


class Judging:
    """Evaluates live traffic. Off, it does nothing.

    Args:
        live: What decides; its settings say whether and how to judge.
        state: Where spend is counted with the other proxies.
        log: Where it is reported.
        put: Takes a record; never blocks and never raises.
        excluded: Model groups that are left alone at the moment, with the reason: LiteLLM lets them rest, say.
        draws: Random generator.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - everything that it depends on
        self,
        live: LiveSnapshot,
        state: SharedState,
        log: FilteringBoundLogger,
        put: Callable[[RequestRecord | FeedbackRecord], None],
        excluded: Callable[[], Mapping[str, Exclusion]],
        draws: random.Random | None = None,
    ) -> None:
        self._live, self._log, self._put = live, log, put
        self._metrics: Metrics = NoMetrics()
        self._draws = draws or random.Random()  # noqa: S311 - which requests are judged is no secret
        self._purse = Purse(state, log)
        self._panel = Panel(live, self._purse, excluded, state.clock, log, self._leave_out)
        self._waiting: asyncio.Queue[Job] = asyncio.Queue(_MOST_WAITING)
        self._at_work = self._n_given_up = 0
        self._spent: Mapping[str, float] = {}
        self._n_judged, self._n_verdicts = Counter[str](), Counter[str]()
        self._left_out: dict[str, Counter[str]] = {}

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
            job_for = job_of(record, outcome, settings, conversation_of(kwargs, response), self._draws)
        except NotJudged as why:
            self._leave_out(name, str(why))
            return None
        loop = asyncio.get_running_loop()

        def written(row: RequestRecord) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._line_up, job_for(row))

        return written

    async def run(self) -> None:
        """Judges what is drawn, one after the other, for as long as the proxy runs; several may run at once."""
        while True:
            job = await self._next()
            self._at_work += 1
            ended = "error"
            try:
                self._record(job, *await self._panel.judged(job))
                ended = ""
            except NotJudged as why:
                ended = str(why)
            except asyncio.CancelledError:
                ended, self._n_given_up = "proxy_ended", self._n_given_up + 1
                raise
            finally:
                self._at_work -= 1
                if ended:
                    self._leave_out(job.row.virtual_model, ended)

    async def _next(self) -> Job:
        """The next request; meanwhile what was spent is looked up now and then, since other proxies spend, too."""
        while True:
            judged = [
                name for name, one in self._live.snapshot.settings.virtual_models.items() if one.judging.share > 0
            ]
            self._spent = {name: self._purse.spent_usd(name) for name in judged}
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

    def _line_up(self, job: Job) -> None:
        if job.row.served is None:
            self._leave_out(job.row.virtual_model, "not_routed")
            return
        try:
            self._waiting.put_nowait(job)
        except asyncio.QueueFull:
            self._leave_out(job.row.virtual_model, "queue_full")

    def _record(self, job: Job, answers: Sequence[Answer], verdict: Verdict) -> None:
        """Writes down what came of it: a record for each other answer, and feedback where it was scored."""
        name = job.row.virtual_model
        rows = [record_of(job, one, verdict, is_first=i == 0) for i, one in enumerate(answers[1:])]
        given = feedback_of(job, answers, rows, verdict, datetime.now(UTC))
        for row in rows:
            self._put(row)
        for said in given:
            self._put(said)
            self._metrics.feedback(said)
        answers_usd = sum(one.usd or 0.0 for one in answers[1:])
        self._n_judged[name] += verdict.said is not None
        self._n_verdicts[name] += len(given)
        self._metrics.judged(name, answers_usd, verdict.usd, len(given))
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

    def _leave_out(self, virtual_model: str, reason: str) -> None:
        self._left_out.setdefault(virtual_model, Counter())[reason] += 1
        self._metrics.not_judged(virtual_model, reason)
