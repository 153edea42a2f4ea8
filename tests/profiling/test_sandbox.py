"""Generated code is run where it can do no harm, and passes only by passing the tests."""

import os
import socket
import time
from pathlib import Path

import pytest

from embedllm_router.profiling import sandbox
from embedllm_router.profiling.sandbox import run_tests, why_no_sandbox

WHY_NOT = why_no_sandbox()
bwrap = pytest.mark.skipif(WHY_NOT is not None, reason=f"bubblewrap: {WHY_NOT}")
TESTS = "assert add(2, 3) == 5\nassert add(-1, 1) == 0"


@bwrap
@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("Here:\n```python\ndef add(a, b):\n    return a + b\n```\nDone.", 1.0),
        ("def add(a, b):\n    return a + b", 1.0),
        ("```python\ndef add(a, b):\n    print('noise')\n    return a + b\n```", 1.0),
        ("def add(a, b):\n    return a - b", 0.0),
        ("def add(a, b:", 0.0),
        ("", 0.0),
        ("import os\nos._exit(0)", 0.0),
        ("raise SystemExit(0)", 0.0),
        ("import builtins\nbuiltins.AssertionError = Exception\ndef add(a, b): raise SystemExit", 0.0),
        ("def add(a, b):\n    return a + b\nprint('0' * 32)", 1.0),
    ],
)
def test_code_is_right_where_its_tests_pass(answer: str, score: float) -> None:
    assert run_tests(TESTS, answer).score == score


@bwrap
@pytest.mark.parametrize(
    "attempt",
    [
        "open('/tmp/x', 'w').write('x' * 50_000_000)",
        "x = bytearray(2 << 30)",
        "x = []\nwhile True:\n    x.append('x' * 1_000_000)",
        "open('/usr/bin/owned', 'w')",
        "open('/etc/passwd').read()",
        "open('/root/.bashrc').read()",
        "import os\nassert len(os.listdir('/proc')) > 5 and os.kill(os.getppid(), 9) is None and os.stat('/home')",
        "import subprocess\nsubprocess.run(['mount', '-t', 'tmpfs', 'x', '/usr'], check=True)",
        "import os\nos.setuid(0)",
        "import os\nwhile True:\n    for fd in (1, 2, 3, 4):\n        os.write(fd, b'x' * 1_000_000)",
        "import os\nassert os.environ.get('SECRET_OF_THE_HOST')",
    ],
)
def test_code_cannot_leave_or_fill_the_sandbox(attempt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "s")
    assert run_tests("", attempt).score == 0.0


@bwrap
@pytest.mark.parametrize(
    "start",
    [
        "os.fork()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "import subprocess\nsubprocess.run(['true'], check=True)",
        "import ctypes\nassert ctypes.CDLL(None).syscall(435, 0, 0) >= 0",
        "import multiprocessing\nmultiprocessing.get_context('fork').Process(target=print).start()",
    ],
)
def test_code_starts_no_process(start: str) -> None:
    assert run_tests("", f"import os\n{start}").score == 0.0


@bwrap
def test_code_may_have_threads_and_they_are_bounded() -> None:
    few = "import threading\nthreads = [threading.Thread(target=print) for _ in range(4)]\n"
    assert run_tests("", few + "for one in threads:\n    one.start()\n    one.join()").score == 1.0
    many = (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
    )
    assert run_tests("", many).score == 0.0


@bwrap
def test_code_has_no_network() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)"
        assert run_tests("", code).score == 0.0


@bwrap
def test_the_folder_of_the_run_is_not_seen(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    assert run_tests("", f"open({str(secret)!r}).read()").score == 0.0
    assert run_tests("", f"open({str(Path.cwd() / 'pyproject.toml')!r}).read()").score == 0.0


@bwrap
@pytest.mark.parametrize(
    "endless", ["while True: pass", "import time\ntime.sleep(1e6)", "import os\nwhile True:\n    os.fork()"]
)
def test_code_that_does_not_end_is_ended_and_leaves_nothing_behind(
    endless: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_WALL_S", 1)
    started = time.monotonic()
    assert run_tests("", endless).score == 0.0
    assert time.monotonic() - started < 20
    deadline = time.monotonic() + 10
    while _children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _children() == []


def _children() -> list[str]:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [child for child in children if b"bwrap" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_without_bubblewrap_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "not installed" in (why_no_sandbox() or "")
