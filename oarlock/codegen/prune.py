"""Leave out variables and pointers that nothing reads, so that C compiles without a warning about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from oarlock.codegen import loops as L

_BLOCKS = ("body", "then", "else_")


def prune(statements: Sequence[L.Stmt]) -> tuple[L.Stmt, ...]:
    """The statements without declarations and assignments of what is never read.

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
    """Names of variables and pointers that something uses."""
    for s in statements:
        for part in _parts(s):
            if isinstance(part, L.Stmt):
                yield from _read([part])
            elif isinstance(part, L.Pointer):
                yield part.name
            else:
                yield from names_in([part])


def names_in(items: Iterable[object]) -> Iterator[str]:
    """Names of the variables and pointers below statements and expressions."""
    for x in L.walk(items):
        if isinstance(x, L.Var):
            yield x.name
        elif isinstance(pointer := getattr(x, "pointer", None), L.Pointer):
            yield pointer.name


def _parts(s: L.Stmt) -> Iterator[object]:
    """Statements and expressions of a statement, without the variable that it sets."""
    if isinstance(s, (L.Declare, L.Assign)):
        yield s.value
        return
    if isinstance(s, (L.DeclareArray, L.DeclarePointer)):
        yield getattr(s, "address", None)
        return
    for name, part in vars(s).items():
        if not (isinstance(s, L.For) and name == "var"):
            yield from part if isinstance(part, tuple) else (part,)


def _sets(s: L.Stmt) -> str | None:
    """The variable or pointer that a statement does nothing but set."""
    if isinstance(s, (L.Declare, L.Assign)):
        return s.var.name
    return s.pointer.name if isinstance(s, (L.DeclareArray, L.DeclarePointer)) else None


def _without(statements: Sequence[L.Stmt], read: set[str]) -> tuple[L.Stmt, ...]:
    found = []
    for s in statements:
        name = _sets(s)
        if name is not None and name not in read:
            continue
        blocks = {k: _without(getattr(s, k), read) for k in _BLOCKS if hasattr(s, k)}
        changed = any(v != getattr(s, k) for k, v in blocks.items())
        found.append(replace(s, **blocks) if changed else s)  # type: ignore[type-var]
    return tuple(found)
