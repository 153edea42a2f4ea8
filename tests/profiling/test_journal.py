"""A journal says what was asked and paid for, also after a crash, and never guesses."""

import os
import stat
from pathlib import Path

import pytest

from embedllm_router.errors import ConfigError
from embedllm_router.profiling.journal import Begun, CallKey, Ended, Graded, Journal, Sent

A, B, C = (CallKey("m", f"task-{i}") for i in "abc")


def _ended(key: CallKey, **more: object) -> Ended:
    fields = {
        "attempt": 1,
        "outcome": "answered",
        "cost_usd": 0.25,
        "bound_usd": 1.0,
        "text": "42\n\N{SNOWMAN}",
        "score": 1.0,
    }
    return Ended(key=key, **{**fields, **more})  # type: ignore[arg-type]  # a test's shorthand


def _written(path: Path) -> Path:
    journal = Journal(path)
    journal.write(Begun(weights="w"))
    for key, cost in ((A, 0.25), (B, None)):
        journal.write(Sent(key=key, attempt=1, bound_usd=1.0))
        journal.write(_ended(key, cost_usd=cost, outcome="answered" if cost else "timeout"))
    journal.write(Sent(key=C, attempt=1, bound_usd=1.0))
    journal.write(Graded(key=A, score=0.5))
    journal.close()
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """A bill counts as it is; a request without one, or under way in the end, with the most it can have cost."""
    journal = Journal(_written(tmp_path / "j.jsonl"))
    history = journal.history
    assert history.begun == Begun(weights="w")
    assert history.ended[A] == _ended(A)
    assert (history.spent_usd, history.unknown_usd, history.counted_usd) == (0.25, 2.0, 2.25)
    assert history.lost == {C: 1.0}
    assert [history.is_settled(key) for key in (A, B, C, CallKey("m", "new"))] == [True, True, True, False]
    assert history.score(A) == 0.5
    journal.close()


def test_a_request_that_was_refused_may_be_sent_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.write(Sent(key=A, attempt=1, bound_usd=1.0))
    journal.write(_ended(A, outcome="rate_limited", cost_usd=0.0, text=None, score=None))
    assert not journal.history.is_settled(A)
    assert journal.history.counted_usd == 0.0
    journal.close()


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.touch(0o666)
    Journal(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_cut_end_is_dropped_at_every_byte(tmp_path: Path) -> None:
    """What precedes the cut stays; the file ends with a whole line, so the next line is whole too."""
    content = _written(tmp_path / "whole.jsonl").read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last + 1, len(content)):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(content[:end])
        journal = Journal(path)
        assert journal.history.grades == {}
        assert journal.history.counted_usd == 2.25
        journal.write(Graded(key=A, score=0.0))
        journal.close()
        again = Journal(path)
        assert again.history.score(A) == 0.0
        again.close()


def test_damage_in_the_middle_is_refused_with_its_line(tmp_path: Path) -> None:
    content = bytearray(_written(tmp_path / "j.jsonl").read_bytes())
    lines = bytes(content).splitlines(keepends=True)
    for number, start in ((1, 40), (3, len(lines[0]) + len(lines[1]) + 60)):
        spoilt = bytearray(content)
        spoilt[start] ^= 1
        path = tmp_path / f"spoilt-{number}.jsonl"
        path.write_bytes(spoilt)
        with pytest.raises(ConfigError, match=f"line {number} is damaged"):
            Journal(path)
        assert path.read_bytes() == spoilt


def test_a_whole_last_line_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = _written(tmp_path / "j.jsonl")
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="damaged"):
        Journal(path)


@pytest.mark.parametrize("content", [b"hello\n", b"{}\n", b"\x00" * 300 + b"\n", b'{"crc":"00000000","entry":{}}\n'])
def test_another_file_is_no_journal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="line 1 is damaged"):
        Journal(path)


def test_two_runs_do_not_share_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    with pytest.raises(ConfigError, match="in use by another run"):
        Journal(tmp_path / "j.jsonl")
    journal.close()


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        Journal(tmp_path)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _written(tmp_path / "j.jsonl")
    whole = path.read_bytes()
    journal = Journal(path)
    write = os.write

    def full(file: int, data: bytes) -> int:
        write(file, bytes(data)[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ConfigError, match="No space left"):
        journal.write(Graded(key=B, score=1.0))
    monkeypatch.undo()
    journal.close()
    assert path.read_bytes() == whole
