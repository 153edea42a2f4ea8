"""What is installed from a wheel holds everything that the commands need."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
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
    "py.typed",
}


def test_the_wheel_ships_weights_and_configuration(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = {name.removeprefix("embedllm_router/") for name in zipfile.ZipFile(wheel).namelist()}
    assert names >= SHIPPED
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
