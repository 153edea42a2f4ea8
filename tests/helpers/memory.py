"""Shared state of one process alone: the plain sums and texts that a budget needs."""

__all__ = ["Memory"]


class Memory:
    """Sums and texts; nothing expires."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.texts: dict[str, str] = {}

    def add(self, key: str, amount: float, ttl_s: float) -> None:
        assert ttl_s > 0
        self.sums[key] = self.sums.get(key, 0.0) + amount

    def total(self, key: str) -> float:
        return self.sums.get(key, 0.0)

    def put(self, key: str, value: str, ttl_s: float) -> None:
        assert ttl_s > 0
        self.texts[key] = value

    def get(self, key: str) -> str | None:
        return self.texts.get(key)
