"""A folder that is damaged, truncated or does not fit is refused, and the message says expected and found."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import planted_artifact
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from embedllm_router.artifact.weights import (
    artifact_id,
    check_beside,
    default_artifact_path,
    load_artifact,
    read_card,
    save_artifact,
    weights_place,
)
from embedllm_router.errors import ArtifactError, ConfigError

FILES = ("encoder.safetensors", "decoder.safetensors", "tokenizer.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    planted_artifact(tmp_path / "artifact")
    return tmp_path / "artifact"


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def replace_tensors(folder: Path, name: str, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Rewrites a tensor file and makes the manifest's size and hash agree, so that only the tensors are wrong."""
    tensors = load_safetensors((folder / name).read_bytes())
    change(tensors)
    data = save_safetensors(tensors)
    (folder / name).write_bytes(data)
    record = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(folder, lambda m: m["files"].update({name: record}))


def test_what_was_saved_is_loaded(folder: Path) -> None:
    artifact = load_artifact(folder)
    assert next(llm.id for llm in artifact.manifest.llms).startswith("wizard")
    assert len(artifact.id) == 12
    assert not list(folder.parent.glob(".artifact*")), "no draft is left behind"


def test_shipped_weights_are_found_by_name_unless_the_working_directory_has_such_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = Path("weights/default")
    shipped = default_artifact_path()
    assert load_artifact(named).id == artifact_id(named) == artifact_id(shipped)
    assert read_card(named) == read_card(shipped) != ""
    own = planted_artifact(tmp_path / named)
    assert load_artifact(named).id == artifact_id(named) == own.id != artifact_id(shipped)
    for missing in (Path("weights/none"), tmp_path / "weights" / "none"):
        with pytest.raises(ArtifactError, match=r"weights/none: cannot read manifest\.json"):
            load_artifact(missing)


def test_an_empty_folder_that_hides_shipped_weights_is_named_as_what_hides_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights" / "default").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="hides the weights of that name that ship with the package: remove it"):
        load_artifact(Path("weights/default"))
    (tmp_path / "weights" / "mine").mkdir()
    with pytest.raises(ArtifactError, match=r"train`; check the path"):
        load_artifact(Path("weights/mine"))


def test_only_names_are_looked_for_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that leaves the working directory is no name, whatever lies there beside the package."""
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    package = default_artifact_path().parents[1]
    assert weights_place(Path("weights/default")) == default_artifact_path()
    for path in (Path("../weights/default"), Path(f"../{package.name}/weights/default"), Path("weights")):
        assert weights_place(path) == path


def test_shipped_weights_found_by_name_are_not_overwritten_as_their_own_successors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for out in (default_artifact_path(), Path("weights/default")):
        with pytest.raises(ConfigError, match="name another folder"):
            check_beside(Path("weights/default"), out)
    check_beside(Path("weights/default"), Path("weights/newer"))


def test_the_id_covers_every_tensor(folder: Path) -> None:
    before = load_artifact(folder).id
    replace_tensors(folder, "decoder.safetensors", lambda t: t["llm_bias"].__iadd__(np.float32(1)))
    assert load_artifact(folder).id != before


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"cannot read {name}"):
        load_artifact(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused_with_both_sizes(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-5])
    with pytest.raises(ArtifactError, match=f"{name} has {len(data) - 5} bytes, expected {len(data)}"):
        load_artifact(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused_with_both_hashes(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    expected = hashlib.sha256(data).hexdigest()[:12]
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=f"{hashlib.sha256(data).hexdigest()[:12]}…, expected {expected}…"):
        load_artifact(folder)


def test_a_tensor_of_another_shape_is_refused_with_both_shapes(folder: Path) -> None:
    replace_tensors(folder, "decoder.safetensors", lambda t: t.update(llm_bias=np.zeros(4, np.float32)))
    with pytest.raises(ArtifactError, match=r"llm_bias is float32 \(4,\), the manifest says float32 \(3,\)"):
        load_artifact(folder)


def test_a_tensor_of_another_dtype_is_refused(folder: Path) -> None:
    replace_tensors(folder, "decoder.safetensors", lambda t: t.update(llm_bias=t["llm_bias"].astype(np.float16)))
    with pytest.raises(ArtifactError, match="llm_bias is float16"):
        load_artifact(folder)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(folder: Path, value: float) -> None:
    replace_tensors(folder, "decoder.safetensors", lambda t: t["llm_embeddings"].__setitem__((0, 0), value))
    with pytest.raises(ArtifactError, match="llm_embeddings holds NaN or infinity"):
        load_artifact(folder)


def test_opposite_infinities_do_not_cancel(folder: Path) -> None:
    def poison(tensors: dict[str, np.ndarray]) -> None:
        tensors["llm_embeddings"][0, :2] = (math.inf, -math.inf)

    replace_tensors(folder, "decoder.safetensors", poison)
    with pytest.raises(ArtifactError, match="NaN or infinity"):
        load_artifact(folder)


def test_a_missing_and_an_extra_tensor_are_named(folder: Path) -> None:
    replace_tensors(folder, "decoder.safetensors", lambda t: t.update(surprise=t.pop("llm_bias")))
    with pytest.raises(ArtifactError, match=r"missing \['llm_bias'\], unexpected \['surprise'\]"):
        load_artifact(folder)


def test_a_scale_of_zero_is_refused(folder: Path) -> None:
    replace_tensors(folder, "decoder.safetensors", lambda t: t["input_scale"].__setitem__(0, 0))
    with pytest.raises(ArtifactError, match=r"input_scale must be positive, smallest found 0\.0"):
        load_artifact(folder)


def test_a_file_that_is_no_safetensors_is_refused(folder: Path) -> None:
    data = b"not tensors at all"
    (folder / "encoder.safetensors").write_bytes(data)
    record = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(folder, lambda m: m["files"].update({"encoder.safetensors": record}))
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        load_artifact(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(format_version=99), "format_version 99, expected 1"),
        (lambda m: m.pop("llms"), "llms: Field required"),
        (lambda m: m["llms"].append(m["llms"][0]), "repeat"),
        (lambda m: m["files"].pop("tokenizer.json"), "lists no tokenizer.json"),
        (lambda m: m["encoder"].update(d_embedding="many"), "encoder.static.d_embedding"),
        (lambda m: m.update(surprise=1), "surprise"),
    ],
)
def test_a_manifest_that_does_not_fit_says_where(
    folder: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    edit_manifest(folder, change)
    with pytest.raises(ArtifactError, match=words):
        load_artifact(folder)


def test_a_manifest_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="not JSON"):
        load_artifact(folder)


def test_saving_never_replaces_a_folder_that_is_no_artifact(folder: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    artifact = load_artifact(folder)
    with pytest.raises(ArtifactError, match=r"holds no manifest\.json"):
        save_artifact(
            precious,
            artifact.manifest,
            encoder=artifact.encoder,
            decoder=artifact.decoder,
            tokenizer_json=artifact.tokenizer_json,
            model_card="",
        )
    assert (precious / "thesis.txt").read_text() == "years"


def test_parts_that_do_not_fit_leave_the_older_artifact_alone(folder: Path) -> None:
    before = load_artifact(folder)
    broken = {**before.decoder, "llm_bias": np.zeros(9, np.float32)}
    with pytest.raises(ArtifactError, match="llm_bias"):
        save_artifact(
            folder,
            before.manifest,
            encoder=before.encoder,
            decoder=broken,
            tokenizer_json=before.tokenizer_json,
            model_card="",
        )
    assert load_artifact(folder).id == before.id


def test_the_shipped_artifact_loads_is_small_and_describes_itself() -> None:
    path = default_artifact_path()
    manifest = load_artifact(path).manifest
    assert sum(f.stat().st_size for f in path.iterdir()) <= 40_000_000
    assert all(llm.n_labels >= 30 for llm in manifest.llms)
    assert manifest.hedge is not None
    assert {one.name for one in manifest.hedge.left_out} == {source.name for source in manifest.data}
    assert all((llm.price_source is None) == (llm.input_usd_per_mtok is None) for llm in manifest.llms)
    assert all(source.licence != "unknown" for source in manifest.data)
    card = (path / "README.md").read_text(encoding="utf-8")
    assert all(source.attribution in card for source in manifest.data)
    assert all(one.domain in card for one in manifest.hedge.left_out)
