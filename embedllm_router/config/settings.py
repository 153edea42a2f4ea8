"""Reads every setting; the only reader of the environment and of our YAML section.

    callback_settings:
      embedllm_router:
        virtual_models:
          auto: {default: gpt-4o-mini, cost_weight: 10}

An environment variable `EMBEDLLM_ROUTER_…` (nested names joined by `__`) overrides the YAML.
"""

import difflib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from embedllm_router.config.paths import Folder
from embedllm_router.config.process import (
    AdaptationSettings,
    DashboardSettings,
    EncoderSettings,
    LogSettings,
    MetricsSettings,
    RedisAddress,
    ReloadSettings,
    RestingSettings,
    StateSettings,
    StoreSettings,
    TracingSettings,
)
from embedllm_router.config.virtual_model import CanarySettings, JudgingSettings, VirtualModelSettings
from embedllm_router.errors import ConfigError
from embedllm_router.prediction.loading import EncoderPlace

__all__ = [
    "CALLBACK",
    "SECTION",
    "RouterSettings",
    "encoder_place",
    "load_config",
    "read_adaptation_settings",
    "read_encoder_settings",
    "read_litellm_redis",
    "read_proxy_config",
    "read_settings",
    "read_store_settings",
]

SECTION = "embedllm_router"
"""Our key under LiteLLM's `callback_settings`."""

_REFERENCE = "os.environ/"

CALLBACK = "embedllm_router.proxy_handler"
"""What LiteLLM's `litellm_settings.callbacks` names."""


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="EMBEDLLM_ROUTER_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # LiteLLM prints the traceback, and a misspelt setting may hold a password
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Lets the environment win over the YAML; nothing else is read."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


_MOST_BYTES = 8 * 2**20
_MOST_VALUES = 200_000
_MOST_DEPTH = 100


class RouterSettings(_Settings):
    """All settings of the plugin."""

    artifact: Folder | None = None
    """Weights folder, your own or one that ships with the package, such as `weights/mpnet`; None takes the shipped
    default."""
    encoder: EncoderSettings = EncoderSettings()
    """How prompts are embedded where the weights were trained with a sentence transformer."""
    virtual_models: dict[str, VirtualModelSettings] = Field(min_length=1)
    """The models that clients ask for by name, such as `auto`."""
    log: LogSettings = LogSettings()
    """How decisions are logged."""
    store: StoreSettings = StoreSettings()
    """Where records of requests are kept."""
    state: StateSettings = StateSettings()
    """Where budgets and sessions are kept between requests."""
    dashboard: DashboardSettings = DashboardSettings()
    """The pages under /embedllm/."""
    metrics: MetricsSettings = MetricsSettings()
    """Prometheus metrics."""
    tracing: TracingSettings = TracingSettings()
    """OpenTelemetry spans."""
    resting: RestingSettings = RestingSettings()
    """Leaving a model group alone that keeps failing."""
    reload: ReloadSettings = ReloadSettings()
    """Loading changed configuration and weights while the proxy runs."""
    adaptation: AdaptationSettings = AdaptationSettings()
    """Learning from feedback while the proxy runs; off by default."""

    @model_validator(mode="after")
    def _records_to_learn_from(self) -> Self:
        if self.adaptation.every is None:
            return self
        if not self.store.enabled:
            raise ValueError(
                "adaptation.every learns from records, and store.enabled is false: set one of them otherwise"
            )
        if not (self.store.embedding or self.store.prompt):
            raise ValueError(
                "adaptation.every learns from recorded prompts, and none are kept: set store.embedding to true, which "
                "keeps no text, or store.prompt"
            )
        return self

    @model_validator(mode="after")
    def _verdicts_are_kept(self) -> Self:
        judged = [name for name, one in self.virtual_models.items() if one.judging.share > 0]
        if judged and not self.store.enabled:
            raise ValueError(
                f"virtual_models.{judged[0]}.judging.share gives verdicts, and store.enabled is false, so that none is "
                "kept: set one of them otherwise"
            )
        return self


class _StoreAlone(_Settings):
    """Where records are kept, for commands that need to know nothing else."""

    store: StoreSettings = StoreSettings()


class _AdaptationAlone(_Settings):
    """Where learned weights are kept, likewise."""

    adaptation: AdaptationSettings = AdaptationSettings()


class _EncoderAlone(_Settings):
    """How prompts are embedded, likewise."""

    encoder: EncoderSettings = EncoderSettings()


_Alone = TypeVar("_Alone", bound=_Settings)


def read_settings(section: object) -> RouterSettings:
    """Reads the plugin's section of the proxy configuration, and the environment.

    Args:
        section: What stands under `callback_settings.embedllm_router`; None when the key is absent.

    Returns:
        The validated settings.

    Raises:
        ConfigError: Something is missing, unknown or out of range; the message names each field.
    """
    if not isinstance(section, Mapping | None):
        found = type(section).__name__
        raise ConfigError(f"callback_settings.{SECTION} must be a mapping, found {found}.")
    try:
        return RouterSettings(**{str(name): value for name, value in _resolved(dict(section or {})).items()})
    except ValidationError as error:
        raise ConfigError(f"callback_settings.{SECTION} is not valid:\n{_problems(error)}") from error
    except SettingsError as error:
        raise _not_json(error) from error
    except RecursionError as error:
        raise ConfigError(f"callback_settings.{SECTION} contains itself; expected no anchor inside itself.") from error


def read_store_settings() -> StoreSettings:
    """Reads where records are kept without a configuration file: from the environment, else the defaults.

    Raises:
        ConfigError: A value is of the wrong type or out of range; the message names each field.
    """
    return _read_alone(_StoreAlone, "STORE").store


def read_encoder_settings(**given: str) -> EncoderSettings:
    """Reads how prompts are embedded without a configuration file: from the environment, else the defaults.

    Args:
        given: Settings that a command was given; they replace the environment's.

    Raises:
        ConfigError: A value is of the wrong type or out of range; the message names each field.
    """
    settings = _read_alone(_EncoderAlone, "ENCODER").encoder
    try:
        return EncoderSettings.model_validate({**settings.model_dump(exclude_unset=True), **given})
    except ValidationError as error:
        raise ConfigError(f"the encoder's settings are not valid:\n{_problems(error)}") from error


def encoder_place() -> EncoderPlace:
    """Where the environment says that a sentence transformer is, for a command, which may wait for an endpoint.

    Raises:
        ConfigError: As `read_encoder_settings`.
    """
    settings = read_encoder_settings()
    endpoint = settings.remote
    return EncoderPlace(None if endpoint is None else endpoint.patient(), settings.folder)


def read_adaptation_settings() -> AdaptationSettings:
    """Reads how and where the proxy learns without a configuration file: from the environment, else the defaults.

    Raises:
        ConfigError: A value is of the wrong type or out of range; the message names each field.
    """
    return _read_alone(_AdaptationAlone, "ADAPTATION").adaptation


def _read_alone(settings: type[_Alone], name: str) -> _Alone:
    try:
        return settings()
    except ValidationError as error:
        raise ConfigError(f"the environment's EMBEDLLM_ROUTER_{name}__… is not valid:\n{_problems(error)}") from error
    except SettingsError as error:
        raise _not_json(error) from error


def read_proxy_config(path: Path) -> RouterSettings:
    """Reads the plugin's settings out of a proxy configuration file.

    Args:
        path: The YAML file that LiteLLM reads too.

    Returns:
        The validated settings.

    Raises:
        ConfigError: The file cannot be read, is not YAML, does not load the plugin, or its section is not valid.
    """
    config = load_config(path)
    callbacks = _group(config, "litellm_settings").get("callbacks")
    if CALLBACK not in (callbacks if isinstance(callbacks, list) else [callbacks]):
        raise ConfigError(
            f"the configuration {path} does not load the router: add {CALLBACK!r} to litellm_settings.callbacks."
        )
    sections = _group(config, "callback_settings")
    if SECTION not in sections and (near := difflib.get_close_matches(SECTION, map(str, sections), n=1)):
        raise ConfigError(f"callback_settings has {near[0]!r}, but no {SECTION!r}: is it misspelled?")
    return read_settings(sections.get(SECTION))


def load_config(path: Path) -> Mapping[str, Any]:
    """Loads a proxy configuration file, in bounded time and memory.

    Args:
        path: The YAML file.

    Returns:
        What it holds.

    Raises:
        ConfigError: It cannot be read, is no ordinary file, is too large, or is not YAML with a mapping in it.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"the configuration {path} is not a file.")
        if status.st_size > _MOST_BYTES:
            raise ConfigError(
                f"the configuration {path} has {status.st_size:,} bytes, expected at most {_MOST_BYTES:,}."
            )
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)  # it may have grown
        config = yaml.safe_load(content[:_MOST_BYTES].decode("utf-8-sig"))
        n_values = _n_values(config)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {path} is not YAML: {_yaml_problem(error)}.") from None
    except (RecursionError, ValueError, TypeError) as error:  # PyYAML's own, of deep nesting and impossible values
        raise ConfigError(f"the configuration {path} cannot be read: {type(error).__name__} in its YAML.") from None
    if not isinstance(config, Mapping):
        raise ConfigError(f"the configuration {path} must be a mapping, found {type(config).__name__}.")
    if n_values > _MOST_VALUES:
        raise ConfigError(f"the configuration {path} has more than {_MOST_VALUES:,} values, its anchors followed.")
    return config


def _n_values(config: object) -> int:
    """How many values there are with every anchor followed, counted to a little beyond the most allowed.

    Raises:
        RecursionError: They are nested too deeply, or one contains itself.
    """
    n: int = 0
    level: list[object] = [config]
    for _ in range(_MOST_DEPTH):
        n += len(level)
        if n > _MOST_VALUES or not level:
            return n
        level = list(islice(chain.from_iterable(map(_inner, level)), _MOST_VALUES + 1))
    raise RecursionError


def _inner(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


_REDIS_SECRETS = ("username", "password", "sentinel_password")
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
_REDIS_VARIABLES = {
    **{name: f"REDIS_{name.upper()}" for name in ("url", "host", "port", "ssl", "db", *_REDIS_SECRETS, *_TLS_OPTIONS)},
    "startup_nodes": "REDIS_CLUSTER_NODES",
    "sentinel_nodes": "REDIS_SENTINEL_NODES",
    "service_name": "REDIS_SERVICE_NAME",
}


def read_litellm_redis(path: Path) -> RedisAddress | None:
    """Reads the Redis that LiteLLM itself uses: in `router_settings`, `cache_params` or the environment.

    Args:
        path: The proxy configuration; one that cannot be read names none.

    Returns:
        Its address; None where LiteLLM uses no Redis.

    Raises:
        ConfigError: It refers to an environment variable that is not set, or a part of it is of the wrong type.
    """
    try:
        config = load_config(path)
    except ConfigError:
        config = {}
    router = _resolved(_group(config, "router_settings"))
    cache = _resolved(_group(_group(config, "litellm_settings"), "cache_params"))
    said = {name.removeprefix("redis_"): value for name, value in router.items() if name.startswith("redis_")}
    if not said and cache.get("type") == "redis":
        said = {name.removeprefix("redis_"): value for name, value in cache.items()}
    for name, variable in _REDIS_VARIABLES.items():
        if said.get(name) is None and os.environ.get(variable):
            said[name] = os.environ[variable]
    return _address(said)


def _address(said: Mapping[str, Any]) -> RedisAddress | None:
    cluster, sentinels = _nodes(said, "startup_nodes"), _nodes(said, "sentinel_nodes")
    if sentinels and not said.get("service_name"):
        raise ConfigError("LiteLLM's Redis has sentinel_nodes but no service_name: name the master they watch.")
    if said.get("url") and not (cluster or sentinels):
        return RedisAddress(url=str(said["url"]))
    if not (said.get("host") or cluster or sentinels):
        return None
    secure = str(said.get("ssl", "")).lower() in {"true", "1", "yes"}
    try:
        port, db = int(said.get("port") or 6379), int(said.get("db") or 0)
    except (TypeError, ValueError):
        raise ConfigError("port and db of LiteLLM's Redis must be numbers.") from None
    secrets = (str(one) if (one := said.get(name)) is not None else None for name in _REDIS_SECRETS)
    user, password, of_sentinels = secrets
    return RedisAddress(
        host=str(said.get("host") or ""),
        port=port,
        username=user,
        password=password,
        ssl=secure,
        db=db,
        ssl_options={name: str(said[name]) for name in _TLS_OPTIONS if said.get(name)},
        cluster=cluster,
        sentinels=sentinels,
        service=str(said.get("service_name") or ""),
        sentinel_password=of_sentinels,
    )


def _nodes(said: Mapping[str, Any], name: str) -> tuple[tuple[str, int], ...]:
    """Hosts and ports: a list of mappings or pairs, or JSON of one, as LiteLLM reads it."""
    found = said.get(name) or ()
    try:
        nodes = json.loads(found) if isinstance(found, str) else found
        pairs = [(one["host"], one["port"]) if isinstance(one, Mapping) else (one[0], one[1]) for one in nodes]
        return tuple((str(host), int(port)) for host, port in pairs)
    except (TypeError, ValueError, KeyError, IndexError):
        expected = "a list of [host, port] or {host: …, port: …}"
        raise ConfigError(f"{name} of LiteLLM's Redis must be {expected}, found {found!r}.") from None


def _group(config: object, name: str) -> Mapping[str, Any]:
    """A part of the configuration that is itself a mapping; empty where it is not there."""
    found = config.get(name) if isinstance(config, Mapping) else None
    if not isinstance(found, Mapping | None):
        raise ConfigError(f"{name} must be a mapping, found {type(found).__name__}.")
    return found or {}


def _not_json(error: SettingsError) -> ConfigError:
    """The error of an environment variable; pydantic's own sentence names the field and does not hold the value."""
    return ConfigError(
        f"the environment's EMBEDLLM_ROUTER_… is not valid: {str(error).split(' from source')[0]} as JSON."
    )


def _yaml_problem(error: Exception) -> str:
    """What is wrong and where, without the line itself: a key may stand in it."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return str(error).splitlines()[0] if isinstance(error, yaml.YAMLError) else "it is not UTF-8"


def _problems(error: ValidationError) -> str:
    return "\n".join(f"  {_problem(e['loc'], e['msg'], e['type'])}" for e in error.errors())


def _problem(loc: tuple[int | str, ...], message: str, kind: str) -> str:
    path = ".".join(map(str, loc))
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), sorted(_every_name()), n=1)
        return f"{path}: unknown setting{f', did you mean {near[0]!r}?' if near else ''}"
    return f"{path}: {message}"


def _resolved(value: Any) -> Any:
    """Puts environment variables in place of LiteLLM's references to them, as LiteLLM does."""
    if isinstance(value, Mapping):
        return {key: _resolved(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_resolved(one) for one in value]
    if not isinstance(value, str) or not value.startswith(_REFERENCE):
        return value
    name = value.removeprefix(_REFERENCE)
    if name not in os.environ:
        raise ConfigError(f"callback_settings.{SECTION} refers to {value}, but {name} is not set in the environment.")
    return os.environ[name]


def _every_name() -> set[str]:
    groups = (
        CanarySettings,
        JudgingSettings,
        VirtualModelSettings,
        LogSettings,
        StoreSettings,
        StateSettings,
        EncoderSettings,
        RestingSettings,
        ReloadSettings,
        AdaptationSettings,
        RouterSettings,
    )
    return {name for group in groups for name in group.model_fields}
