"""The Helm chart: linted and rendered by Helm's own engine, its objects checked by Kubernetes' schemas."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from embedllm_router.cli.main import app
from embedllm_router.config.settings import read_proxy_config
from embedllm_router.records.writer.queue import CLOSE_S

helm_python = pytest.importorskip("helm_python")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

import charted  # noqa: E402 - it needs the first of them

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
KINDS = {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"}
LABEL = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
SOURCES = [pytest.param({}, id="default"), pytest.param(charted.full_values(), id="full")]


def said_in_dockerfile(instruction: str) -> str:
    (*_, last) = re.findall(rf"^{instruction} (.+)$", DOCKERFILE, flags=re.MULTILINE)
    return str(last)


def container(objects: charted.Objects, kind: str = "Deployment") -> dict[str, Any]:
    (found,) = objects[kind]["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize("values", SOURCES)
def test_lint_finds_nothing(values: dict[str, Any]) -> None:
    report = helm_python.lint(charted.CHART, values, strict=True)
    told = [one["error"] for one in report["messages"]]
    assert (told, report["errors"]) == (["icon is recommended"], [])


@pytest.mark.parametrize("version", ["1.29.0", "1.37.0"])
@pytest.mark.parametrize("values", SOURCES)
def test_kubernetes_takes_every_object(values: dict[str, Any], version: str) -> None:
    """Strictly: a field that Kubernetes does not know is an error. The operator's ServiceMonitor is not its own."""
    objects = charted.render(values)
    for kind, one in objects.items():
        if kind != "ServiceMonitor":
            kubernetes_validate.validate(one, version, strict=True)
    more = {"ConfigMap", "Job", "HorizontalPodAutoscaler", "Ingress", "ServiceMonitor"} if values else set()
    assert objects.keys() == KINDS | more


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"replicas": 3}, "replicas"),
        ({"replicaCount": "three"}, "replicaCount"),
        ({"store": {"url": "postgresql://u:p@h/d"}}, "store"),
        ({"secrets": {"existingSecret": ""}}, "existingSecret"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"ingress": {"enabled": True}}, "hosts"),
        ({"service": {"port": 0}}, "port"),
        ({"drain": {"closeSeconds": 1}}, "closeSeconds"),
        ({"resources": {"requests": {"memory": "a lot"}}}, "memory"),
    ],
)
def test_the_schema_names_a_wrong_value(values: dict[str, Any], wrong: str) -> None:
    with pytest.raises(helm_python.HelmError, match=wrong):
        charted.render(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 3}}, "minReplicas is 5, above .*raise"),
        ({"rollout": {"maxSurge": 0, "maxUnavailable": 0}}, "both 0, so no pod could ever be replaced"),
    ],
)
def test_values_that_contradict_each_other_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(helm_python.HelmError, match=words):
        charted.render(values)


def test_schema_and_values_name_the_same_and_each_value_is_explained() -> None:
    lines = (charted.CHART / "values.yaml").read_text().splitlines()
    with helm_python.Chart.load(charted.CHART) as chart:
        values, schema = chart.values, chart.schema
    assert set(schema["properties"]) - {"global"} == set(values)
    assert [line for above, line in zip(["", *lines], lines, strict=False) if _unexplained(above, line)] == []


def _unexplained(above: str, line: str) -> bool:
    """A value at the top with a comment neither on its line nor above it."""
    return bool(re.match(r"\w+: ?[^#]+$", line)) and not above.startswith("#") and line not in _GROUPS_LIKE_THEIR_NAME


_GROUPS_LIKE_THEIR_NAME = {
    "extraVolumeMounts: []",
    "imagePullSecrets: []",
    "podAnnotations: {}",
    "podLabels: {}",
    "nodeSelector: {}",
    "tolerations: []",
    "affinity: {}",
    'priorityClassName: ""',
}
"""Kubernetes' own names: what they mean is Kubernetes' to explain."""


@pytest.mark.parametrize("values", SOURCES)
def test_pods_have_no_rights_and_write_only_to_volumes(values: dict[str, Any]) -> None:
    objects = charted.render(values)
    for kind in {"Deployment", "Job"} & objects.keys():
        pod = objects[kind]["spec"]["template"]["spec"]
        user = int(said_in_dockerfile("USER").split(":")[0])
        assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsNonRoot"]) == (user, True)
        assert pod["automountServiceAccountToken"] is False
        of_container = container(objects, kind)["securityContext"]
        assert of_container["readOnlyRootFilesystem"] is True
        assert of_container["allowPrivilegeEscalation"] is False
        assert of_container["capabilities"] == {"drop": ["ALL"]}
        assert container(objects, kind)["resources"]["limits"]["memory"]
    mounts = {one["mountPath"] for one in container(objects)["volumeMounts"] if not one.get("readOnly")}
    assert mounts == {said_in_dockerfile("VOLUME"), "/tmp"}  # noqa: S108 - the container's


@pytest.mark.parametrize("values", SOURCES)
def test_secrets_are_only_referred_to(values: dict[str, Any]) -> None:
    objects = charted.render(values)
    assert "Secret" not in objects
    stated = [one for kind in ("Deployment", "Job") if kind in objects for one in container(objects, kind)["env"] or ()]
    literal = [one["name"] for one in stated if "value" in one]
    assert literal == [one["name"] for one in values.get("extraEnv", ())]


def test_what_is_run_is_what_the_image_runs() -> None:
    ours = container(charted.render())
    of_image = yaml.safe_load(said_in_dockerfile("CMD"))
    assert ours["args"] == [*of_image, "--port", said_in_dockerfile("EXPOSE")]
    assert ours["ports"][0]["containerPort"] == int(said_in_dockerfile("EXPOSE"))
    paths = {name: ours[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe", "startupProbe")}
    assert paths == {
        "livenessProbe": "/health/liveliness",
        "readinessProbe": "/embedllm/readyz",
        "startupProbe": "/health/liveliness",
    }


def test_the_grace_period_covers_what_serve_does_before_it_ends() -> None:
    """The pause until balancers know, the longest answer of the shipped configuration, and the writing of records."""
    objects = charted.render()
    grace = objects["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    pause = int(container(objects)["lifecycle"]["preStop"]["exec"]["command"][1])
    longest = yaml.safe_load((ROOT / "proxy_config.yaml").read_text())["router_settings"]["timeout"]
    assert grace >= pause + longest + CLOSE_S
    full = charted.render(charted.full_values())["Deployment"]["spec"]["template"]["spec"]
    assert full["terminationGracePeriodSeconds"] == 15 + 360 + 15


def test_the_configuration_arrives_to_the_letter(tmp_path: Path) -> None:
    objects = charted.render(charted.full_values())
    text = objects["ConfigMap"]["data"]["config.yaml"]
    assert text == charted.full_values()["config"]["content"]
    mount = {"name": "config", "mountPath": "/etc/embedllm-router", "readOnly": True}
    assert mount in container(objects)["volumeMounts"]
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert read_proxy_config(file).virtual_models["auto"].default == "gpt-4o-mini"


def test_a_changed_configuration_restarts_the_proxies() -> None:
    def checksum(content: str) -> str:
        objects = charted.render({"config": {"content": content}})
        return str(objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    assert checksum("model_list: []") == checksum("model_list: []") != checksum("model_list: [{}]")
    assert "ConfigMap" not in charted.render()


def test_tables_are_made_before_any_proxy_starts() -> None:
    """As a hook that uses nothing of the release, by a command that there is, and not without a database."""
    objects = charted.render(charted.full_values())
    job = objects["Job"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    migrate = container(objects, "Job")
    assert CliRunner().invoke(app, [*migrate["args"], "--help"]).exit_code == 0
    assert migrate["image"] == container(objects)["image"]
    assert migrate["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "llm-records-owner", "key": "url"}
    pod = job["spec"]["template"]
    assert "serviceAccountName" not in pod["spec"]
    assert not objects["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert "Job" not in charted.render({"migration": {"enabled": True}})


def test_it_scales_by_requests_and_by_cpu() -> None:
    objects = charted.render(charted.full_values())
    assert "replicas" not in objects["Deployment"]["spec"], "the autoscaler's number is not overwritten"
    scaler = objects["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    by_requests, by_cpu = scaler["metrics"]
    assert by_requests["pods"]["metric"]["name"] == "embedllm_requests_per_second"
    assert by_cpu["resource"]["target"]["averageUtilization"] == 70
    only = {"autoscaling": {"enabled": True, "targetCPUPercent": None}}
    assert len(charted.render(only)["HorizontalPodAutoscaler"]["spec"]["metrics"]) == 1


def test_one_proxy_alone_has_no_disruption_budget() -> None:
    assert "PodDisruptionBudget" not in charted.render({"replicaCount": 1})


@pytest.mark.parametrize("named", ["123", "true", "null", "b" * 80, "b" * 52 + "-." + "d" * 9])
def test_names_that_look_like_numbers_or_are_long_stay_names(named: str) -> None:
    """Kubernetes takes labels of at most 63 characters, whose first and last are letters or digits."""
    values = charted.full_values() | {
        "nameOverride": named,
        "fullnameOverride": f"n{named}",
        "secrets": {"existingSecret": named},
        "image": {"repository": "router", "tag": f"{'c' * 62}_{named}"},
    }
    objects = charted.render(values, name=named[:53].rstrip("-."))
    for kind, one in objects.items():
        if kind != "ServiceMonitor":
            kubernetes_validate.validate(one, "1.37.0", strict=True)
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", one["metadata"]["name"])
        labels = [*one["metadata"]["labels"].values()]
        if kind in {"Deployment", "Job"}:
            labels += one["spec"]["template"]["metadata"]["labels"].values()
        assert [text for text in labels if not re.fullmatch(LABEL, text)] == []


@pytest.mark.parametrize("values", SOURCES)
def test_services_budgets_and_scrapes_select_the_proxies(values: dict[str, Any]) -> None:
    objects = charted.render(values)
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [objects["Service"]["spec"]["selector"]]
    selectors += [objects[kind]["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")]
    assert all(selector.items() <= labels for selector in selectors)
    if "ServiceMonitor" in objects:
        monitor = objects["ServiceMonitor"]["spec"]
        assert monitor["selector"]["matchLabels"].items() <= objects["Service"]["metadata"]["labels"].items()
        (endpoint,) = monitor["endpoints"]
        assert endpoint["path"] == "/embedllm/metrics"
        assert endpoint["authorization"]["credentials"] == {"name": "llm-keys", "key": "LITELLM_MASTER_KEY"}


def test_the_notes_say_what_is_not_shared() -> None:
    alone, shared = charted.notes(), charted.notes(charted.full_values())
    assert "store.existingSecret" in alone
    assert "state.existingSecret" in alone
    assert "existingSecret" not in shared
    assert "https://llm.example.com/v1" in shared
