"""Runs generated code against tests inside bubblewrap: no network, nothing writable but 16 MB of memory, bounded.

The code may do what it likes to its own process; it reaches nothing else, and starts no other process: a limit on
their number would not bind where this runs as root, so the kernel is told to refuse them (seccomp). Threads are bounded
by the memory for their stacks. It cannot pass by ending early: the tests end by printing a word that was handed over on
stdin.
"""

import errno
import platform
import secrets
import shutil
import struct
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import orjson

from embedllm_router.profiling.graders import Grade, code_of

__all__ = ["run_tests", "why_no_sandbox"]

_SECONDS: Final = 10
_WALL_S: Final = 15
_SHOWN: Final = 200
_MEMORY: Final = 512 << 20
_SCRATCH: Final = 16 << 20
_SYSTEM: Final = ("/usr", "/lib", "/lib64", "/bin")
_HARNESS: Final = f"""
import json, os, resource, sys
case = json.loads(sys.stdin.read())
for limit, value in (("AS", {_MEMORY}), ("CPU", {_SECONDS}), ("FSIZE", {_SCRATCH}), ("CORE", 0)):
    resource.setrlimit(getattr(resource, "RLIMIT_" + limit), (value, value))
token, scope = case.pop("token"), {{"__name__": "answer"}}
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
os.dup2(1, 2)
exec(compile(case["code"], "answer", "exec"), scope)
exec(compile(case["tests"], "tests", "exec"), scope)
os.write(out, token.encode())
"""


_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # of classic BPF, as linux/filter.h has them
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16  # where struct seccomp_data has them
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_THREAD, _OTHER_CALLS = 0x10000, 0x40000000  # CLONE_THREAD; numbers of x86-64's second set of calls begin there


@dataclass(frozen=True, slots=True)
class _Calls:
    """Numbers of the system calls that start processes, and of the machine, as linux/audit.h has it."""

    machine: int
    clone: int
    always_processes: tuple[int, ...]
    clone3: int = 435


_CALLS: Final = {
    "x86_64": _Calls(0xC000003E, clone=56, always_processes=(57, 58)),
    "aarch64": _Calls(0xC00000B7, clone=220, always_processes=()),
}


def _no_processes(calls: _Calls) -> bytes:
    """A seccomp filter that refuses new processes and allows threads.

    Flags of clone3 lie where a filter cannot read them; it is said not to exist, and the C library then uses clone.
    """
    process, unknown = _REFUSE | errno.EPERM, _REFUSE | errno.ENOSYS
    steps = [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, calls.machine),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        *((_AT_LEAST, 0, 1, _OTHER_CALLS), (_RETURN, 0, 0, _KILL)),
        *((_EQUAL, 0, 1, calls.clone3), (_RETURN, 0, 0, unknown)),
    ]
    for number in calls.always_processes:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, process)]
    steps += [
        (_EQUAL, 1, 0, calls.clone),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        *((_ANY_BIT, 0, 1, _THREAD), (_RETURN, 0, 0, _ALLOW)),
        (_RETURN, 0, 0, process),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


@dataclass(frozen=True, slots=True)
class _Done:
    out: str
    errors: str


def why_no_sandbox() -> str | None:
    """Why generated code cannot be run here; None where it can."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed, and generated code runs nowhere else: apt-get install bubblewrap"
    if platform.machine() not in _CALLS:
        return f"generated code is run on {' and '.join(_CALLS)} alone, and this machine is {platform.machine()}"
    try:
        tried = _run(b'{"token":"works","code":"","tests":""}')
    except subprocess.TimeoutExpired:
        return "bubblewrap does not start within a few seconds"
    if tried.out == "works":
        return None
    return f"bubblewrap does not work here ({tried.errors.strip()}): unprivileged user namespaces may be turned off"


def run_tests(tests: str, answer: str) -> Grade:
    """Runs an answer's code, then the tests: right where nothing is raised.

    Args:
        tests: Python that raises where the answer is wrong.
        answer: What an LLM wrote; its last block of code counts, or all of it without one.
    """
    token = secrets.token_hex(16)
    case = {"token": token, "code": code_of(answer), "tests": tests}
    try:
        done = _run(orjson.dumps(case))
    except subprocess.TimeoutExpired:
        return Grade(0.0, f"not done within {_WALL_S} s")
    return Grade(float(done.out == token))


def _run(case: bytes) -> _Done:
    with ExitStack() as stack:
        out, errors, rule = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))  # they end at their limit
        rule.write(_no_processes(_CALLS[platform.machine()]))
        rule.seek(0)
        subprocess.run(  # noqa: S603 - bubblewrap with arguments made here; what it runs comes on stdin
            _command(rule.fileno()),
            input=case,
            stdout=out,
            stderr=errors,
            pass_fds=(rule.fileno(),),
            timeout=_WALL_S,
            check=False,
            env={},
        )
        return _Done(*(_first_of(one) for one in (out, errors)))


def _first_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_SHOWN).decode(errors="replace")


def _command(rule: int) -> list[str]:
    python = str(Path(sys.base_prefix).resolve())
    places = [place for place in _SYSTEM if Path(place).exists()]
    if not any(python == place or python.startswith(f"{place}/") for place in places):
        places.append(python)
    bound = [part for place in places for part in ("--ro-bind", place, place)]
    running = str(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))
    return [
        str(shutil.which("bwrap")),
        *("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--clearenv"),
        *("--seccomp", str(rule)),
        *bound,
        *("--proc", "/proc", "--dev", "/dev", "--size", str(_SCRATCH), "--tmpfs", "/tmp", "--chdir", "/tmp"),  # noqa: S108 - the sandbox's own
        *(running, "-I", "-S", "-B", "-c", _HARNESS),
    ]
