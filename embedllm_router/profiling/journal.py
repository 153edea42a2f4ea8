"""What was asked and what it cost, one line of JSON at a time: a run that is killed goes on where it was.

    {"crc":"1c291ca3","entry":{"kind":"sent","key":{…},"attempt":1,"bound_usd":0.0021}}

A line is written before a request is sent, and another one, to the disk, when it has ended. A request without the
second line was under way when the process died: whether it was billed nobody knows, so it counts as if it had cost the
most it could, and is not sent again. Answers are in here and nowhere else; the file is readable by its owner alone.
"""

import fcntl
import os
import zlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from embedllm_router.errors import ConfigError
from embedllm_router.proxy.call import Outcome

__all__ = ["Begun", "CallKey", "Ended", "Entry", "Graded", "History", "Journal"]

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class CallKey:
    """Which question was put to which LLM.

    Attributes:
        llm: Model group that was asked.
        task: Id of the task.
        judged: Model group whose answer was to be judged; empty where the task itself was asked.
    """

    llm: str
    task: str
    judged: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The first line.

    Attributes:
        version: Of the journal's form.
        weights: Id of the weights that shall know the LLMs.
    """

    weights: str
    version: int = _VERSION
    kind: Literal["begun"] = "begun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request is about to be sent.

    Attributes:
        key: Which.
        attempt: From 1 on.
        bound_usd: The most it can cost.
    """

    key: CallKey
    attempt: int
    bound_usd: float
    kind: Literal["sent"] = "sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A request has ended.

    Attributes:
        key: Which.
        attempt: From 1 on.
        outcome: What became of it.
        cost_usd: Its bill; None where nobody knows, so that it counts with the most it could cost.
        bound_usd: The most it could cost.
        input_tokens: Billed; None when unknown. So is the next one.
        output_tokens: Hidden reasoning included.
        latency_s: Seconds from sending to the end.
        text: The answer; None without one, and where answers are not kept.
        score: Its grade in [0, 1]; None where it was not graded, or not yet.
        why: Why there is no grade, or what the provider said of a failure.
    """

    key: CallKey
    attempt: int
    outcome: Outcome
    cost_usd: float | None
    bound_usd: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    text: str | None = None
    score: float | None = None
    why: str = ""
    kind: Literal["ended"] = "ended"

    @property
    def counted_usd(self) -> float:
        """What counts against the budget."""
        return self.bound_usd if self.cost_usd is None else self.cost_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A grade that came later than the answer.

    Attributes:
        key: Of the answer.
        score: In [0, 1]; None where it could not be told.
        why: Why not.
    """

    key: CallKey
    score: float | None
    why: str = ""
    kind: Literal["graded"] = "graded"


Entry = Begun | Sent | Ended | Graded
_ENTRY: Final[TypeAdapter[Entry]] = TypeAdapter(Entry)


@dataclass(slots=True)
class History:
    """What a journal says.

    Attributes:
        begun: Its first line; None in an empty one.
        ended: The last end of each request.
        lost: Requests that were under way when a run died, with the most each can have cost, in USD.
        grades: Grades that came later.
        bills: Known bills in USD by model group, over all attempts; those of judges under an empty name.
        unknown_bills: The most that ended requests without a known bill can have cost, likewise.
        unknown_why: Ended requests without a known bill, by how they ended.
        n_sent: Requests that were sent.
    """

    begun: Begun | None = None
    ended: dict[CallKey, Ended] = field(default_factory=dict)
    lost: dict[CallKey, float] = field(default_factory=dict)
    grades: dict[CallKey, Graded] = field(default_factory=dict)
    bills: dict[str, float] = field(default_factory=dict)
    unknown_bills: dict[str, float] = field(default_factory=dict)
    unknown_why: Counter[str] = field(default_factory=Counter)
    n_sent: int = 0

    def add(self, entry: Entry) -> None:
        """Takes up one more line."""
        if isinstance(entry, Begun):
            self.begun = entry
        elif isinstance(entry, Sent):
            self.lost[entry.key] = entry.bound_usd
            self.n_sent += 1
        elif isinstance(entry, Ended):
            self.lost.pop(entry.key, None)
            self.ended[entry.key] = entry
            bills = self.unknown_bills if entry.cost_usd is None else self.bills
            payer = "" if entry.key.judged else entry.key.llm
            bills[payer] = bills.get(payer, 0.0) + entry.counted_usd
            self.unknown_why[entry.outcome] += entry.cost_usd is None
        else:
            self.grades[entry.key] = entry

    @property
    def spent_usd(self) -> float:
        """All bills that are known."""
        return sum(self.bills.values())

    @property
    def unknown_usd(self) -> float:
        """The most that requests without a known bill can have cost, those that were lost included."""
        return sum(self.unknown_bills.values()) + sum(self.lost.values())

    @property
    def counted_usd(self) -> float:
        """What counts against the budget."""
        return self.spent_usd + self.unknown_usd

    def is_settled(self, key: CallKey) -> bool:
        """Whether a request must not be sent again: it was answered, or may have been billed."""
        end = self.ended.get(key)
        return key in self.lost or (end is not None and (end.outcome == "answered" or end.cost_usd != 0.0))

    def score(self, key: CallKey) -> float | None:
        """The grade of an answer; None without one."""
        if key in self.grades:
            return self.grades[key].score
        return self.ended[key].score if key in self.ended else None


class Journal:
    """An open journal; nobody else writes to it meanwhile.

    Args:
        path: The file; made where it is not there.

    Attributes:
        history: What it says, kept up to date.

    Raises:
        ConfigError: It cannot be opened, is in use, or a line that is not its last one is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.history = path, History()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.fchmod(self._file, 0o600)
        except OSError as error:
            raise ConfigError(f"the journal {path} cannot be opened ({error.strerror}). Name another --out.") from error
        try:
            self._take_up()
        except BaseException:
            os.close(self._file)
            raise

    def close(self) -> None:
        """Closes the file, so that another run may go on with it."""
        os.close(self._file)

    def write(self, entry: Entry) -> None:
        """Adds a line; it is on the disk when this returns, except that of a request about to be sent.

        Raises:
            ConfigError: The disk is full.
        """
        try:
            _write_all(self._file, _line(entry))
            if not isinstance(
                entry, Sent
            ):  # that line outlives the process anyhow, and only a crash of the host loses it
                os.fsync(self._file)
        except OSError as error:
            raise ConfigError(
                f"the journal {self.path} cannot be written ({error.strerror}). Make room; the same command goes on."
            ) from error
        self.history.add(entry)

    def _take_up(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"the journal {self.path} is in use by another run. Wait for it or stop it.") from None
        with self.path.open("rb") as file:
            content = file.read()
        end = 0
        for number, line in enumerate(content.splitlines(keepends=True), start=1):
            entry = _entry(line)
            if entry is None:
                if end + len(line) < len(content) or line.endswith(b"\n"):  # else the last line was cut
                    raise self._damaged(number)
                break
            self.history.add(entry)
            end += len(line)
        os.ftruncate(self._file, end)  # the end of a line that was cut would spoil the next one
        if self.history.begun is not None and self.history.begun.version != _VERSION:
            raise ConfigError(
                f"the journal {self.path} has version {self.history.begun.version}, expected {_VERSION}. It is of "
                "another release: name another --out."
            )

    def _damaged(self, number: int) -> ConfigError:
        return ConfigError(
            f"{self.path}, line {number} is damaged: its checksum does not fit. Restore the file; or delete that line, "
            "and what it recorded may be asked, and paid for, again."
        )


def _line(entry: Entry) -> bytes:
    payload = orjson.dumps(asdict(entry))
    return b'{"crc":"%08x","entry":%b}\n' % (zlib.crc32(payload), payload)


_HEAD: Final = len(b'{"crc":"00000000","entry":')


def _entry(line: bytes) -> Entry | None:
    """What a line says; None where it is damaged."""
    payload = line[_HEAD:-2]
    if line != b'{"crc":"%08x","entry":%b}\n' % (zlib.crc32(payload), payload):
        return None
    try:
        return _ENTRY.validate_json(payload)
    except ValidationError:
        return None


def _write_all(file: int, data: bytes) -> None:
    end, view = os.fstat(file).st_size, memoryview(data)
    try:
        while view:
            view = view[os.write(file, view) :]
    except OSError:
        os.ftruncate(file, end)  # half a line would spoil the next one
        raise
