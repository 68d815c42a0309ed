"""Engines share functions between launches and are split when they are large."""

from __future__ import annotations

import re

import numpy as np
import pytest

import oarlock
from oarlock.codegen import emit as emission
from oarlock.codegen import target as targets
from oarlock.codegen.lower import lower
from oarlock.ir import Builder, Graph, Program, TensorType, f32


def tower(layers: int, width: int = 24) -> Program:
    """Layers of equal shape with weights of their own, then one of another shape."""
    b = Builder(Graph())
    rng = np.random.default_rng(0)
    params = {}
    x = b.input(TensorType(f32, (3, width)), "x")
    for i in range(layers + 1):
        rows = width if i < layers else width // 2
        params[f"w{i}"] = rng.standard_normal((rows, width)).astype(np.float32)
        w = b.param(f"w{i}", TensorType(f32, (rows, width)))
        x = b.relu(b.linear(x, w))
    b.graph.outputs = [x]
    return Program(b.graph, params)


def kernels(source: str) -> list[str]:
    return re.findall(r"^(?:\S.* )?int32_t (k\d+_\w+)\(.*\{$", source, re.MULTILINE)


def test_layers_share_one_function():
    (source,) = lower(tower(6), targets.get("plain")).sources
    assert len(kernels(source)) == 2
    assert source.count("status = parallel(") == 7


@pytest.mark.parametrize("file_bytes", [300, 10**9])
def test_split_engines_compute_the_same(monkeypatch, file_bytes, tmp_path):
    monkeypatch.setenv("OARLOCK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(emission, "FILE_BYTES", file_bytes)
    program = tower(2)
    sources = lower(program, targets.native()).sources
    assert (len(sources) > 1) == (file_bytes == 300)
    x = np.random.default_rng(1).standard_normal((3, 24)).astype(np.float32)
    expected = oarlock.evaluate(program, x)
    found = oarlock.Predictor(program, threads=1)(x)
    bound = 3 * 24 * 2**-23 * float(np.abs(expected).max()) * 24
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


def test_the_text_is_the_same_every_time():
    program, target = tower(3), targets.native()
    assert lower(program, target).sources == lower(program, target).sources
