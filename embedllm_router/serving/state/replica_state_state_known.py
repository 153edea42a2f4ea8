"""Everything one process knows, in one hand."""

from collections.abc import Callable
from dataclasses import dataclass

from embedllm_router.serving.state.replica_state_state_counters import Counters
from embedllm_router.serving.state.replica_state_state_entries import Entries

__all__ = ["Known"]


@dataclass(frozen=True, slots=True)
class Known:
    """What one process knows.

    Attributes:
        counters: The sums.
        entries: The entries.
        clock: Seconds since the epoch.
    """

    counters: Counters
    entries: Entries
    clock: Callable[[], float]

    @property
    def changes(self) -> tuple[int, int]:
        """How often this process changed a sum, and an entry."""
        return self.counters.n_changes, self.entries.n_changes

    def prune(self) -> None:
        """Drops what has expired."""
        self.counters.prune()
        self.entries.prune()
