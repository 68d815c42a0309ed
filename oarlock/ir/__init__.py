"""The static IR: types, graphs, programs; as text and as files."""

from oarlock.ir.builder import Builder
from oarlock.ir.dim import Dim, Size, bounds, dim_max, dim_min, evaluate_size, product
from oarlock.ir.graph import Graph, Node, Origin, Program, State, Value, clone_graph
from oarlock.ir.signature import Record, Signature, rebuild
from oarlock.ir.types import (
    DType,
    TensorType,
    bf16,
    bool_,
    decode,
    encode,
    f16,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    u8,
)

__all__ = [
    "Builder", "DType", "Dim", "Graph", "Node", "Origin", "Program", "Record", "Signature",
    "Size", "State", "TensorType", "Value", "bf16", "bool_", "bounds", "clone_graph", "decode",
    "dim_max", "dim_min", "encode", "evaluate_size", "f16", "f32", "f64", "i8", "i16", "i32",
    "i64", "product", "rebuild", "u8",
]  # fmt: skip
