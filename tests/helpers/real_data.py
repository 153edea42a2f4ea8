"""Where the real correctness data would be; tests that need it skip when it is absent."""

from pathlib import Path

DATA = Path(__file__).parents[3] / "shared" / "data"
