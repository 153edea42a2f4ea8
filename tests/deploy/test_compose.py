"""compose.yaml, nginx.conf and deploy/roll: read as their programs read them, and what matters in them."""

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedllm_router.config.settings import read_litellm_redis, read_proxy_config
from embedllm_router.records.writer.queue import CLOSE_S

DEPLOY = Path(__file__).parents[2] / "deploy"
SECRETS = {"POSTGRES_PASSWORD": "not-a-secret", "REDIS_PASSWORD": "nor-this"}
PROXIES = ("proxy-1", "proxy-2", "proxy-3")


def interpolated(text: str, environment: dict[str, str]) -> str:
    """As Compose does: `${NAME:-default}`, and `${NAME:?why}` for what must be there."""

    def value(match: re.Match[str]) -> str:
        name, default, _why = match.groups()
        return environment[name] if default is None else environment.get(name, default)

    return re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?([^}]*))\}", value, text).replace("$$", "$")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    text = interpolated((DEPLOY / "compose.yaml").read_text(), SECRETS)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_it_meets_the_compose_specification(compose: dict[str, Any]) -> None:
    spec = pytest.importorskip("compose_spec")
    read = spec.PyCompose.from_json(json.dumps(compose))
    read.validate()
    assert set(read.service_names()) == set(compose["services"])
    with pytest.raises(ValueError, match="deploi"):
        spec.PyCompose.from_json(json.dumps({"services": {"one": {"image": "one", "deploi": {}}}}))


def test_it_does_not_start_without_its_secrets() -> None:
    with pytest.raises(KeyError):
        interpolated((DEPLOY / "compose.yaml").read_text(), {})


def test_no_service_has_rights_or_writes_to_its_root(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert (name, service["read_only"], service["cap_drop"]) == (name, True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert int(service["user"].split(":")[0]) > 0, name
        assert service["mem_limit"], name
        assert "healthcheck" in service or name == "migrate"


def test_secrets_come_from_the_environment_alone() -> None:
    """The file as it is names no password; only nginx can be reached from other hosts, if asked for."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable + value or f"${{{variable.split('__')[0]}" in value or ":?" in value, name
        assert all(
            port.startswith(("127.0.0.1:", "${EMBEDLLM_ROUTER_LISTEN:-127.0.0.1:")) for port in service.get("ports", ())
        )
    named = (DEPLOY / "secrets.env.example").read_text()
    assert all(f"\n{name}=\n" in named for name in (*SECRETS, "LITELLM_MASTER_KEY", "EMBEDLLM_ROUTER_STORE__HASH_KEY"))
    ignored = (DEPLOY.parent / ".gitignore").read_text().splitlines()
    assert {"deploy/secrets.env", "deploy/scrape.key"} <= set(ignored)


def test_what_is_depended_on_and_mounted_is_there(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"]
    assert all(one in services["nginx"]["depends_on"] for one in PROXIES)


def test_proxies_are_alike_but_for_their_address(compose: dict[str, Any]) -> None:
    services = compose["services"]
    alike = [{k: v for k, v in services[one].items() if k not in {"networks", "build"}} for one in PROXIES]
    assert alike[0] == alike[1] == alike[2]
    addresses = {services[one]["networks"]["default"]["ipv4_address"] for one in PROXIES}
    assert len(addresses) == 3
    assert sorted(file.stem for file in (DEPLOY / "proxies").glob("*.conf")) == sorted(PROXIES)
    targets = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"][0]["static_configs"]
    assert targets == [{"targets": [f"{one}:4000" for one in PROXIES]}]


def test_its_configuration_shares_redis_and_is_given_time_to_end(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = compose["services"]["proxy-1"]
    monkeypatch.setenv("REDIS_URL", proxy["environment"]["REDIS_URL"])
    assert read_proxy_config(DEPLOY / "config.yaml").virtual_models["auto"].default == "gpt-4o-mini"
    address = read_litellm_redis(DEPLOY / "config.yaml")
    assert address is not None
    assert address.location == "redis:6379"
    minutes, seconds = re.fullmatch(r"(\d+)m(\d+)s", proxy["stop_grace_period"]).groups()  # type: ignore[union-attr]
    longest = yaml.safe_load((DEPLOY / "config.yaml").read_text())["router_settings"]["timeout"]
    assert 60 * int(minutes) + int(seconds) >= longest + CLOSE_S


@pytest.fixture
def copy_with_a_docker(tmp_path: Path) -> Path:
    """deploy/roll beside proxies of its own, and a `docker` that notes each call and who is in at that moment."""
    (tmp_path / "proxies").mkdir()
    for one in PROXIES:
        (tmp_path / "proxies" / f"{one}.conf").write_text(f"server {one}:4000;\n")
    (tmp_path / "roll").write_text((DEPLOY / "roll").read_text())
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(
        f"#!/bin/sh\ncd {tmp_path}\nshift 5\necho \"$* | $(ls proxies | grep 'conf$' | tr '\\n' ' ')\" >> calls\n"
        'case "$*" in *"$FAILS"*) exit 1;; esac\n'
    )
    docker.chmod(docker.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def roll(folder: Path, fails: str = "nothing fails") -> int:
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "FAILS": fails, "SETTLE_S": "0"}
    command = ["sh", str(folder / "roll")]
    return subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False).returncode


def test_a_roll_takes_one_after_the_other_out_and_in(copy_with_a_docker: Path) -> None:
    assert roll(copy_with_a_docker) == 0
    calls = (copy_with_a_docker / "calls").read_text().splitlines()
    assert calls[0].startswith("run --rm --no-deps -T migrate")
    for number, one in enumerate(PROXIES):
        others = "".join(f"{other}.conf " for other in PROXIES if other != one)
        out, anew, back = calls[1 + 3 * number : 4 + 3 * number]
        assert out == f"exec -T nginx nginx -s reload | {others}"
        assert anew == f"up --no-deps --force-recreate --detach --wait {one} | {others}"
        assert back == f"exec -T nginx nginx -s reload | {''.join(f'{other}.conf ' for other in PROXIES)}"
    assert len(calls) == 10


def test_a_roll_stops_at_a_proxy_that_does_not_get_ready_and_can_be_started_again(copy_with_a_docker: Path) -> None:
    """Also with an earlier version, which is how to go back."""
    assert roll(copy_with_a_docker, fails="--wait proxy-2") != 0
    left = sorted(file.name for file in (copy_with_a_docker / "proxies").iterdir())
    assert left == ["proxy-1.conf", "proxy-2.conf.out", "proxy-3.conf"]
    assert roll(copy_with_a_docker) == 0
    assert sorted(file.stem for file in (copy_with_a_docker / "proxies").glob("*.conf")) == sorted(PROXIES)
