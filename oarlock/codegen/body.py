"""Build statements: ``with body.loop("i", 0, n) as i: body.store(p, i, body.load(q, i) * 2)``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from oarlock.codegen import loops as L
from oarlock.ir.dim import Size
from oarlock.ir.types import DType


class Body:
    """A growing list of statements; names are unique within it."""

    def __init__(self) -> None:
        self._open: list[list[L.Stmt]] = [[]]
        self._names: Counter[str] = Counter(dict.fromkeys(("begin", "end", "tid", "c"), 1))

    @property
    def statements(self) -> tuple[L.Stmt, ...]:
        """What was built, once every block is closed."""
        assert len(self._open) == 1, "a block is still open"
        return tuple(self._open[0])

    @property
    def current(self) -> list[L.Stmt]:
        """The innermost open block."""
        return self._open[-1]

    @property
    def open_blocks(self) -> tuple[list[L.Stmt], ...]:
        """Every open block, outermost first."""
        return tuple(self._open)

    @contextmanager
    def into(self, block: list[L.Stmt]) -> Iterator[None]:
        """Append to an open block further out, before the loops inside it that are still open."""
        self._open.append(block)
        yield
        self._open.pop()

    def name(self, hint: str) -> str:
        """``hint``, with a number when it was given out before."""
        self._names[hint] += 1
        count = self._names[hint]
        return hint if count == 1 else self.name(f"{hint}_{count}")

    def reserve(self, *names: str) -> None:
        """Names that locals must not take, such as those of pointers."""
        for name in names:
            self._names[name] += 1

    def add(self, *statements: L.Stmt) -> None:
        """Append statements made elsewhere."""
        self._open[-1].extend(statements)

    def let(self, hint: str, value: L.Expr) -> L.Expr:
        """Name a value; constants and names are returned as they are."""
        if isinstance(value, (L.Var, L.Const)):
            return value
        var = L.Var(self.name(hint), value.type)
        self.add(L.Declare(var, value))
        return var

    def variable(self, hint: str, value: L.Expr) -> L.Var:
        """A variable that may be assigned."""
        var = L.Var(self.name(hint), value.type)
        self.add(L.Declare(var, value, mutable=True))
        return var

    def array(self, hint: str, dtype: DType, count: int) -> L.Pointer:
        """A local array of ``count`` elements."""
        pointer = L.Pointer(self.name(hint), dtype, "local", written=True)
        self.add(L.DeclareArray(pointer, count))
        return pointer

    def pointer(self, hint: str, to: L.Pointer, position: L.Expr) -> L.Pointer:
        """A local pointer to ``to[position]``."""
        pointer = L.Pointer(self.name(hint), to.dtype, "local", to.written)
        self.add(L.DeclarePointer(pointer, L.Address(to, position)))
        return pointer

    def assign(self, var: L.Var, value: L.Expr) -> None:
        """``var = value``."""
        self.add(L.Assign(var, value))

    def load(
        self, pointer: L.Pointer, position: L.Expr, lanes: int = 1, stride: L.Expr | None = None
    ) -> L.Expr:
        """See ``loops.load``."""
        return L.load(pointer, position, lanes, stride)

    def store(
        self, pointer: L.Pointer, position: L.Expr, value: L.Expr, stride: L.Expr | None = None
    ) -> None:
        """See ``loops.store``."""
        self.add(L.store(pointer, position, value, stride))

    def comment(self, text: str) -> None:
        """A line of comment."""
        self.add(L.Comment(text))

    def call(self, name: str, *args: L.Expr) -> None:
        """A call for its effect."""
        self.add(L.CallStatement(name, args))

    def returns(self, value: L.Expr | None = None) -> None:
        """``return value``."""
        self.add(L.Return(value))

    @contextmanager
    def loop(
        self,
        hint: str,
        start: L.Expr | Size,
        stop: L.Expr | Size,
        step: int = 1,
        unroll: bool = False,
    ) -> Iterator[L.Var]:
        """A counted loop; gives its variable."""
        var = L.Var(self.name(hint), L.INDEX)
        first, last = (x if isinstance(x, L.Expr) else L.index(x) for x in (start, stop))
        with self.block() as statements:
            yield var
        self.add(L.For(var, first, last, tuple(statements), step, unroll))

    @contextmanager
    def while_(self, condition: L.Expr) -> Iterator[None]:
        """``while (condition)``."""
        with self.block() as statements:
            yield
        self.add(L.While(condition, tuple(statements)))

    @contextmanager
    def if_(self, condition: L.Expr) -> Iterator[None]:
        """``if (condition)``."""
        with self.block() as statements:
            yield
        self.add(L.If(condition, tuple(statements)))

    @contextmanager
    def else_(self) -> Iterator[None]:
        """The other branch of the ``if_`` just closed."""
        last = self._open[-1].pop()
        assert isinstance(last, L.If) and not last.else_, "else_ follows an if_"
        with self.block() as statements:
            yield
        self.add(L.If(last.condition, last.then, tuple(statements)))

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Statements in braces."""
        with self.block() as statements:
            yield
        self.add(L.Scope(tuple(statements)))

    @contextmanager
    def block(self) -> Iterator[list[L.Stmt]]:
        """Statements collected on the side, for the caller to place."""
        collected: list[L.Stmt] = []
        self._open.append(collected)
        yield collected
        self._open.pop()
