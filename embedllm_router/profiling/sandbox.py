"""Runs generated code against tests inside bubblewrap: no network, nothing writable but 16 MB of memory, bounded.

The code may do what it likes to its own process; it reaches nothing else. It cannot pass by ending early: the tests end
by printing a word that was handed over on stdin.
"""

import secrets
import shutil
import subprocess
import sys
import tempfile
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
for limit, value in (("AS", {_MEMORY}), ("CPU", {_SECONDS}), ("FSIZE", {_SCRATCH}), ("NPROC", 64), ("CORE", 0)):
    resource.setrlimit(getattr(resource, "RLIMIT_" + limit), (value, value))
token, scope = case.pop("token"), {{"__name__": "answer"}}
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
os.dup2(1, 2)
exec(compile(case["code"], "answer", "exec"), scope)
exec(compile(case["tests"], "tests", "exec"), scope)
os.write(out, token.encode())
"""


@dataclass(frozen=True, slots=True)
class _Done:
    out: str
    errors: str


def why_no_sandbox() -> str | None:
    """Why generated code cannot be run here; None where it can."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed, and generated code runs nowhere else: apt-get install bubblewrap"
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
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:  # files end where their limit does
        subprocess.run(  # noqa: S603 - bubblewrap with arguments made here; what it runs comes on stdin
            _command(), input=case, stdout=out, stderr=errors, timeout=_WALL_S, check=False, env={}
        )
        return _Done(*(_first_of(one) for one in (out, errors)))


def _first_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_SHOWN).decode(errors="replace")


def _command() -> list[str]:
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
        *bound,
        *("--proc", "/proc", "--dev", "/dev", "--size", str(_SCRATCH), "--tmpfs", "/tmp", "--chdir", "/tmp"),  # noqa: S108 - the sandbox's own
        *(running, "-I", "-S", "-B", "-c", _HARNESS),
    ]
