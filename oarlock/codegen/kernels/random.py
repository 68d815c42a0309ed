"""rand and randn: blocks of Philox4x32-10, four elements each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.nests import describe, kernel_name, pointers_of
from oarlock.codegen.target import Target
from oarlock.ir.dim import product
from oarlock.ir.graph import Node
from oarlock.ops.random import BITS, MULTIPLIERS, ROUNDS, WEYL

if TYPE_CHECKING:
    from oarlock.codegen.fuse import Group
    from oarlock.codegen.kernels import ConstantOf

_MASK = 0xFFFFFFFF
BLOCKS = 64  # worth a thread


class Random:
    """One item per block; see ``ops.random`` for the numbers."""

    takes_epilogue = False

    def accepts(self, node: Node, target: Target) -> bool:
        return True

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        node: Any = group.anchor
        b = Body()
        pointers = pointers_of(node.inputs, node.outputs)
        b.reserve(*(p.name for p in pointers.values()))
        y, count = pointers[node.output], product(node.output.shape)
        run, keys = _given(b, node, pointers)
        with b.loop("block", L.BEGIN, L.END) as block:
            drawn = _uniform if node.name == "rand" else _normal
            values = drawn(b, _words(b, L.cast(block, L.u64), run, keys), node.op.dtype)
            for i, value in enumerate(values):
                at = b.let("at", block * 4 + i)
                with b.if_(L.compare("lt", at, L.index(count))):
                    b.store(y, at, L.cast(value, L.compute_dtype(y.dtype)))
        function = L.Function(
            kernel_name([node]), b.statements, tuple(pointers.values()), comment=describe([node])
        )
        return Kernel(
            function.name, (node,), tuple(node.inputs), tuple(node.outputs), function,
            extent=(count + 3) // 4, grain=BLOCKS,
        )  # fmt: skip


def _given(b: Body, node: Any, pointers: dict[Any, Any]) -> tuple[L.Expr, list[L.Expr]]:
    """The counter of the run, and the two words of the seed."""
    seed, low = node.op.seed, L.const(_MASK, L.u64)
    keys: list[L.Expr] = [L.const(word & _MASK, L.u64) for word in (seed, seed >> 32)]
    if not node.inputs:
        return L.const(0, L.u64), keys
    given = [
        b.let("run", L.cast(b.load(pointers[node.inputs[0]], L.icon(i)), L.u64))
        for i in range(node.inputs[0].type.size)
    ]
    if len(given) == 1:
        return given[0], keys
    return given[1], [
        b.let("key", keys[0] ^ (given[0] & low)), b.let("key", keys[1] ^ (given[0] >> 32))
    ]  # fmt: skip


def _words(b: Body, block: L.Expr, run: L.Expr, keys: list[L.Expr]) -> list[L.Expr]:
    """The four words of a block, u64 below 2**32."""
    low = L.const(_MASK, L.u64)
    words = [block & low, block >> 32, run & low, run >> 32]
    for _ in range(ROUNDS):
        p = b.let("p", words[0] * L.const(MULTIPLIERS[0], L.u64))
        q = b.let("q", words[2] * L.const(MULTIPLIERS[1], L.u64))
        words = [
            b.let("w", (q >> 32) ^ words[1] ^ keys[0]),
            b.let("w", q & low),
            b.let("w", (p >> 32) ^ words[3] ^ keys[1]),
            b.let("w", p & low),
        ]
        keys = [b.let("key", _next(key, step)) for key, step in zip(keys, WEYL)]
    return words


def _next(key: L.Expr, step: int) -> L.Expr:
    return (key + L.const(step, L.u64)) & L.const(_MASK, L.u64)


def _uniform(b: Body, words: list[L.Expr], dtype: Any) -> list[L.Expr]:
    bits = BITS[dtype]
    scale = L.const(2.0**-bits, L.f64)
    return [L.cast(w >> (32 - bits), L.f64) * scale for w in words]


def _normal(b: Body, words: list[L.Expr], dtype: Any) -> list[L.Expr]:
    """Box and Muller's pairs, in double precision."""
    found = []
    for first, second in (words[:2], words[2:]):
        u = (L.cast(first >> 8, L.f64) + 1.0) * L.const(2.0**-24, L.f64)
        radius = b.let("radius", L.call("sqrt", L.call("log", u) * -2.0))
        turn = L.cast(second >> 8, L.f64) * L.const(2.0**-24, L.f64)
        angle = b.let("angle", turn * L.const(6.283185307179586, L.f64))
        found += [radius * L.call("cos", angle), radius * L.call("sin", angle)]
    return found
