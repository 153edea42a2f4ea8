"""Embeddings in a file: each text is embedded once, damage is left out, no text is written."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from embedllm_router.errors import ArtifactError
from embedllm_router.prediction.kept_embeddings import Embedded, KeptEmbeddings

D = 3


class Embedder:
    """Embeds a text as a vector that names it, and says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: list[str]) -> list[Embedded]:
        self.asked += texts
        return [expected(text) for text in texts]


def expected(text: str) -> Embedded:
    first = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0]
    return np.full(D, (first + 1) / 256, dtype=np.float32), len(text)


def check(found: list[Embedded], texts: list[str]) -> None:
    for (vector, n_tokens), text in zip(found, texts, strict=True):
        np.testing.assert_array_equal(vector, expected(text)[0])
        assert n_tokens == len(text)


def test_each_text_is_embedded_once_also_by_the_next_run(tmp_path: Path) -> None:
    embed, kept = Embedder(), KeptEmbeddings(tmp_path / "new", "enc", D)
    check(kept.complete(["a", "bb", "a"], embed), ["a", "bb", "a"])
    check(kept.complete(["bb", "ccc"], embed), ["bb", "ccc"])
    later = KeptEmbeddings(tmp_path / "new", "enc", D)
    check(later.complete(["ccc", "a", ""], embed), ["ccc", "a", ""])
    assert embed.asked == ["a", "bb", "ccc", ""]
    assert len(later) == 4


def test_an_interrupted_run_loses_at_most_a_block(tmp_path: Path) -> None:
    texts = ["x" * n for n in range(300)]
    embed = Embedder()

    def interrupted(block: list[str]) -> list[Embedded]:
        if len(embed.asked) >= 200:
            raise KeyboardInterrupt
        return embed(block)

    with pytest.raises(KeyboardInterrupt):
        KeptEmbeddings(tmp_path, "enc", D).complete(texts, interrupted)
    done = len(KeptEmbeddings(tmp_path, "enc", D))
    assert done == len(embed.asked) >= 200
    check(KeptEmbeddings(tmp_path, "enc", D).complete(texts, embed), texts)
    assert sorted(embed.asked) == sorted(texts)


def test_encoders_do_not_share_and_texts_are_not_written(tmp_path: Path) -> None:
    embed = Embedder()
    KeptEmbeddings(tmp_path, "one", D).complete(["a secret text"], embed)
    KeptEmbeddings(tmp_path, "two", D).complete(["a secret text"], embed)
    assert len(embed.asked) == 2
    assert all(b"secret" not in file.read_bytes() for file in tmp_path.iterdir())


@pytest.mark.parametrize("instead", [np.nan, np.inf, 0.0])
def test_a_row_whose_embedding_is_damaged_is_embedded_again(tmp_path: Path, instead: float) -> None:
    embed = Embedder()
    KeptEmbeddings(tmp_path, "enc", D).complete(["a", "bb"], embed)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-4 * D :] = np.full(D, instead, dtype="<f4").tobytes()
    file.write_bytes(content)
    for _ in range(2):
        check(KeptEmbeddings(tmp_path, "enc", D).complete(["a", "bb"], embed), ["a", "bb"])
    assert embed.asked == ["a", "bb", "bb"]


@pytest.mark.parametrize("lost", [1, 17, 44, 47])
def test_a_torn_last_row_is_embedded_again_and_replaced(tmp_path: Path, lost: int) -> None:
    embed = Embedder()
    KeptEmbeddings(tmp_path, "enc", D).complete(["a", "bb"], embed)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-lost])
    after = KeptEmbeddings(tmp_path, "enc", D)
    assert len(after) == 1
    check(after.complete(["bb", "a"], embed), ["bb", "a"])
    assert file.read_bytes() == whole


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("mine")
    with pytest.raises(
        ArtifactError, match=r"embeddings cannot be written at .*file.* Expected a folder that is yours"
    ):
        KeptEmbeddings(place, "enc", D).complete(["a"], Embedder())
