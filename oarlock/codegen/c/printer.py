"""The one printer: loop IR to C.

``Printer(prelude).function(f, bindings)`` gives the text of ``f`` (its helpers are printed apart, see
``functions_of``).  Whatever vector types and functions the text needs are required from the prelude,
whose ``text()`` goes before.  Scalar code is C99 free of undefined behaviour and of implicit
conversions; vector code uses the GCC vector extensions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from oarlock.codegen import loops as L
from oarlock.codegen.c.literals import literal
from oarlock.codegen.c.names import dim_name, scalar_name, type_name
from oarlock.codegen.c.prelude import Prelude
from oarlock.codegen.prune import names_in, prune
from oarlock.ir.types import bf16, f16

PRIMARY, UNARY, MULTIPLY, ADD, LOWEST = 100, 90, 80, 70, 0
SYMBOL = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "mod": "%",
    "and": "&",
    "or": "|",
    "xor": "^",
    "shl": "<<",
    "shr": ">>",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}
_LEVEL = {"add": ADD, "sub": ADD, "mul": MULTIPLY, "div": MULTIPLY}


@dataclass(frozen=True)
class Bindings:
    """What an emitter knows of a kernel: the ``char *`` base of every buffer and constant
    pointer by its name, which prints as C, and the position of every dim in ``c->dims``."""

    pointers: Mapping[str, object] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)


def functions_of(function: L.Function) -> Iterator[L.Function]:
    """The helpers of a function, each before those that call it, then the function."""
    for helper in function.helpers:
        yield from functions_of(helper)
    yield function


def unused(parameters: Sequence[str], names: Collection[str]) -> Iterator[str]:
    """Statements that keep a compiler quiet about parameters that are not among ``names``."""
    yield from (f"(void){p};" for p in parameters if p not in names)


class Printer:
    """Prints functions for one C file."""

    def __init__(self, prelude: Prelude) -> None:
        self.prelude = prelude

    def function(
        self, f: L.Function, bindings: Bindings = Bindings(), linkage: str = "static "
    ) -> str:
        """The definition of ``f``; ``linkage`` is that of a kernel."""
        f = replace(f, body=prune(f.body))
        lines = [f"/* {line.replace('*/', '* /')} */" for line in f.comment.splitlines()]
        lines.append(f"{self._signature(f, linkage)} {{")
        lines += [f"  {line}" for line in self._prologue(f, bindings)]
        lines += self.block(f.body, 1)
        if f.is_kernel:
            lines.append("  return 0;")
        return "\n".join([*lines, "}\n"])

    def _signature(self, f: L.Function, linkage: str) -> str:
        if f.is_kernel:
            args = "const ol_ctx *c, int64_t begin, int64_t end, int32_t tid"
            return f"{linkage}int32_t {f.name}({args})"
        args = ", ".join(self._parameter(p) for p in f.params) or "void"
        returns = self._type(f.returns) if f.returns else "void"
        qualifiers = "static inline" if f.inline else "static"
        if f.apart:
            qualifiers = "static __attribute__((noinline))"
        return f"{qualifiers} {returns} {f.name}({args})"

    def _parameter(self, p: L.Var | L.Pointer) -> str:
        if isinstance(p, L.Pointer):
            return self.pointer(p)
        return f"{self._type(p.type)} {p.name}"

    def pointer(self, p: L.Pointer) -> str:
        """A declaration without a value."""
        return f"{'' if p.written else 'const '}{scalar_name(p.dtype)} *{p.name}"

    def _prologue(self, f: L.Function, bindings: Bindings) -> Iterator[str]:
        names = set(names_in(f.body))
        if not f.is_kernel:
            yield from unused([p.name for p in f.params], names)
            return
        pointers = [p for p in f.pointers if p.name in names]
        offsets = [L.index(p.offset) for p in pointers]
        dims = [x for x in L.walk([*f.body, *offsets]) if isinstance(x, L.DimVar)]
        for name in sorted({x.name for x in dims}):
            yield f"const int64_t {dim_name(name)} = c->dims[{bindings.dims[name]}];"
        for pointer, offset in zip(pointers, offsets):
            yield f"{self.pointer(pointer)} = {self._base(pointer, offset, bindings)};"
        has_scratch = any(p.source == "scratch" for p in pointers)
        names |= {"tid"} if has_scratch else set()
        names |= {"c"} if dims or pointers else set()
        yield from unused(("c", "begin", "end", "tid"), names)

    def _base(self, p: L.Pointer, offset: L.Expr, bindings: Bindings) -> str:
        const = "" if p.written else "const "
        if p.source == "scratch":
            base = "c->scratch + tid * c->scratch_bytes"
            base = base if L.number_of(offset) == 0 else f"{base} + {self.expr(offset, ADD + 1)}"
            base = f"({base})"
        else:
            base = str(bindings.pointers[p.name])
        return f"({const}{scalar_name(p.dtype)} *)({const}void *){base}"

    def _type(self, type: L.CType) -> str:
        self.prelude.vector(type)
        return type_name(type)

    # Statements

    def block(self, statements: Sequence[L.Stmt], depth: int) -> list[str]:
        """Lines of statements, indented."""
        lines: list[str] = []
        for statement in statements:
            lines += self._statement(statement, depth)
        return lines

    def _statement(self, s: L.Stmt, depth: int) -> list[str]:
        pad = "  " * depth
        if isinstance(s, L.For):
            return self._for(s, depth)
        if isinstance(s, L.If):
            return self._if(s, depth)
        if isinstance(s, L.While):
            inner = self.block(s.body, depth + 1)
            return [f"{pad}while ({self.expr(s.condition)}) {{", *inner, f"{pad}}}"]
        if isinstance(s, L.Scope):
            return [f"{pad}{{", *self.block(s.body, depth + 1), f"{pad}}}"]
        if isinstance(s, L.Comment):
            return [f"{pad}/* {s.text.replace('*/', '* /')} */"]
        return [f"{pad}{self._simple(s)};"]

    def _for(self, s: L.For, depth: int) -> list[str]:
        pad, i = "  " * depth, s.var.name
        step = f"++{i}" if s.step == 1 else f"{i} += {s.step}"
        start, stop = self.expr(s.start), self.expr(s.stop, ADD)
        head = f"{pad}for (int64_t {i} = {start}; {i} < {stop}; {step}) {{"
        unroll = [f"{pad}{self.prelude.unroll()}"] if s.unroll else []
        return [*unroll, head, *self.block(s.body, depth + 1), f"{pad}}}"]

    def _if(self, s: L.If, depth: int) -> list[str]:
        pad = "  " * depth
        lines = [f"{pad}if ({self.expr(s.condition)}) {{", *self.block(s.then, depth + 1)]
        if s.else_:
            lines += [f"{pad}}} else {{", *self.block(s.else_, depth + 1)]
        return [*lines, f"{pad}}}"]

    def _simple(self, s: L.Stmt) -> str:
        if isinstance(s, L.Declare):
            const = "" if s.mutable or s.value is None else "const "
            value = "" if s.value is None else f" = {self.value(s.value)}"
            return f"{const}{self._type(s.var.type)} {s.var.name}{value}"
        if isinstance(s, L.Assign):
            return f"{s.var.name} = {self.value(s.value)}"
        if isinstance(s, (L.Store, L.StoreStrided)):
            return self._store(s)
        if isinstance(s, L.DeclareArray):
            return self._array(s)
        if isinstance(s, L.DeclarePointer):
            return f"{self.pointer(s.pointer)} = {self.expr(s.address)}"
        if isinstance(s, L.CallStatement):
            return self._call(s.name, s.args)
        if isinstance(s, L.Return):
            return "return" if s.value is None else f"return {self.value(s.value)}"
        assert isinstance(s, L.Break), f"no statement {type(s).__name__}"
        return "break"

    def _array(self, s: L.DeclareArray) -> str:
        name = f"{scalar_name(s.pointer.dtype)} {s.pointer.name}[{s.count}]"
        if s.values:
            values = ", ".join(literal(v, s.pointer.dtype) for v in s.values)
            return f"static const {name} = {{{values}}}"
        return " ".join(filter(None, (name, self.prelude.aligned(), "= {0}")))

    def _store(self, s: L.Store | L.StoreStrided) -> str:
        p, lanes = s.pointer, s.value.lanes
        place = self._place(p, s.index)
        if isinstance(s, L.StoreStrided):
            name = self.prelude.require("store_strided", L.CType(p.dtype, lanes))
            return f"{name}({place}, {self.expr(s.stride)}, {self.expr(s.value)})"
        if lanes > 1 or p.dtype in (f16, bf16):
            name = self.prelude.require("store", L.CType(p.dtype, lanes))
            return f"{name}({place}, {self.expr(s.value)})"
        return f"{p.name}[{self.expr(s.index)}] = {self.value(s.value)}"

    # Expressions

    def value(self, e: L.Expr) -> str:
        """An expression in a place of its own type: comparisons become uint8_t."""
        if e.lanes == 1 and e.dtype.is_bool and not isinstance(e, (L.Var, L.Const, L.Load, L.Call)):
            return f"(uint8_t){self.expr(e, UNARY)}"
        return self.expr(e)

    def expr(self, e: L.Expr, level: int = LOWEST) -> str:
        """``e``, in parentheses when it binds less tightly than ``level``."""
        text, binds = self._expr(e)
        return f"({text})" if binds < level else text

    def _expr(self, e: L.Expr) -> tuple[str, int]:
        if isinstance(e, L.Var):
            return e.name, PRIMARY
        if isinstance(e, L.DimVar):
            return dim_name(e.name), PRIMARY
        if isinstance(e, L.Const):
            return literal(e.value, e.dtype), PRIMARY
        if isinstance(e, (L.Binary, L.Compare)):
            return self._binary(e)
        if isinstance(e, (L.Load, L.LoadStrided, L.Gather)):
            return self._load(e), PRIMARY
        if isinstance(e, L.Address):
            return self._place(e.pointer, e.index), ADD
        return self._other(e)

    def _other(self, e: L.Expr) -> tuple[str, int]:
        if isinstance(e, L.Call):
            return self._call(e.name, e.args), PRIMARY
        if isinstance(e, L.Unary):
            return self._unary(e), UNARY
        if isinstance(e, L.Select):
            return self._select(e)
        if isinstance(e, L.Cast):
            return self._cast(e)
        if isinstance(e, L.Bits):
            if e.lanes == 1:
                return self._require(f"bits_{e.dtype.name}", e.a), PRIMARY
            return f"({self._type(e.type)}){self.expr(e.a, UNARY)}", UNARY
        if isinstance(e, L.Splat):
            name = self.prelude.require("splat", e.type)
            return f"{name}({self.value(e.a)})", PRIMARY
        if isinstance(e, L.Iota):
            return f"{self.prelude.require('iota', e.type)}()", PRIMARY
        if isinstance(e, L.Extract):
            return f"{self.expr(e.a, PRIMARY)}[{e.lane}]", PRIMARY
        assert isinstance(e, L.Across), f"no expression {type(e).__name__}"
        return self._require(f"across_{e.op}", e.a), PRIMARY

    def _require(self, name: str, *args: L.Expr) -> str:
        c_name = self.prelude.require(name, args[0].type)
        return f"{c_name}({', '.join(self.value(a) for a in args)})"

    def _call(self, name: str, args: Sequence[L.Expr]) -> str:
        if self.prelude.knows(name):
            return self._require(name, *args)
        return f"{name}({', '.join(self.value(a) for a in args)})"

    def _place(self, p: L.Pointer, position: L.Expr) -> str:
        if L.number_of(position) == 0:
            return p.name
        return f"{p.name} + {self.expr(position, ADD)}"

    def _load(self, e: L.Load | L.LoadStrided | L.Gather) -> str:
        p = e.pointer
        if isinstance(e, L.LoadStrided):
            name = self.prelude.require("load_strided", L.CType(p.dtype, e.lanes))
            return f"{name}({self._place(p, e.index)}, {self.expr(e.stride)})"
        if isinstance(e, L.Gather):
            name = self.prelude.require("gather", L.CType(p.dtype, e.lanes))
            return f"{name}({p.name}, {self.expr(e.index)})"
        if e.lanes > 1 or p.dtype in (f16, bf16):
            name = self.prelude.require("load", L.CType(p.dtype, e.lanes))
            return f"{name}({self._place(p, e.index)})"
        return f"{p.name}[{self.expr(e.index)}]"

    def _binary(self, e: L.Binary | L.Compare) -> tuple[str, int]:
        if e.op in ("min", "max"):
            return self._require(e.op, e.a, e.b), PRIMARY
        if isinstance(e, L.Compare):
            if e.lanes > 1 and e.lanes * e.a.dtype.bytes > self.prelude.target.vector_bytes:
                return self._require(f"compare_{e.op}", e.a, e.b), PRIMARY
            text = self._infix(e.op, self._item(e.a), self._item(e.b))
            if e.lanes == 1:
                return text, LOWEST
            return f"({self._type(e.type)})({text})", UNARY
        if e.dtype.is_float or e.dtype is L.index_ or _is_word(e):
            return self._plain(e)
        if e.dtype.is_bool or (e.op in ("and", "or", "xor", "shr") and _is_wide(e)):
            return self._infix(e.op, self._item(e.a), self._item(e.b)), LOWEST
        return self._wrapping(e), UNARY

    def _infix(self, op: str, a: str, b: str) -> str:
        return f"{a} {SYMBOL[op]} {b}"

    def _item(self, e: L.Expr) -> str:
        """An operand that binds tightly; a splat of a wide scalar stays a scalar."""
        if isinstance(e, L.Splat) and e.dtype.bytes >= 4 and e.dtype.kind != "mask":
            e = e.a
        return self.expr(e, UNARY)

    def _plain(self, e: L.Binary) -> tuple[str, int]:
        level = _LEVEL.get(e.op, LOWEST)
        if level == LOWEST:
            return self._infix(e.op, self._item(e.a), self._item(e.b)), LOWEST
        if isinstance(e.a, L.Splat) and isinstance(e.b, L.Splat):
            return self._infix(e.op, self.expr(e.a, level), self.expr(e.b, level + 1)), level
        a, b = (x.a if isinstance(x, L.Splat) else x for x in (e.a, e.b))
        return self._infix(e.op, self.expr(a, level), self.expr(b, level + 1)), level

    def _wrapping(self, e: L.Binary) -> str:
        """Signed or narrow integers, computed in unsigned ones."""
        target = self._type(e.type)
        width = e.dtype.bytes if e.lanes > 1 else max(4, e.dtype.bytes)
        unsigned = self._type(L.CType(L.UNSIGNED_OF[width], e.lanes))
        if e.op == "shr":
            return f"({target})({self._infix('shr', self.expr(e.a, UNARY), self.expr(e.b, UNARY))})"
        a, b = (f"({unsigned}){self.expr(x, UNARY)}" for x in (e.a, e.b))
        return f"({target})({self._infix(e.op, a, b)})"

    def _unary(self, e: L.Unary) -> str:
        a = self.expr(e.a, UNARY)
        if e.op == "not":
            if e.dtype.is_bool:
                return f"!{a}"
            return f"~{a}" if e.lanes > 1 or e.dtype.bytes >= 4 else f"({self._type(e.type)})~{a}"
        if e.dtype.is_float:
            return f"-{self.expr(e.a, PRIMARY)}"
        zero = L.const(0, e.dtype, e.lanes)
        return self.expr(L.Binary("sub", zero, e.a, e.type), UNARY)

    def _select(self, e: L.Select) -> tuple[str, int]:
        if e.lanes > 1:
            name = self.prelude.require("select", e.type)
            args = ", ".join(self.expr(x) for x in (e.condition, e.a, e.b))
            return f"{name}({args})", PRIMARY
        condition, a, b = (self.expr(x, UNARY) for x in (e.condition, e.a, e.b))
        text = f"{condition} ? {a} : {b}"
        if e.dtype.bytes < 4 and not e.dtype.is_bool:
            return f"({self._type(e.type)})({text})", UNARY
        return text, LOWEST

    def _cast(self, e: L.Cast) -> tuple[str, int]:
        source, target = e.a.dtype, e.dtype
        if e.lanes == 1 and not (source.is_float and not target.is_float):
            if {source.name, target.name} == {"index", "i64"}:
                return self._expr(e.a)
            return f"({self._type(e.type)}){self.expr(e.a, UNARY)}", UNARY
        if {source.name, target.name} == {"index", "i64"}:
            return self._expr(e.a)
        return self._require(f"cast_{target.name}", e.a), PRIMARY


def _is_word(e: L.Expr) -> bool:
    """Unsigned integers that C computes in their own type."""
    return e.dtype.kind == "uint" and (e.dtype.bytes >= 4 or e.lanes > 1)


def _is_wide(e: L.Expr) -> bool:
    return e.dtype.bytes >= 4 or e.lanes > 1
