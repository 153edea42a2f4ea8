"""Writes records as fast as it can until it is killed, for bench_store.py.

    python benchmarks/store_writer.py FOLDER FLUSH_S

For each record it says on stdout, in binary, that it has handed it over and when.
"""

import itertools
import os
import struct
import sys
import time
from pathlib import Path

from made_records import made_record

from embedllm_router.config.process import StoreSettings
from embedllm_router.records.writer.store import open_store

__all__ = ["ACKNOWLEDGED"]

ACKNOWLEDGED = struct.Struct("<Qd")
"""Number of a record, and the monotonic time after it was handed over."""
MOST_WAITING = 1_000
"""The promise is about what the writer keeps up with, and this is all it can."""
ROTATE_MB = 4


def main(folder: Path, flush_s: float) -> None:
    """Never ends by itself."""
    store = open_store(StoreSettings(path=folder, flush_s=flush_s, rotate_mb=ROTATE_MB))
    for number in itertools.count():
        while number % 100 == 0 and store.health().queued > MOST_WAITING:
            time.sleep(0.001)
        store.put(made_record(number))
        os.write(sys.stdout.fileno(), ACKNOWLEDGED.pack(number, time.monotonic()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
