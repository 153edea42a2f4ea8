"""What is installed from a wheel holds everything that the commands need."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [path for path in (ROOT / "scripts").iterdir() if not path.suffix and path.is_file()]
SHIPPED = {
    "web/static/index.html",
    "web/static/vendor/LICENSE.md",
    "web/static/vendor/chart.umd.min.js",
    "records/writer/migrations/env.py",
    "_shipped/proxy_config.yaml",
    "_shipped/weights/default/decoder.safetensors",
    "_shipped/weights/default/encoder.safetensors",
    "_shipped/weights/default/landmarks.safetensors",
    "_shipped/weights/default/manifest.json",
    "_shipped/weights/default/tokenizer.json",
    "_shipped/weights/mpnet/decoder.safetensors",
    "_shipped/weights/mpnet/landmarks.safetensors",
    "_shipped/weights/mpnet/manifest.json",
    "_shipped/weights/mpnet/tokenizer.json",
    "py.typed",
}


def test_the_wheel_ships_weights_and_configuration(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = {name.removeprefix("embedllm_router/") for name in zipfile.ZipFile(wheel).namelist()}
    assert names >= SHIPPED
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_what_the_package_is_built_from_is_there_and_not_ignored() -> None:
    """`scripts/test-wheel` builds from an unpacked sdist, which holds no ignored file."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    sources = [*wheel["only-include"], *wheel["force-include"]]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    ignored = subprocess.run(
        ["git", "-C", str(ROOT), "check-ignore", *sources], capture_output=True, text=True, check=False
    )
    assert ignored.stdout == ""


@pytest.mark.parametrize("script", sorted(SCRIPTS), ids=lambda script: script.name)
def test_scripts_are_valid_shell(script: Path) -> None:
    """Those that need a network or a fresh environment do not run here."""
    read = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")
