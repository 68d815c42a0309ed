"""Convolutions through the engine: every kind of window, against the reference."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.codegen import target as targets
from oarlock.codegen.lower import lower
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Program, TensorType, f32
from oarlock.passes.pipeline import optimise
from oarlock.runtime.cache import open_cache
from oarlock.runtime.predictor import Predictor
from oarlock.runtime.toolchain import ziglang_command

EPS = 2.0**-24


@dataclass(frozen=True)
class Case:
    """Channels in and out, spatial sizes, kernel and attributes; ``n`` images."""

    i: int
    o: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    n: int = 1
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1
    groups: int = 1
    has_bias: bool = True

    @property
    def attributes(self):
        rank = len(self.size)
        return {
            "stride": (self.stride,) * rank,
            "padding": (self.padding, *[self.padding[::-1]] * (rank - 1)),
            "dilation": (self.dilation,) * rank,
            "groups": self.groups,
        }


CASES = [
    Case(3, 20, (19, 23), (7, 7), stride=2, padding=(3, 3)),
    Case(1, 5, (9, 9), (3, 3), padding=(1, 0)),
    Case(16, 40, (7, 9), (1, 1), n=3),
    Case(16, 33, (8, 9), (1, 1), stride=2),
    Case(16, 33, (8, 9), (1, 1), padding=(1, 2), has_bias=False),
    Case(24, 70, (13, 6), (3, 3), n=2, padding=(1, 1)),
    Case(5, 7, (11, 12), (3, 2), stride=2, padding=(2, 1), dilation=2),
    Case(5, 7, (11, 12), (5, 3), stride=3, padding=(4, 4), dilation=2, n=2),
    Case(8, 3, (4, 3), (4, 3)),
    Case(64, 64, (6, 6), (3, 3), padding=(1, 1)),
    Case(12, 24, (7, 8), (3, 3), padding=(1, 1), groups=3),
    Case(64, 64, (7, 8), (3, 3), padding=(1, 1), groups=16, n=2),
    Case(6, 9, (7, 8), (2, 3), stride=2, groups=3, has_bias=False),
    Case(40, 80, (9, 7), (1, 1), groups=2),
    Case(20, 20, (9, 11), (3, 3), padding=(1, 1), groups=20),
    Case(33, 33, (10, 12), (5, 5), stride=2, padding=(2, 2), groups=33, n=2),
    Case(8, 16, (9, 11), (3, 3), padding=(1, 1), groups=8),
    Case(4, 6, (17,), (3,), padding=(4, 0), dilation=2, n=2),
    Case(1, 32, (40,), (10,), stride=5),
    Case(24, 24, (21,), (5,), padding=(2, 2), groups=24),
    Case(3, 8, (5, 6, 7), (3, 3, 3), padding=(1, 1), n=2),
    Case(4, 8, (5, 6, 4), (2, 1, 3), stride=2, padding=(0, 1), groups=2),
]


def programs(is_constant: bool, symbolic: bool, layout: str = "NCHW"):
    """All cases side by side, their arrays, and a bound on the error of each."""
    rng = np.random.default_rng(0)
    b, params, arrays, bounds, dims = Builder(), {}, [], [], {}
    for k, case in enumerate(CASES):
        shape = (case.n, case.i, *case.size)
        x, w, bias = (
            rng.standard_normal(s, np.float32)
            for s in (shape, (case.o, case.i // case.groups, *case.kernel), (case.o,))
        )
        sizes = _symbolic(k, case, dims) if symbolic else shape
        values = [b.input(TensorType(f32, sizes), f"x{k}")]
        arrays.append(x)
        for name, array in (("w", w), ("b", bias))[: 1 + case.has_bias]:
            if is_constant:
                params[f"{name}{k}"] = array
                values.append(b.param(f"{name}{k}", TensorType(f32, array.shape)))
            else:
                values.append(b.input(TensorType(f32, array.shape), f"{name}{k}"))
                arrays.append(array)
        b.graph.outputs.append(b.conv(*values, **case.attributes))
        terms = int(np.prod(w.shape[1:])) + 2
        bounds.append(terms * EPS * _sizes(case, x, w, bias))
    return Program(b.graph, params, dims), arrays, bounds


def _symbolic(k, case, dims):
    """N and the spatial sizes as dims of the program, at least as large as the window needs."""
    spans = [case.dilation * (kernel - 1) + 1 - sum(case.padding) for kernel in case.kernel]
    found = [Dim(f"n{k}", 1, 64)]
    found += [Dim(f"s{k}_{a}", max(1, span), 64) for a, span in enumerate(spans)]
    dims |= {dim.name: dim for dim in found}
    return (found[0], case.i, *found[1:])


def _sizes(case, x, w, bias):
    """The sum of the sizes of all terms."""
    b = Builder()
    values = [b.input(TensorType(f32, a.shape), f"a{i}") for i, a in enumerate((x, w, bias))]
    b.graph.outputs.append(b.conv(*values, **case.attributes))
    return evaluate(Program(b.graph), *(np.abs(a) for a in (x, w, bias)))


def check(program, arrays, bounds, target=None, threads=1):
    expected = evaluate(program, *arrays)
    got = Predictor(program, threads=threads, target=target or "cpu")(*arrays)
    for case, g, e, bound in zip(CASES, got, expected, bounds):
        assert g.shape == e.shape, case
        assert (np.abs(g - e) <= 2 * bound).all(), (case, np.abs(g - e).max())


@pytest.mark.parametrize(
    "is_constant, symbolic",
    [(True, False), (True, True), (False, False),
     pytest.param(False, True, marks=pytest.mark.slow)],
)  # fmt: skip
def test_conv(is_constant, symbolic):
    check(*programs(is_constant, symbolic), threads=2)


@pytest.mark.parametrize("target", ["avx2", "plain"])
def test_conv_on_other_targets(target):
    if target not in runnable():
        pytest.skip(f"this machine does not run {target}")
    check(*programs(True, False), target=target)


def runnable():
    widest = targets.native().name
    return {"plain", "generic", widest, *(["avx2"] if widest == "avx512" else [])}


def test_conv_compiles_for_neon(tmp_path):
    command = ziglang_command()
    if command is None:
        pytest.skip("no compiler for aarch64")
    program = optimise(programs(True, True)[0])
    lowered = lower(program, targets.get("neon"))
    for i, text in enumerate(lowered.sources):
        (tmp_path / f"part{i}.c").write_text(text)
    env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(open_cache().root / "zig")}
    subprocess.run(
        [*command, "-target", "aarch64-linux-gnu", "-O1", "-g0", "-Wall", "-Wextra", "-Werror",
         "-Wno-unused-function", "-c", *(f"part{i}.c" for i in range(len(lowered.sources)))],
        check=True, cwd=tmp_path, env=env,
    )  # fmt: skip


POOLS = [
    (name, rank, stride, padding, ceil)
    for name in ("max_pool", "avg_pool")
    for rank in (1, 2, 3)
    for stride, padding in ((1, ((1, 1),)), (2, ((0, 1),)), (3, ((0, 0),)))
    for ceil in (False, True)
]


@pytest.mark.parametrize("symbolic", [False, True])
def test_pools(symbolic):
    """Channels last, sizes that do not divide; a difference can only come from the order of sums."""
    rng = np.random.default_rng(0)
    b, arrays, dims = Builder(), [], {}
    pools = POOLS[::5] if symbolic else POOLS
    for k, (name, rank, stride, padding, ceil) in enumerate(pools):
        arrays.append(rng.standard_normal((2, *(7, 8, 9)[:rank], 19), np.float32))
        found = [Dim(f"p{k}_{a}", 3, 16) for a in range(rank)] if symbolic else ()
        dims |= {d.name: d for d in found}
        sizes = found or arrays[-1].shape[1:-1]
        x = b.input(TensorType(f32, (2, *sizes, 19)), f"x{k}")
        y = getattr(b, name)(
            x, kernel=(3,) * rank, stride=(stride,) * rank, padding=padding * rank,
            ceil_mode=ceil, layout="NHWC", **({"dilation": (1,) * rank} if name == "max_pool" else {}),
        )  # fmt: skip
        b.graph.outputs.append(y)
    program = Program(b.graph, {}, dims)
    largest = max(np.abs(a).max() for a in arrays)
    for got, expected, case in zip(
        Predictor(program, threads=2)(*arrays), evaluate(program, *arrays), pools
    ):
        bound = 0 if case[0] == "max_pool" else 2 * (3 ** case[1] + 1) * EPS * largest
        np.testing.assert_allclose(got, expected, rtol=0, atol=bound, err_msg=str(case))
