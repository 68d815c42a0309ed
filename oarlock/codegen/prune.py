"""Leave out variables that nothing reads, so that C compiles without a warning about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from oarlock.codegen import loops as L

_BLOCKS = ("body", "then", "else_")


def prune(statements: Sequence[L.Stmt]) -> tuple[L.Stmt, ...]:
    """The statements without declarations and assignments of variables that are never read.

    Expressions have no effects, so nothing else changes.
    """
    kept = tuple(statements)
    while True:
        read = set(_read(kept))
        fewer = _without(kept, read)
        if fewer == kept:
            return kept
        kept = fewer


def _read(statements: Iterable[L.Stmt]) -> Iterator[str]:
    """Names of variables whose value something uses."""
    for s in statements:
        for part in _parts(s):
            if isinstance(part, L.Stmt):
                yield from _read([part])
            else:
                yield from (x.name for x in L.walk([part]) if isinstance(x, L.Var))


def _parts(s: L.Stmt) -> Iterator[object]:
    """Statements and expressions of a statement, without the variable that it sets."""
    if isinstance(s, (L.Declare, L.Assign)):
        yield s.value
        return
    for name, part in vars(s).items():
        if not (isinstance(s, L.For) and name == "var"):
            yield from part if isinstance(part, tuple) else (part,)


def _without(statements: Sequence[L.Stmt], read: set[str]) -> tuple[L.Stmt, ...]:
    found = []
    for s in statements:
        if isinstance(s, (L.Declare, L.Assign)) and s.var.name not in read:
            continue
        blocks = {k: _without(getattr(s, k), read) for k in _BLOCKS if hasattr(s, k)}
        changed = any(v != getattr(s, k) for k, v in blocks.items())
        found.append(replace(s, **blocks) if changed else s)  # type: ignore[type-var]
    return tuple(found)
