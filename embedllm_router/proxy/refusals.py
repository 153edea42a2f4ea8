"""What LiteLLM's Router would refuse: the questions it asks of a model group's deployments, asked before it does."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any, Literal

from litellm.router_strategy.tag_based_routing import get_deployments_for_tag

from embedllm_router.routing.deployments import Row, is_paused
from embedllm_router.routing.pool import Exclusion

__all__ = ["Refusals"]

_ACCESS_WINDOWS = ("litellm.router_utils.access_windows", "litellm.litellm_core_utils.access_windows")
_POOL = {"request_deployments"}
"""What releases from 1.109 on want to be told besides: all deployments that the request could go to."""
_ADMIN = "proxy_admin"


class Refusals:
    """Which model groups LiteLLM's Router would not serve a request, by what their deployments say.

    Args:
        rows: LiteLLM's `model_list`.

    Attributes:
        rows: The same object.
        by_deployment: Whether any group belongs to teams, is reserved for some at times or wants requests filtered by
            tags; where none does, only the Router's own settings and the request can make it refuse.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self._groups: dict[str, list[Any]] = {}
        for row in rows:
            if not is_paused(row):  # the Router leaves these out first
                self._groups.setdefault(str(row.get("model_name")), []).append(row)
        self._teams = {name: _teams(group) for name, group in self._groups.items()}
        self._reserved = {name for name, group in self._groups.items() if any(_windows(row) for row in group)}
        by_tags = any(_info(row).get("enable_tag_filtering") is not None for row in rows)
        self.by_deployment = by_tags or bool(self._reserved) or any(None not in teams for teams in self._teams.values())

    async def of(self, data: Mapping[str, Any], key: object, router: Any) -> dict[str, Exclusion]:
        """The groups it would refuse, with the reason.

        Args:
            data: The request's body with LiteLLM's additions.
            key: LiteLLM's key object.
            router: LiteLLM's Router.
        """
        team, is_admin = getattr(key, "team_id", None), getattr(key, "user_role", None) == _ADMIN
        region = data.get("allowed_model_region") if getattr(router, "enable_pre_call_checks", False) else None
        refused = {}
        for name, group in self._groups.items():
            if not _serves_team(self._teams[name], team, is_admin=is_admin):
                refused[name] = Exclusion.TEAM
            elif name in self._reserved and not _is_open(group, team):
                refused[name] = Exclusion.RESERVED
            elif region is not None and all(_params(row).get("region_name") != region for row in group):
                refused[name] = Exclusion.REGION
            elif not await _has_tags(name, group, data, router):
                refused[name] = Exclusion.TAG
        return refused


def _serves_team(teams: frozenset[str | None], team: str | None, *, is_admin: bool) -> bool:
    if None in teams or team in teams:
        return True
    return team is None and is_admin and len(teams) == 1


def _is_open(group: Sequence[Row], team: str | None) -> bool:
    """Whether a deployment is left of a group when those are left out that other teams have to themselves now."""
    for place in _ACCESS_WINDOWS:
        if find_spec(place) is not None:
            left = import_module(place).filter_reserved_deployments(group, team, datetime.now(UTC))
            return bool(left.deployments)
    return True  # a release that knows no such windows


async def _has_tags(name: str, group: list[Any], data: Mapping[str, Any], router: Any) -> bool:
    """Whether a deployment is left of a group when LiteLLM has filtered it by the request's tags."""
    field: Literal["metadata", "litellm_metadata"] = "litellm_metadata" if "litellm_metadata" in data else "metadata"
    metadata = data.get(field)
    seen: Any = {"enable_tag_filtering": data.get("enable_tag_filtering")}
    if isinstance(metadata, Mapping):
        seen[field] = dict(metadata)  # LiteLLM writes the tag that matched into it
    try:
        left = await get_deployments_for_tag(
            llm_router_instance=router,
            model=name,
            healthy_deployments=group,
            request_kwargs=seen,
            metadata_variable_name=field,
            **dict.fromkeys(_POOL & signature(get_deployments_for_tag).parameters.keys(), group),
        )
    except ValueError:  # how LiteLLM says that none is left
        return False
    return bool(left)


def _teams(group: Sequence[Row]) -> frozenset[str | None]:
    return frozenset(_info(row).get("team_id") for row in group)


def _windows(row: Row) -> object:
    return _info(row).get("access_windows")


def _info(row: Row) -> Mapping[str, Any]:
    value = row.get("model_info")
    return value if isinstance(value, Mapping) else {}


def _params(row: Row) -> Mapping[str, Any]:
    value = row.get("litellm_params")
    return value if isinstance(value, Mapping) else {}
