"""Told to end, the proxy's process ends as Python programs do: what is in memory is written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

SERVER = """
import asyncio, atexit, contextlib, os, pathlib, signal, sys
import uvicorn
from embedllm_router.proxy.litellm_state import end_in_order

place = pathlib.Path(sys.argv[1])

async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    end_in_order()
    atexit.register(lambda: place.write_text("written"))
    await send({"type": "lifespan.startup.complete"})
    asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGTERM)
    await receive()
    await send({"type": "lifespan.shutdown.complete"})

uvicorn.run(app, port=0, log_level="error")
"""


def test_what_waits_in_memory_is_written_on_sigterm(tmp_path: Path) -> None:
    place = tmp_path / "at-exit"
    ended = subprocess.run([sys.executable, "-c", SERVER, str(place)], timeout=60, check=False)
    assert (ended.returncode, place.read_text()) == (0, "written")


def test_without_a_server_signals_stay_as_they_are() -> None:
    code = "import signal\nfrom embedllm_router.proxy.litellm_state import end_in_order\nend_in_order()\n"
    code += "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\nsignal.raise_signal(signal.SIGTERM)"
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=False, env=dict(os.environ))
    assert ended.returncode == -signal.SIGTERM
