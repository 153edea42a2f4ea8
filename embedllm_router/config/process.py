"""The settings of the process: log, records, state, pages, metrics, traces, reload. Each with its default and meaning.

settings.py reads them; values here are checked, nothing is opened or created.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from platformdirs import user_state_path
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from embedllm_router.config.paths import Folder
from embedllm_router.prediction.remote_encoder import Endpoint

__all__ = [
    "AdaptationSettings",
    "DashboardSettings",
    "EncoderSettings",
    "LogSettings",
    "MetricsSettings",
    "RedisAddress",
    "ReloadSettings",
    "RestingSettings",
    "StateSettings",
    "StoreSettings",
    "TracingSettings",
    "default_adaptation_path",
    "default_state_path",
    "default_store_path",
]


def default_store_path() -> Path:
    """Folder of the record files when the settings name none: in the user's state folder."""
    return user_state_path("embedllm-router") / "records"


def default_state_path() -> Path:
    """Folder of shared state when the settings name none: in the user's state folder."""
    return user_state_path("embedllm-router") / "state"


def default_adaptation_path() -> Path:
    """Folder of what the proxy learned by itself when the settings name none: in the user's state folder."""
    return user_state_path("embedllm-router") / "adaptation"


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LogSettings(_Group):
    """How decisions are logged, on stderr."""

    format: Literal["json", "console"] = "json"
    """One JSON object per line, or coloured text for people."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written; decisions have the level `info`."""
    prompt: bool = False
    """Whether the embedded prompt text is logged. When off, no prompt text is ever logged."""


class StoreSettings(_Group):
    """Where records of requests are kept."""

    enabled: bool = True
    """Whether records are kept at all."""
    path: Path | None = None
    """Folder of the record files; None takes `embedllm-router/records` in the user's state folder."""
    url: SecretStr | None = None
    """PostgreSQL instead of files: `postgresql://user:password@host/database`."""
    flush_s: float = Field(default=1.0, gt=0, le=60)
    """Longest time a record waits before it is on disk, in seconds. A crash may lose the records of that time."""
    rotate_mb: float = Field(default=64, gt=0, le=4096)
    """Size at which a file is closed and sealed as Parquet, in MB."""
    rotate_s: float = Field(default=3600, gt=0, le=31_536_000)
    """Age at which a file is closed and sealed, in seconds."""
    retention_days: float | None = Field(default=90, gt=0, le=36_500)
    """Age at which records are deleted, in days; `null` keeps them. Where this is not set, a proxy says at start what
    it will delete, and deletes from an hour later on."""
    prompt: bool = False
    """Whether the embedded prompt text is stored. When off, only a keyed hash of it is stored."""
    embedding: bool = False
    """Whether the prompt embedding is stored, so that replay works with other weights without the text."""
    hash_key: SecretStr | None = None
    """Key of the prompt hash; None makes one per folder, and with `url` one per process. Give all proxies the same
    key so that equal prompts have equal hashes."""

    @property
    def first_deletion_s(self) -> float:
        """How long after the start old records are deleted: whoever set nothing has time to read what will go."""
        return 0.0 if "retention_days" in self.model_fields_set else 3_600.0

    @property
    def folder(self) -> Path:
        """Folder of the record files, and of the hash key."""
        return self.path or default_store_path()

    @property
    def place(self) -> str:
        """Where records are read: the database's URL with its password, or the folder."""
        return self.url.get_secret_value() if self.url is not None else str(self.folder)


class StateSettings(_Group):
    """Where budgets and sessions are kept between requests."""

    path: Path | None = None
    """Folder on a local disk for the state that survives a restart; None takes `embedllm-router/state` in the user's
    state folder."""
    redis_url: SecretStr | None = None
    """Redis that several proxies share, such as `redis://host:6379`; None takes the Redis of LiteLLM's own
    configuration, if there is one."""
    namespace: str = Field(default="embedllm", min_length=1)
    """Prefix of every Redis key."""

    @property
    def folder(self) -> Path:
        """Folder of what survives a restart."""
        return self.path or default_state_path()


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where Redis is, and its credentials.

    Attributes:
        url: `redis://`, `rediss://` or `unix://` with everything in it; when set, the others are not read.
        host: Name or address.
        port: Port.
        username: None for Redis's default user.
        password: None for none.
        ssl: Whether the connection is encrypted.
        db: Number of the database.
        ssl_options: Files of certificates and keys and what is checked, by redis-py's names for them: `ssl_ca_certs`,
            `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs`.
        cluster: Nodes of a Redis Cluster, host and port each; when given, `host` and `port` are not read.
        sentinels: Likewise the Sentinels that know who is the master.
        service: Name of the master that the Sentinels watch.
        sentinel_password: Password of the Sentinels; None for none.
    """

    url: str | None = field(default=None, repr=False)
    host: str = "localhost"
    port: int = 6379
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ssl: bool = False
    db: int = 0
    ssl_options: Mapping[str, str] = field(default_factory=dict)
    cluster: tuple[tuple[str, int], ...] = ()
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_password: str | None = field(default=None, repr=False)

    @property
    def location(self) -> str:
        """Host and port, or the socket's path, without credentials; of several nodes all of them."""
        if nodes := self.cluster or self.sentinels:
            return ",".join(f"{host}:{port}" for host, port in nodes)
        if self.url is None:
            return f"{self.host}:{self.port}"
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path


class EncoderSettings(_Group):
    """How prompts are embedded where the weights were trained with a sentence transformer; other weights need none.

    Prompts are embedded beside the event loop, in batches of what came while the encoder was busy.
    """

    endpoint: str | None = None
    """Endpoint that embeds prompts in place of a transformer in this process, such as `http://127.0.0.1:8080/v1`. Every
    prompt is sent there, so it must be one that may read them. It must run the transformer that the weights were
    trained with; None runs that in this process."""
    form: Literal["openai", "tei"] = "openai"
    """How the endpoint is asked: `openai` by `POST ENDPOINT/embeddings`, `tei` by `POST ENDPOINT/embed` as Hugging
    Face's Text Embeddings Inference has it."""
    model: str | None = None
    """Name of the transformer in calls to the endpoint; None takes the name that the weights have."""
    api_key: SecretStr | None = None
    """Key of the endpoint, sent as a bearer token, such as `os.environ/TEI_KEY`; None sends none."""
    folder: Folder | None = None
    """Folder of the transformer's files, such as `/models/all-mpnet-base-v2`; None finds them by the name that the
    weights have, in the cache of Hugging Face or, where its settings allow it, on the hub."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the transformer runs; `auto` takes a GPU where torch finds one, else the CPU."""
    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads it uses where it runs on a CPU."""
    max_batch: int = Field(default=32, ge=1, le=1024)
    """Most prompts in one batch, and most texts in one call to the endpoint."""
    timeout_ms: float = Field(default=1_000, gt=0, le=600_000)
    """A request whose prompt is not embedded after so many milliseconds goes to the default."""

    @property
    def remote(self) -> Endpoint | None:
        """The endpoint and how it is asked; None without one."""
        if self.endpoint is None:
            return None
        return Endpoint(
            url=self.endpoint,
            form=self.form,
            model=self.model,
            api_key=self.api_key.get_secret_value() if self.api_key else None,
            timeout_s=self.timeout_ms / 1e3,
            max_batch=self.max_batch,
        )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.endpoint is not None and self.folder is not None:
            raise ValueError("endpoint and folder exclude each other: the endpoint has the transformer's files")
        return self

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        try:
            parts = urlsplit(endpoint)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable or not endpoint.isprintable() or " " in endpoint:
            raise ValueError(
                "expected an address that begins with http:// or https://, such as http://127.0.0.1:8080/v1"
            )
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("it is logged, so it may hold no user, password, ? or #: give the key in encoder.api_key")
        return endpoint

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not re.fullmatch(r"[!-~]+", key.get_secret_value()):
            raise ValueError("expected printable ASCII characters without spaces or line breaks, at least one")
        return key


class DashboardSettings(_Group):
    """The pages under /embedllm/."""

    enabled: bool = True
    """Whether the proxy serves the dashboard."""


class MetricsSettings(_Group):
    """Prometheus metrics."""

    enabled: bool = True
    """Whether metrics are counted and served: at /embedllm/metrics, and on LiteLLM's /metrics with its
    `prometheus` callback."""


class TracingSettings(_Group):
    """OpenTelemetry spans."""

    enabled: bool = True
    """Whether each decision adds a span. Without an OpenTelemetry tracer in the process, this does nothing."""


class ReloadSettings(_Group):
    """Loading changed configuration and weights while the proxy runs."""

    watch: bool = True
    """Whether the configuration file and weights folders are watched."""
    every_s: float = Field(default=2.0, gt=0, le=3600)
    """How often they are checked for changes, in seconds."""


class RestingSettings(_Group):
    """Leaving a model group alone that keeps failing: time-outs, 429, 5xx and connections that fail."""

    failures: int | None = Field(default=5, ge=1, le=1000)
    """How many of the latest calls of a model group must have failed for it to rest; None lets none rest."""
    of_calls: int = Field(default=10, ge=1, le=10_000)
    """How many of its latest calls are looked at; at least `failures`."""
    rest_s: float = Field(default=10.0, gt=0, le=86_400)
    """How long it rests at first, in seconds. Then one request tries it: if that fails, it rests twice as long."""
    max_rest_s: float = Field(default=300.0, gt=0, le=86_400)
    """Longest rest, in seconds."""

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.failures is not None and self.failures > self.of_calls:
            raise ValueError(f"failures is {self.failures}, of only {self.of_calls} calls: lower it, or raise of_calls")
        return self


class AdaptationSettings(_Group):
    """Learning by itself: weights are updated from the verdicts of your own traffic while the proxy runs."""

    every: int | None = Field(default=None, ge=1, le=1_000_000)
    """Number of new verdicts (feedback records) after which the proxy runs `embedllm-router learn` in the background,
    such as 50; None never does. Needs `store.embedding` or `store.prompt`."""
    path: Path | None = None
    """Folder of the learned weights; None takes `embedllm-router/adaptation` in the user's state folder. Give proxies
    that share records the same folder, and each set of records a folder of its own."""
    keep: int = Field(default=5, ge=1, le=100)
    """How many earlier learned weights are kept, to go back to with `embedllm-router learn --undo`."""
    sources: tuple[str, ...] | None = None
    """Sources of feedback that count, such as `user`; None counts all."""
    max_requests: int = Field(default=20_000, ge=100, le=200_000)
    """Largest number of requests with feedback that are learned from; the newest are taken."""
    check_s: float = Field(default=30.0, gt=0, le=86_400)
    """How often new verdicts are counted, in seconds."""
    timeout_s: int = Field(default=900, ge=10, le=86_400)
    """Longest time that learning may take, in seconds; then it is ended, and tried again later."""
    memory_mb: int = Field(default=4096, ge=512, le=1_000_000)
    """Most memory that learning may take, in MB, on systems that can limit it."""

    @property
    def folder(self) -> Path:
        """Folder of the learned weights."""
        return (self.path or default_adaptation_path()).expanduser().absolute()
