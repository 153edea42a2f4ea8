"""The prompt hash: equal prompts of one store are equal, and without the key nobody can tell which they were."""

import hashlib
import stat
from pathlib import Path

from pydantic import SecretStr
from stored import quick_store

from embedllm_router.config.process import StoreSettings
from embedllm_router.records.writer.store import open_store


def test_every_store_of_a_folder_hashes_alike_and_every_folder_differently(tmp_path: Path) -> None:
    here, again, there = (quick_store(tmp_path / name).prompt_hash("hello") for name in ("a", "a", "b"))
    assert here == again != there
    assert len(here) == 24
    assert set(here) <= set("0123456789abcdef")


def test_the_hash_depends_on_the_prompt_and_is_no_plain_hash(tmp_path: Path) -> None:
    store = quick_store(tmp_path)
    assert store.prompt_hash("hello") != store.prompt_hash("hello ")
    assert store.prompt_hash("hello") != hashlib.blake2b(b"hello", digest_size=12).hexdigest()


def test_a_key_of_the_settings_links_folders_and_databases(tmp_path: Path) -> None:
    hashes = {quick_store(tmp_path / name, hash_key="our key").prompt_hash("hello") for name in ("a", "b")}
    hashes.add(open_store(StoreSettings(enabled=False, hash_key=SecretStr("our key"))).prompt_hash("hello"))
    assert len(hashes) == 1
    assert not list(tmp_path.iterdir())
    assert quick_store(tmp_path / "a", hash_key="another").prompt_hash("hello") not in hashes


def test_the_key_is_for_its_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    quick_store(folder).prompt_hash("hello")
    assert [path.name for path in folder.iterdir()] == ["hash.key"]
    assert stat.S_IMODE((folder / "hash.key").stat().st_mode) == 0o600


def test_half_a_key_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "hash.key").write_text("abc")
    first, second = (quick_store(tmp_path).prompt_hash("hello") for _ in range(2))
    assert first == second


def test_a_key_that_cannot_be_kept_costs_no_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = quick_store(tmp_path / "file" / "records")
    assert store.prompt_hash("hello") == store.prompt_hash("hello")


def test_a_prompt_that_is_no_unicode_has_a_hash(tmp_path: Path) -> None:
    assert len(quick_store(tmp_path).prompt_hash("half \ud83d")) == 24
