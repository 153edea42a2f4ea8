"""Downloads from Hugging Face and from plain addresses, both against a server on 127.0.0.1."""

from pathlib import Path

import pytest
from huggingface_hub import constants
from ingested import scores_of
from samples import SCORES, write_embedllm
from shelf import Shelf

from embedllm_router.data.download import EMBEDLLM_FILES, download
from embedllm_router.data.ingest import ingest
from embedllm_router.errors import DataError

_PATH = "/{repo_id}/resolve/{revision}/{filename}"


@pytest.fixture
def hub(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """The server in Hugging Face's place."""
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", shelf.url + _PATH)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    return shelf


def published(folder: Path) -> dict[str, bytes]:
    source = write_embedllm(folder / "published")
    return {name: (source / name).read_bytes() for name in EMBEDLLM_FILES}


@pytest.mark.parametrize("plain", [False, True])
def test_the_release_is_downloaded_and_ingested(hub: Shelf, tmp_path: Path, plain: bool) -> None:  # noqa: FBT001 - a case
    hub.contents = published(tmp_path)
    told: list[tuple[str, int, int | None]] = []
    url = hub.url if plain else None
    files = download(tmp_path / "here", url=url, on_progress=lambda *now: told.append(now))
    assert {file.name: file.read_bytes() for file in files} == hub.contents
    assert all((name, len(content), len(content)) in told for name, content in hub.contents.items())
    assert {path.startswith("/datasets/RZ412/EmbedLLM/resolve/") for path, _ in hub.asked} == {not plain}
    report = ingest([tmp_path / "here"], tmp_path / "out")
    assert scores_of(tmp_path / "out") == SCORES
    assert report.ignored == ("model_order.csv", "question_order.csv") or not report.ignored


@pytest.mark.parametrize("plain", [False, True])
def test_what_is_there_is_not_fetched_again(hub: Shelf, tmp_path: Path, plain: bool) -> None:  # noqa: FBT001 - a case
    hub.contents = {"a": b"new"}
    (tmp_path / "a").write_bytes(b"mine")
    download(tmp_path, url=hub.url if plain else None, files=["a"])
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert hub.asked == []


def test_a_broken_download_from_the_hub_goes_on_where_it_ended(
    hub: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 5)
    hub.contents, hub.breaks = {"a": b"0123456789" * 3}, 2
    download(tmp_path, files=["a"])
    assert (tmp_path / "a").read_bytes() == hub.contents["a"]
    assert [asked for _, asked in hub.asked] == [None, "bytes=10-", "bytes=20-"]


def test_a_broken_plain_download_is_one_sentence_and_never_half_a_file(shelf: Shelf, tmp_path: Path) -> None:
    shelf.contents, shelf.breaks = {"a": b"0123456789" * 3}, 1
    with pytest.raises(DataError, match=r"cannot download http://127.0.0.1:\d+/a: RemoteProtocolError"):
        download(tmp_path, url=shelf.url, files=["a"])
    assert not (tmp_path / "a").exists()
    download(tmp_path, url=shelf.url, files=["a"])
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", shelf.contents["a"])]


@pytest.mark.parametrize("plain", [False, True])
def test_a_file_the_server_lacks_is_named(hub: Shelf, tmp_path: Path, plain: bool) -> None:  # noqa: FBT001 - a case
    with pytest.raises(DataError, match=r"cannot download .*train\.csv.*: the server answers 404"):
        download(tmp_path, url=hub.url if plain else None, files=["train.csv"])
    assert not (tmp_path / "train.csv").exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "gopher://example.invalid", "http://["])
def test_no_server_and_no_address_are_one_sentence(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name their folder as SOURCE"):
        download(tmp_path, url=url, files=["a"])


def test_a_hub_that_cannot_be_reached_is_one_sentence(
    hub: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:1" + _PATH)
    with pytest.raises(DataError, match="cannot download a of RZ412/EmbedLLM: ConnectError") as caught:
        download(tmp_path, files=["a"])
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE"):
        download(tmp_path, files=["a"])
    assert hub.asked == []


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:1"])
def test_a_folder_that_cannot_be_made_is_named(url: str | None, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        download(tmp_path / "file", url=url, files=["a"])
