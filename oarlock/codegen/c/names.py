"""C names: of types, and of anything that has a free-form name."""

from __future__ import annotations

import re

from oarlock.codegen.loops import CType
from oarlock.ir.types import DType

_SCALARS = {
    "f64": "double",
    "f32": "float",
    "index": "int64_t",
    "bool": "uint8_t",
    "f16": "uint16_t",
    "bf16": "uint16_t",
}
_KEYWORDS = frozenset(
    [
        "auto",
        "break",
        "case",
        "char",
        "const",
        "continue",
        "default",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "float",
        "for",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "typedef",
        "union",
        "unsigned",
        "void",
        "volatile",
        "while",
        "bool",
        "true",
        "false",
        "main",
        "c",
        "begin",
        "end",
        "tid",
    ]
)


def identifier(text: str) -> str:
    """``text`` as a C identifier: other characters become ``_``, keywords get one at the end."""
    name = re.sub(r"_{2,}", "_", re.sub(r"\W", "_", text, flags=re.ASCII)).strip("_") or "x"
    name = f"n{name}" if name[0].isdigit() else name
    return f"{name}_" if name in _KEYWORDS else name


def scalar_name(dtype: DType) -> str:
    """``int32_t`` for i32; f16 and bf16 are their bits, a mask is the integer of its width."""
    return _SCALARS.get(dtype.name) or f"{dtype.storage}_t"


def vector_name(dtype: DType, lanes: int) -> str:
    """``f32x16``: a typedef of the prelude."""
    if dtype.kind == "mask" or dtype.name == "index":
        return f"i{8 * dtype.bytes}x{lanes}"
    return f"{'u8' if dtype.is_bool else dtype.name}x{lanes}"


def type_name(type: CType) -> str:
    """The C type."""
    return scalar_name(type.dtype) if type.lanes == 1 else vector_name(type.dtype, type.lanes)


def function_name(name: str, type: CType) -> str:
    """``ol_exp_f32x16``: a prelude function for one type."""
    suffix = {"index": "i64"}.get(type.dtype.name, type.dtype.name)
    return f"ol_{name}_{suffix}" + (f"x{type.lanes}" if type.lanes > 1 else "")


def dim_name(name: str) -> str:
    """The local variable that holds a program's dim."""
    return f"d_{identifier(name)}"
