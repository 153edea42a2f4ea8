"""The dashboard's routes in a small application of their own, served on 127.0.0.1 by a thread."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Header, HTTPException
from traffic import now

from embedllm_router.artifact.versions import Attempt
from embedllm_router.artifact.weights import Artifact
from embedllm_router.config.virtual_model import VirtualModelSettings
from embedllm_router.records.reader.source import Limits, RecordSource, open_source
from embedllm_router.records.writer.queue import StoreHealth
from embedllm_router.telemetry.status import AdaptationStatus, BudgetState, ReloadStatus, Status, VirtualModelStatus
from embedllm_router.web.dashboard import dashboard_router

KEY = "sk-dashboard-test"


def wants_key(authorization: str = Header("")) -> None:
    if authorization != f"Bearer {KEY}":
        raise HTTPException(401, "Authentication Error: the key is not valid.")


def wants_nothing() -> None:
    """A proxy without a master key lets everybody pass."""


def make_status(artifact: Artifact | None, **changes: object) -> Status:
    fields: dict[str, object] = {
        "version": "0.3.0",
        "started_at": now() - timedelta(days=2, hours=3),
        "generation": 4,
        "loaded_at": now() - timedelta(hours=5),
        "artifact": artifact and artifact.id,
        "artifact_created": artifact and artifact.manifest.created[:10],
        "artifact_path": "weights/default" if artifact else None,
        "n_llms": len(artifact.manifest.llms) if artifact else 0,
        "config_path": "proxy_config.yaml",
        "last_reload": ReloadStatus(now() - timedelta(hours=5)),
        "virtual_models": (
            VirtualModelStatus(
                "auto",
                "gpt-4o-mini",
                {"cost_weight": 20.0},
                ("gpt-4o", "claude-sonnet-4", "o3-mini", "gemini-pro", "llama-70b", "gpt-4o-mini", "in-house"),
                {"in-house": "llm_unknown"},
                shadow=True,
                canary_share=0.05,
            ),
            VirtualModelStatus(
                "auto-cheap",
                "gpt-4o-mini",
                {"cost_weight": 500.0},
                ("gpt-4o-mini", "gemini-flash", "qwen-7b"),
                {},
                shadow=False,
                canary_share=0.0,
            ),
        ),
        "decided": 48_211,
        "failed_open": 13,
        "rejected": 4,
        "pending": 2,
        "adaptation": AdaptationStatus(
            every=50,
            n_new=12,
            folder="state/adaptation",
            learning=False,
            attempts=(
                Attempt(
                    at=now() - timedelta(hours=1),
                    outcome="refused",
                    n_verdicts=50,
                    n_answers=250,
                    n_held=62,
                    log_loss_before=0.5713,
                    log_loss_after=0.5871,
                    change_low=-0.0049,
                    change_high=0.0381,
                    reasons=("held-out answers are not predicted better: log-loss +0.0158 [-0.0049, +0.0381]",),
                ),
                Attempt(
                    at=now() - timedelta(hours=9),
                    outcome="learned",
                    n_verdicts=200,
                    n_answers=200,
                    artifact="0a1b2c3d4e5f",
                    before="3f09ac21b7d4",
                    n_held=50,
                    log_loss_before=0.6102,
                    log_loss_after=0.5485,
                    change_low=-0.0911,
                    change_high=-0.0312,
                ),
            ),
            error=None,
        ),
        "store": StoreHealth("files", "state/records", 48_170, 0, 0, 3, 0.4),
    }
    return Status(**{**fields, **changes})  # type: ignore[arg-type]  # names and types are those above


VIRTUAL_MODELS = {
    "auto": VirtualModelSettings.model_validate(
        {"default": "gpt-4o-mini", "profile": "balanced", "baseline": "gpt-4o", "max_cost_usd": 0.5}
    ),
    "auto-cheap": VirtualModelSettings.model_validate({"default": "gpt-4o-mini", "cost_weight": 500}),
    "auto-best": VirtualModelSettings.model_validate({"default": "gpt-4o-mini"}),
}


def make_budgets() -> tuple[BudgetState, ...]:
    shared = BudgetState(
        virtual_model="auto",
        scope="virtual_model",
        holder=None,
        usd=500.0,
        per="month",
        period="2026-11",
        ends_at=now() + timedelta(days=3),
        spent_usd=431.25,
        cost_weight=34.5,
        exhausted=False,
        forecast_usd=498.0,
    )
    key = replace(
        shared,
        scope="key",
        holder="5f1c09aa77e2",
        usd=5.0,
        per="day",
        period="2026-11-25",
        spent_usd=1.25,
        cost_weight=0.0,
    )
    return shared, replace(key, ends_at=now() + timedelta(hours=7), forecast_usd=None)


def application(
    records: Path,
    artifact: Artifact | None,
    *,
    auth: Callable[..., None] = wants_nothing,
    status: Status | None = None,
    budgets: tuple[BudgetState, ...] | None = None,
) -> FastAPI:
    source = open_source(records, limits=Limits(threads=1))
    return application_over(lambda: source, artifact, auth=auth, status=status, budgets=budgets)


def application_over(
    source: Callable[[], RecordSource],
    artifact: Artifact | None,
    *,
    auth: Callable[..., None] = wants_nothing,
    status: Status | None = None,
    budgets: tuple[BudgetState, ...] | None = None,
) -> FastAPI:
    app = FastAPI(openapi_url=None)
    seen, kept = status or make_status(artifact), make_budgets() if budgets is None else budgets
    router = dashboard_router(
        auth=auth,
        status=lambda: seen,
        source=source,
        artifact=lambda: artifact,
        budgets=lambda: kept,
        virtual_models=lambda: VIRTUAL_MODELS,
    )
    app.include_router(router)
    return app


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serves the application; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.started, "the server did not start in 20 s"
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=20)
