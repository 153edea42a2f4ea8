"""One line per step of a running command, drawn on stderr and gone when it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Tell", "progress"]


class Tell(Protocol):
    """Takes note of progress."""

    def __call__(self, what: str, done: int, planned: int | None, how: str = "") -> None:
        """Draws one step.

        Args:
            what: Its name; a new one is a new line.
            done: How much of it is done.
            planned: How much there is; None when unknown.
            how: What else is known of it.
        """


@contextmanager
def progress(*, shown: bool = True) -> Iterator[Tell]:
    """A progress display.

    Args:
        shown: Whether it is drawn at all.

    Yields:
        What to tell of progress.
    """
    from rich.console import Console  # noqa: PLC0415 - only a running command draws
    from rich.progress import Progress, TaskID  # noqa: PLC0415 - only a running command draws

    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as bar:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, planned: int | None, how: str = "") -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=planned, description=f"{what} {how}".rstrip())

        yield tell
