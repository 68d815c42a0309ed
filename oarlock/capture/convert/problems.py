"""What cannot be converted: each problem with its place, its reason and a rewrite."""

from __future__ import annotations

from dataclasses import dataclass

from oarlock.errors import UnsupportedError


@dataclass(frozen=True)
class Problem:
    """``file:line: reason; rewrite``."""

    where: tuple[str, int]
    reason: str
    rewrite: str

    def __str__(self) -> str:
        return f"{self.where[0]}:{self.where[1]}: {self.reason}; {self.rewrite}"


class NotConvertible(UnsupportedError):
    """Some code cannot be converted; ``found`` holds every problem."""

    def __init__(self, *found: Problem) -> None:
        self.found = found
        count = "1 thing" if len(found) == 1 else f"{len(found)} things"
        super().__init__(f"{count} cannot be converted:", [str(p) for p in found])
