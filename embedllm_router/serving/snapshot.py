"""The configuration and weights that decide, and how newer ones take over while requests run.

A snapshot is loaded whole, checked, and only then put in place by one assignment; a request keeps the arms it began
with. One that fails to load changes nothing.
"""

import difflib
import hashlib
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

from structlog.typing import FilteringBoundLogger

from embedllm_router.artifact.catalog import Catalog
from embedllm_router.artifact.manifest import TransformerSpec
from embedllm_router.artifact.versions import Versions
from embedllm_router.artifact.weights import MANIFEST, Artifact, artifact_id, default_artifact_path, weights_place
from embedllm_router.config.process import EncoderSettings
from embedllm_router.config.settings import RouterSettings, read_proxy_config
from embedllm_router.errors import ArtifactError, ConfigError, EncoderError
from embedllm_router.prediction.loading import PromptEncoder, encoder_id, load_encoder
from embedllm_router.prediction.remote_encoder import RemoteEncoder
from embedllm_router.prediction.transformer_encoder import TransformerEncoder
from embedllm_router.routing.deployments import (
    Accepts,
    ModelGroup,
    PriceMap,
    Row,
    accepts_unknown,
    group_of_deployment,
    read_model_groups,
    through_wildcards,
)
from embedllm_router.routing.relatives import expect_ungraded
from embedllm_router.routing.router import Router
from embedllm_router.serving.arms import Arms, build_arms, findings
from embedllm_router.serving.caller_drift import CallerDrift
from embedllm_router.serving.encoder_queue import BatchEncoder, EncoderQueue
from embedllm_router.telemetry.status import ReloadStatus

__all__ = ["LiveSnapshot", "Served", "Snapshot", "versions_of"]

Fingerprint = tuple[tuple[str, int, int], ...]


_PROBE = "How many primes are there below 100?"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One loaded configuration with its weights.

    Attributes:
        number: 1 after start, one more after each reload.
        settings: The plugin's settings.
        routers: Loaded weights by the folder the settings name; None is the shipped folder.
        loaded_at: When, UTC.
    """

    number: int
    settings: RouterSettings
    routers: Mapping[Path | None, Router]
    loaded_at: datetime

    @property
    def router(self) -> Router | None:
        """The live weights; None when they could not be loaded."""
        return self.routers.get(self.settings.artifact)

    @property
    def folder(self) -> Path:
        """Folder of the live weights: learned ones, or those that the settings name."""
        settings, router = self.settings, self.router
        if router is not None and settings.adaptation.every is not None:
            parent = str(router.artifact.manifest.training.get("parent_artifact"))
            learned = settings.adaptation.folder / parent / router.artifact_id
            if learned.is_dir():
                return learned
        return settings.artifact or default_artifact_path()


@dataclass(frozen=True, slots=True)
class Served:
    """A snapshot applied to the proxy's deployments.

    Attributes:
        snapshot: What decides.
        arms: By virtual model; empty without weights.
        groups: The proxy's model groups by name, as the live weights know them.
        groups_by_deployment: Model group by LiteLLM's deployment id.
    """

    snapshot: Snapshot
    arms: Mapping[str, Arms]
    groups: Mapping[str, ModelGroup]
    groups_by_deployment: Mapping[str, str]


class LiveSnapshot:
    """Holds the current snapshot and replaces it.

    Args:
        settings: What the proxy was started with.
        log: Where loading is reported.
        config: The configuration file; None when it is unknown, and only weights are watched.
        drift: How far callers' prompts have been from what was learned, whatever snapshot decides; None knows of none.
    """

    def __init__(
        self,
        settings: RouterSettings,
        log: FilteringBoundLogger,
        config: Path | None = None,
        drift: CallerDrift | None = None,
    ) -> None:
        self._log = log
        self._encoders: WeakValueDictionary[tuple[str, EncoderSettings], EncoderQueue] = WeakValueDictionary()
        self.unusable: dict[Path | None, str] = {}
        """Why weights could not be loaded at the start, by the folder the settings name."""
        self._drift = drift or CallerDrift()
        seen = _stamps([config]) if config is not None else ()  # before it is read: a change meanwhile is a change
        self._config = config if config is not None and _reads_as(config, settings) else None
        self._seen = (seen if self._config is not None else ()) + _stamps(_manifests(settings))
        self.snapshot = Snapshot(1, settings, self._load_what_loads(settings), datetime.now(UTC))
        self.last_reload: ReloadStatus | None = None
        self._reloading = threading.Lock()
        self._rows: Sequence[Row] | None = None
        self._digest = b""
        self._prices: PriceMap = {}
        self._accepts: Accepts = accepts_unknown
        self._served: Served | None = None

    @property
    def config(self) -> Path | None:
        """The configuration file that is watched; None when there is none."""
        return self._config

    @property
    def served(self) -> Served | None:
        """What decides now; None until the deployments are known."""
        return self._served

    def serve(self, rows: Sequence[Row], prices: PriceMap, accepts: Accepts = accepts_unknown) -> Served:
        """What decides, for the proxy's current deployments; built again when LiteLLM has replaced them.

        Args:
            rows: LiteLLM's `model_list`.
            prices: LiteLLM's price map, raw.
            accepts: Which request parameters a deployment takes; asked when the deployments are applied.

        Returns:
            What decides.
        """
        served = self._served
        if served is None or rows is not self._rows:
            same = served is not None and prices is self._prices and _digest(rows) == self._digest
            self._rows, self._prices, self._accepts = rows, prices, accepts
            if served is None or not same:  # with a database LiteLLM makes an equal list every few seconds
                self._digest = _digest(rows)
                served = self._served = self._apply(self.snapshot, rows)
        return served

    def changed(self) -> bool:
        """Whether the configuration file or a weights folder differs from when it was last looked at.

        A file that is missing for the moment is being replaced: not yet a change.
        """
        now = _stamps(self._config_files) + _stamps(_manifests(self.snapshot.settings))
        if now == self._seen or len(now) < len(self._seen):
            return False
        self._seen = now
        return True

    def reload(self) -> Snapshot:
        """Loads configuration and weights anew and puts them in place; one that is under way is waited for.

        Returns:
            The new snapshot.

        Raises:
            ConfigError: The configuration is not valid; the old one stays.
            ArtifactError: Weights cannot be loaded; the old ones stay.
        """
        with self._reloading:
            return self._reload()

    def _reload(self) -> Snapshot:
        try:
            seen = _stamps(self._config_files)
            settings = read_proxy_config(self._config) if self._config else self.snapshot.settings
            seen += _stamps(_manifests(settings))
            routers = {folder: self._load(settings, folder) for folder in _folders(settings)}
            number = self.snapshot.number + 1
            snapshot = Snapshot(number, settings, routers, datetime.now(UTC))
            rows = self._rows
            if rows is not None:
                _check_defaults(settings, rows)
            served = None if rows is None else self._apply(snapshot, rows)
        except (ConfigError, ArtifactError) as error:
            self.last_reload = ReloadStatus(datetime.now(UTC), str(error))
            self._log.error("routing.reload_failed", error=str(error), consequence="the previous ones stay in place")
            raise
        self._warn_of_restart(settings)
        self.snapshot, self._served = snapshot, served if rows is self._rows else None
        self.last_reload = ReloadStatus(snapshot.loaded_at)
        self._seen = seen
        artifact = snapshot.router.artifact_id if snapshot.router else None
        self._log.info("routing.reloaded", generation=number, artifact=artifact)
        return snapshot

    def _apply(self, snapshot: Snapshot, rows: Sequence[Row]) -> Served:
        virtual = snapshot.settings.virtual_models
        real = [row for row in rows if row.get("model_name") not in virtual]
        real += through_wildcards(real, _named(snapshot.settings))
        router = snapshot.router
        if router is None:
            return Served(snapshot, {}, self._groups(real, Catalog(())), group_of_deployment(real))
        applied = {r: expect_ungraded(self._groups(real, r.catalog), r) for r in set(snapshot.routers.values())}
        routers = {folder: applied[r][1] for folder, r in snapshot.routers.items()}
        groups, live = {r: its for its, r in applied.values()}, applied[router][1]
        arms = {n: build_arms(n, s, routers, live, groups, self._drift) for n, s in virtual.items()}
        self._report(arms, groups[live])
        return Served(snapshot, arms, groups[live], group_of_deployment(real))

    def _groups(self, rows: Sequence[Row], catalog: Catalog) -> dict[str, ModelGroup]:
        return read_model_groups(rows, self._prices, catalog, self._accepts)

    def _report(self, arms: Mapping[str, Arms], groups: Mapping[str, ModelGroup]) -> None:
        for finding in findings({name: one.live.virtual_model for name, one in arms.items()}, groups):
            place = {"config": str(self._config)} if finding.event == "routing.setting_unusable" else {}
            getattr(self._log, finding.level)(finding.event, **finding.fields, **place)

    def _load_what_loads(self, settings: RouterSettings) -> dict[Path | None, Router]:
        routers: dict[Path | None, Router] = {}
        for folder in _folders(settings):
            try:
                routers[folder] = self._load(settings, folder)
            except ArtifactError as error:
                live, self.unusable[folder] = folder == settings.artifact, str(error)
                consequence = "the defaults answer" if live else "nothing is tried beside the live weights"
                self._log.error("routing.artifact_unusable", error=str(error), consequence=consequence)
        return routers

    def _load(self, settings: RouterSettings, folder: Path | None) -> Router:
        """Loads weights; in place of the live ones what was learned from them, unless that is damaged."""
        if folder == settings.artifact and settings.adaptation.every is not None:
            try:
                versions = versions_of(settings)
                learned = versions.path_of(versions.current())
                if learned is not None:
                    return self._load_and_probe(learned, settings.encoder)
            except ArtifactError as error:
                consequence = "the weights that the settings name decide"
                self._log.error("adaptation.weights_unusable", error=str(error), consequence=consequence)
        return self._load_and_probe(folder, settings.encoder)

    def _load_and_probe(self, folder: Path | None, encoder: EncoderSettings) -> Router:
        """Loads weights that predict something for a prompt.

        Raises:
            ArtifactError: They cannot be loaded, or predict no finite numbers, or the encoder's endpoint runs another
                transformer than they were trained with. An endpoint that does not answer may do so later.
        """
        router = Router.load(folder, partial(self._encoder_of, encoder))
        try:
            try:
                router.route(_PROBE)
            except EncoderError as error:
                consequence = "the defaults answer until it does"
                self._log.warning("routing.encoder_silent", error=str(error), consequence=consequence)
                router.route("")
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            place = folder or default_artifact_path()
            raise ArtifactError(f"{place}: the weights load, but fail on a prompt ({type(error).__name__}).") from error
        return router

    def _encoder_of(self, settings: EncoderSettings, artifact: Artifact) -> PromptEncoder:
        """The encoder that weights hold, or the transformer that they name, one for all that name it.

        Raises:
            ArtifactError: It cannot be found, or is not the one they were trained with, or the device is not there.
        """
        spec = artifact.manifest.encoder
        if not isinstance(spec, TransformerSpec):
            consequence = "prompts are embedded by the static encoder that the weights hold, and sent nowhere"
            places = {"endpoint": settings.endpoint, "folder": settings.folder}
            given = {name: str(place) for name, place in places.items() if place is not None}
            if given:
                self._log.warning("routing.encoder_not_needed", **given, consequence=consequence)
            return load_encoder(artifact)
        name = encoder_id(artifact.manifest), settings
        queue = self._encoders.get(name)
        if queue is None:
            encoder, where = _encoder(artifact, spec, settings)
            queue = EncoderQueue(encoder, max_batch=settings.max_batch, timeout_s=settings.timeout_ms / 1e3)
            self._encoders[name] = queue
            self._log.info("routing.encoder_loaded", encoder=spec.source, **where)
        return queue

    def _warn_of_restart(self, new: RouterSettings) -> None:
        old = self.snapshot.settings
        fixed = ("log", "store", "state", "dashboard", "metrics", "tracing")
        late = [name for name in fixed if getattr(old, name) != getattr(new, name)]
        if late:
            self._log.warning("routing.restart_needed", settings=late)

    @property
    def _config_files(self) -> list[Path]:
        return [self._config] if self._config else []


def _encoder(
    artifact: Artifact, spec: TransformerSpec, settings: EncoderSettings
) -> tuple[BatchEncoder, dict[str, object]]:
    """The transformer that weights name, here or at an endpoint, and where it is.

    Raises:
        ArtifactError: It cannot be found, or is not the one they were trained with, or the device is not there.
    """
    endpoint = settings.remote
    if endpoint is not None:
        return RemoteEncoder.from_artifact(artifact, endpoint), {"endpoint": endpoint.url, "checked": bool(spec.probe)}
    encoder = TransformerEncoder.from_spec(
        spec, device=settings.device, threads=settings.threads, folder=settings.folder
    )
    return encoder, {"device": encoder.device}


def _check_defaults(settings: RouterSettings, rows: Sequence[Row]) -> None:
    """Refuses a default that LiteLLM does not know: every request that routing cannot decide would fail.

    Raises:
        ConfigError: Names the virtual model, its default, and a model group of a similar name.
    """
    served = [*rows, *through_wildcards(rows, _named(settings))]
    groups = sorted({str(row.get("model_name")) for row in served} - settings.virtual_models.keys())
    for name, model in settings.virtual_models.items():
        if model.default not in groups:
            near = difflib.get_close_matches(model.default, groups, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ConfigError(f"the default {model.default!r} of {name!r} is no model group of the proxy{hint}")


def _named(settings: RouterSettings) -> list[str]:
    """The model groups that virtual models name."""
    models = settings.virtual_models.values()
    return [name for one in models for name in (*(one.candidates or ()), one.default)]


def _folders(settings: RouterSettings) -> list[Path | None]:
    trials = [t for m in settings.virtual_models.values() for t in (m.shadow, m.canary) if t is not None]
    tried: Iterable[Path | None] = (t.artifact for t in trials if t.artifact is not None)
    return list(dict.fromkeys([settings.artifact, *tried]))


def versions_of(settings: RouterSettings) -> Versions:
    """What was learned from the weights that the settings name.

    Raises:
        ArtifactError: Those have no manifest that can be read.
    """
    return Versions(settings.adaptation.folder, artifact_id(settings.artifact or default_artifact_path()))


def _manifests(settings: RouterSettings) -> list[Path]:
    """The files that change when other weights shall decide."""
    files = [weights_place(folder or default_artifact_path()) / MANIFEST for folder in _folders(settings)]
    if settings.adaptation.every is not None:
        with suppress(ArtifactError):  # reported where the weights are loaded
            files.append(versions_of(settings).pointer)
    return files


def _stamps(files: Iterable[Path]) -> Fingerprint:
    return tuple((str(file), stat.st_mtime_ns, stat.st_size) for file in files if (stat := _stat(file)))


def _digest(rows: Sequence[Row]) -> bytes:
    """A hash of everything that the rows say, which may be secret."""
    return hashlib.blake2b(repr(rows).encode("utf-8", "surrogatepass")).digest()


def _reads_as(config: Path, settings: RouterSettings) -> bool:
    """Whether the file alone yields the settings; it does not when LiteLLM merged them from several."""
    try:
        return read_proxy_config(config) == settings
    except ConfigError:
        return False


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None
