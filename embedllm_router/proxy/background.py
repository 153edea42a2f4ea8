"""What goes on beside requests: files, model groups and the store are watched, state is exchanged, weights learn."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from embedllm_router._files import why_nothing_fits
from embedllm_router.errors import ArtifactError, ConfigError, safe_message, where
from embedllm_router.proxy import litellm_state
from embedllm_router.proxy.container import Container
from embedllm_router.proxy.judging.run import AT_ONCE
from embedllm_router.records.writer.files import old_files
from embedllm_router.records.writer.queue import StoreHealth
from embedllm_router.routing.deployments import Row
from embedllm_router.routing.pool import Exclusion

__all__ = ["Background"]

_START_POLLS, _START_POLL_S = 300, 0.1
_GROUPS_POLL_S = 1.0
_STORE_POLL_S = 10.0
_AGAIN_S = 5.0  # after an error of ours


class Background:
    """Watches on behalf of the plugin.

    Args:
        container: What the plugin is made of.
        apply: Applies what decides to the proxy's deployments, and reports what they were matched to.
    """

    def __init__(self, container: Container, apply: Callable[[], object]) -> None:
        self._container, self._live, self._log = container, container.live, container.log
        self._apply = apply

    def start(self) -> None:
        """Begins, where there is an event loop: without one there is no proxy, and the first request reports."""
        litellm_state.end_in_order()
        self._check_place()
        self._say_what_goes()
        with suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            watches = (
                self._watch_files,
                self._watch_rests,
                self._watch_cooldowns,
                self._watch_budgets,
                self._watch_store,
            )
            judging = [self._container.judging.run] * AT_ONCE
            work = (*watches, self._container.state.run, self._container.adapting.run, *judging)
            self._tasks = [loop.create_task(self.keep_up(one)) for one in work]

    def _check_place(self) -> None:
        """Reports a place that will take no records, before the first one is lost for want of it."""
        store = self._live.snapshot.settings.store
        problem = why_nothing_fits(store.folder) if store.enabled and store.url is None else None
        if problem:
            remedy = "make room or set the rights there, or name another folder in store.path"
            self._log.warning("store.trouble", store=str(store.folder), error=problem, remedy=remedy)

    def _say_what_goes(self) -> None:
        """Reports until when records are kept; as a warning, where nobody asked and some that are there will go."""
        store = self._live.snapshot.settings.store
        if not store.enabled or store.retention_days is None:
            return
        n_old = 0
        with suppress(OSError):  # reported above
            n_old = len(old_files(store.folder, dt.timedelta(days=store.retention_days))) if store.url is None else 0
        fields = {"days": store.retention_days, "older_files": n_old, "deleted_from_s": store.first_deletion_s}
        if n_old and store.first_deletion_s:
            remedy = "set store.retention_days to null to keep them, or to the days that you want"
            self._log.warning("store.retention", store=str(store.folder), remedy=remedy, **fields)
        else:
            self._log.info("store.retention", **fields)

    async def keep_up(self, work: Callable[[], Awaitable[None]], again_s: float = _AGAIN_S) -> None:
        """Does work to its end. An error of ours is logged, once per place, and the work begun again.

        Args:
            work: What to do; it is begun anew after an error.
            again_s: How long after it, in seconds.
        """
        logged: set[str | None] = set()
        while (error := await _failure_of(work)) is not None:
            place = where(error)
            if place not in logged:
                fields = {"reason": type(error).__name__, "error": safe_message(error), "where": place}
                self._log.error("routing.background_failed", work=work.__name__.strip("_"), **fields)
            logged.add(place)
            await asyncio.sleep(again_s)

    async def _watch_files(self) -> None:
        for _ in range(_START_POLLS):
            if litellm_state.deployments():
                self._apply()
                break
            await asyncio.sleep(_START_POLL_S)
        while (reload := self._live.snapshot.settings.reload).watch:
            await asyncio.sleep(reload.every_s)
            if await asyncio.to_thread(self._live.changed):
                with suppress(ConfigError, ArtifactError):  # reported where it happened; the old ones stay
                    await asyncio.to_thread(self._container.reload)

    async def _watch_rests(self) -> None:
        while True:
            await asyncio.sleep(_GROUPS_POLL_S)
            self._container.availability.look_at_the_clock()

    async def _watch_cooldowns(self) -> None:
        await self._watch_refusals(Exclusion.COOLED_DOWN, litellm_state.cooled_down)

    async def _watch_budgets(self) -> None:
        await self._watch_refusals(Exclusion.OVER_BUDGET, litellm_state.over_budget)

    async def _watch_refusals(
        self, reason: Exclusion, refused: Callable[[Sequence[Row]], Awaitable[frozenset[str]]]
    ) -> None:
        availability = self._container.availability
        availability.refuse(reason, ())  # what was known when this last failed may be over
        while True:
            await asyncio.sleep(_GROUPS_POLL_S)
            availability.refuse(reason, await refused(litellm_state.deployments()))

    async def _watch_store(self) -> None:
        before = StoreHealth()
        while True:
            await asyncio.sleep(_STORE_POLL_S)
            now = self._container.store.health()
            self.report_store(before, now)
            before = now

    def report_store(self, before: StoreHealth, now: StoreHealth) -> None:
        """Logs that records cannot be written, that some are lost, that all is well again."""
        fields = {"store": now.location, "queued": now.queued, "dropped": now.dropped}
        if now.dropped > before.dropped:
            self._log.error("store.records_lost", lost=now.dropped - before.dropped, error=now.last_error, **fields)
        elif now.last_error is not None and before.last_error is None:
            self._log.warning("store.trouble", error=now.last_error, **fields)
        elif now.last_error is None and before.last_error is not None:
            self._log.info("store.recovered", **fields)


async def _failure_of(work: Callable[[], Awaitable[None]]) -> BaseException | None:
    """Does work; what it ended with, None when it came to its end."""
    task = asyncio.ensure_future(work())
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()  # where this was cancelled itself; else it is done, and nothing happens
    return task.exception()
