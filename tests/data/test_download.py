"""Downloads against a server on 127.0.0.1 that breaks off, changes its files and knows only some of them."""

import shutil
from pathlib import Path

import pytest
from ingested import scores_of
from samples import SCORES, write_embedllm
from shelf import Shelf

from embedllm_router.data.download import EMBEDLLM_FILES, download
from embedllm_router.data.ingest import ingest
from embedllm_router.errors import DataError


def test_the_release_is_downloaded_and_ingested(shelf: Shelf, tmp_path: Path) -> None:
    source = write_embedllm(tmp_path / "published")
    shelf.contents = {name: (source / name).read_bytes() for name in EMBEDLLM_FILES}
    told: list[tuple[str, int, int | None]] = []
    files = download(tmp_path / "here", url=shelf.url, tell=lambda *now: told.append(now))
    assert {file.name: file.read_bytes() for file in files} == shelf.contents
    assert ("train.csv", len(shelf.contents["train.csv"]), len(shelf.contents["train.csv"])) in told
    ingest([tmp_path / "here"], tmp_path / "out")
    assert scores_of(tmp_path / "out") == SCORES


def test_what_is_there_is_not_fetched_again(shelf: Shelf, tmp_path: Path) -> None:
    shelf.contents = {"a": b"new"}
    (tmp_path / "a").write_bytes(b"mine")
    download(tmp_path, url=shelf.url, files=["a"])
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert shelf.ranges == []


def test_a_broken_download_goes_on_where_it_ended(shelf: Shelf, tmp_path: Path) -> None:
    shelf.contents, shelf.breaks = {"a": b"0123456789" * 3}, 2
    download(tmp_path, url=shelf.url, files=["a"])
    assert (tmp_path / "a").read_bytes() == b"0123456789" * 3
    assert shelf.ranges == [None, "bytes=10-", "bytes=20-"]
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_server_that_keeps_breaking_off_is_given_up_and_the_part_kept(shelf: Shelf, tmp_path: Path) -> None:
    shelf.contents, shelf.breaks, shelf.break_at = {"a": b"0123456789" * 9}, 4, 5
    with pytest.raises(DataError, match="gave up after 4 attempts"):
        download(tmp_path, url=shelf.url, files=["a"])
    assert not (tmp_path / "a").exists()
    download(tmp_path, url=shelf.url, files=["a"])
    assert (tmp_path / "a").read_bytes() == shelf.contents["a"]
    assert shelf.ranges[-1] == "bytes=20-"


def test_a_part_of_an_older_version_is_not_continued(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"old old")
    (tmp_path / "a.part.etag").write_text('"v0"')
    shelf.contents = {"a": b"new new new"}
    download(tmp_path, url=shelf.url, files=["a"])
    assert (tmp_path / "a").read_bytes() == b"new new new"


def test_a_part_longer_than_the_file_is_begun_again(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"longer than it is now")
    (tmp_path / "a.part.etag").write_text('"v1"')
    shelf.contents = {"a": b"short"}
    download(tmp_path, url=shelf.url, files=["a"])
    assert (tmp_path / "a").read_bytes() == b"short"


def test_a_file_the_server_lacks_is_named(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/train\.csv: the server answers 404"):
        download(tmp_path, url=shelf.url, files=["train.csv"])


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "gopher://example.invalid", "http://["])
def test_no_server_and_no_address_are_one_sentence(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name their folder as SOURCE"):
        download(tmp_path, url=url, files=["a"])


def test_a_disk_too_small_is_noticed_before(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.contents = {"a": b"0123456789"}

    class Full:
        free = 5

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Full)
    with pytest.raises(DataError, match="--download-dir"):
        download(tmp_path, url=shelf.url, files=["a"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        download(tmp_path / "file", url="http://127.0.0.1:1", files=["a"])


def test_a_server_that_compresses_unasked_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    shelf.contents, shelf.encoding = {"a": b"gzip?"}, "gzip"
    with pytest.raises(DataError, match="compressed though asked not to"):
        download(tmp_path, url=shelf.url, files=["a"])
