"""Vectors of one register and of several, in what gcc makes of the C."""

from __future__ import annotations

import pytest

from oarlock.codegen import target as targets
from oarlock.codegen.c.prelude import Prelude
from oarlock.codegen.c.printer import Printer
from oarlock.codegen.kernels import micro as M
from oarlock.ir.types import f32


@pytest.mark.parametrize(
    ("rows", "vectors", "is_apart"), [(14, 2, True), (6, 4, True), (2, 1, False)]
)
def test_large_tiles_have_the_registers_for_themselves(rows, vectors, is_apart):
    """In a caller that keeps vectors, gcc had a sum in memory."""
    f = M.function(M.Micro(rows, vectors, 16, f32, f32))
    text = Printer(Prelude(targets.get("avx512"))).function(f)
    assert ("__attribute__((noinline))" in text) == is_apart
