"""Starts proxies from a process that has imported LiteLLM already: `python fork_server.py`.

Importing LiteLLM's proxy takes 4 to 8 s of processor time, and the tests start some thirty proxies. Each is a process
of its own, forked from this one, that runs the same command with its own environment, folder and log as one started
anew.

One JSON request a line on stdin, one answer a line on stdout: {"argv", "environment", "cwd", "log"} → {"pid"}, and
{"poll": pid} → {"returncode"}. Ends when stdin does.
"""

import importlib
import json
import os
import runpy
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

_IMPORTED = ("litellm.proxy.proxy_server", "litellm.proxy.proxy_cli", "embedllm_router.proxy.plugin", "uvicorn")
_OURS = ("embedllm_router.cli.main", "embedllm_router.cli.upstream")


def main() -> None:
    """Answers requests; in a forked process, runs the command."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in (*_IMPORTED, *_OURS):
            importlib.import_module(name)
    if threading.active_count() > 1:
        raise SystemExit(f"expected one thread before the first fork, found {threading.enumerate()}.")
    asked = _serve()
    if asked is not None:  # outside the loop, so that the process ends as any other does
        _become(asked)


def _serve() -> Mapping[str, Any] | None:
    """Answers until stdin ends; returns in each forked process what it shall be."""
    for line in sys.stdin:
        asked = json.loads(line)
        if "poll" in asked:
            _answer({"returncode": _returncode(asked["poll"])})
            continue
        pid = os.fork()
        if pid == 0:
            return asked  # type: ignore[no-any-return]  # JSON
        _answer({"pid": pid})
    return None


def _answer(answer: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _returncode(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _become(asked: Mapping[str, Any]) -> None:
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, its in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(ours, its)
    os.chdir(asked["cwd"])
    setattr(os, "execve", _run_here)  # noqa: B010 - its type says more than this is asked for
    _run(asked["argv"], asked["environment"])


def _run_here(_: str, argv: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """What `serve` does at its end, become LiteLLM's command, without importing it again."""
    _run(argv, environment)
    raise SystemExit(0)


def _run(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Runs `PYTHON -m MODULE ARGUMENTS...`."""
    python, option, module, *_ = argv
    if python != sys.executable or option != "-m":
        raise SystemExit(f"expected {sys.executable} -m MODULE, found {argv[:2]}.")
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(argv[2:])
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
