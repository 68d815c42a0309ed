"""Vector types and functions that printed code refers to; only those used are emitted.

``require(name, type)`` gives the C name of a function for one type, and adds its text and that of
whatever it needs.  Functions come from two tables: those of ``memory`` (C text: memory access, lanes,
conversions) and ``functions.FUNCTIONS`` (loop IR, one source for scalars and vectors).
"""

from __future__ import annotations

from oarlock.codegen import loops as L
from oarlock.codegen.c import arithmetic, math_f32, math_f64  # noqa: F401  definitions
from oarlock.codegen.c.functions import FUNCTIONS
from oarlock.codegen.c.memory import per_lane, text_builder
from oarlock.codegen.c.names import function_name, scalar_name, vector_name
from oarlock.codegen.target import Target


class Prelude:
    """The prelude of one C file."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._types: dict[str, str] = {}
        self._functions: dict[str, str] = {}

    def text(self) -> str:
        """Typedefs, then functions, each after what it uses."""
        return "\n".join([*self._types.values(), *self._functions.values()])

    def vector(self, type: L.CType) -> str:
        """The C name of a type; vectors get a typedef, and one for unaligned access."""
        if type.lanes == 1:
            return scalar_name(type.dtype)
        name = vector_name(type.dtype, type.lanes)
        if name not in self._types:
            size = type.lanes * type.dtype.bytes
            scalar = scalar_name(type.dtype)
            access = f"vector_size({size}), aligned({type.dtype.bytes}), may_alias"
            self._types[name] = (
                f"typedef {scalar} {name} __attribute__((vector_size({size})));\n"
                f"typedef {scalar} {name}_u __attribute__(({access}));"
            )
        return name

    def unroll(self) -> str:
        """A pragma before a loop to be unrolled completely."""
        self._types.setdefault("OL_UNROLL", _UNROLL)
        return "OL_UNROLL"

    def aligned(self) -> str:
        """Alignment of a local array."""
        return "__attribute__((aligned(64)))" if self.target.vector_bytes else ""

    def knows(self, name: str) -> bool:
        """Whether ``name`` is a function of the prelude."""
        return name in FUNCTIONS or text_builder(name) is not None

    def require(self, name: str, type: L.CType) -> str:
        """The C name of prelude function ``name`` on arguments of ``type``."""
        type = L.CType(L.i64, type.lanes) if type.dtype is L.index_ else type
        c_name = function_name(name, type)
        if c_name not in self._functions:
            self._functions[c_name] = self._build(name, type)
        return c_name

    def _build(self, name: str, type: L.CType) -> str:
        builder = text_builder(name)
        return self.written(name, type) if builder is None else builder(self, type, name)

    def written(self, name: str, type: L.CType) -> str:
        """The text of one of FUNCTIONS."""
        from oarlock.codegen.c.printer import Printer

        function = FUNCTIONS[name](name, type, function_name(name, type))
        return per_lane(self, type, name) if function is None else Printer(self).function(function)


_UNROLL = """#if defined(__clang__)
#define OL_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define OL_UNROLL _Pragma("GCC unroll 64")
#else
#define OL_UNROLL
#endif"""
