"""Packages as a whole: files, names, sizes, statuses, state, refusals."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from oarlock.errors import UnknownName, UnsupportedError, UserError
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Program, State, TensorType, bf16, f32, i64
from oarlock.ir.op import REGISTRY
from oarlock.ir.signature import Signature
from oarlock.lite import build
from tests.lite.harness import any_compiler, compile_strictly, run, stream
from tests.ops.test_control import branch, loop
from tests.ops.test_sizes import checked, positive


def dense(batch=Dim("N", 1, 8), layers=3) -> Program:
    """Equal layers with weights of their own."""
    rng = np.random.default_rng(0)
    params = {f"fc{i}.weight": rng.standard_normal((32, 32), np.float32) for i in range(layers)}
    b = Builder()
    x = b.input(TensorType(f32, (batch, 32)), "x")
    for name in params:
        w = b.param(name, TensorType(f32, (32, 32)))
        x = b.relu(b.linear(x, w))
    b.graph.outputs = [x]
    return Program(b.graph, params)


def built(program, tmp_path, target="native", **options):
    package = build(program, target, tmp_path / "net", **options)
    return package, compile_strictly(package, tmp_path / "built", any_compiler())


def test_equal_layers_share_a_function(tmp_path):
    package, binary = built(dense(), tmp_path)
    source = (package.folder / "net.c").read_text()
    (name,) = [n for n in package.ops if "linear" in n]
    assert len(re.findall(rf"^  (?:status = )?{name}\(", source, re.M)) == 3
    x = np.random.default_rng(1).standard_normal((1, 32), np.float32)
    (got,) = run(package, binary, [x])
    np.testing.assert_allclose(got, evaluate(dense(), x), rtol=1e-5, atol=1e-5)


def test_scratch_of_a_convolution_is_small(tmp_path):
    from oarlock.lite.targets import SMALL_MEMORY

    b, rng = Builder(), np.random.default_rng(0)
    x = b.input(TensorType(f32, (1, 16, 40, 40)), "x")
    weights = rng.uniform(-1, 1, (32, 16, 3, 3)).astype(np.float32)
    w = b.param("w", TensorType(f32, weights.shape))
    y = b.conv(x, w, padding=((1, 1), (1, 1)))
    b.graph.outputs = [b.reduce_max(y, axes=(2, 3))]
    program = Program(b.graph, {"w": weights})
    package, binary = built(program, tmp_path, "c99")
    moved, result = x.type.size * 4, y.type.size * 4
    assert package.arena_bytes <= moved + result + 2 * SMALL_MEMORY
    data = rng.uniform(-1, 1, x.shape).astype(np.float32)
    (got,) = run(package, binary, [data])
    np.testing.assert_allclose(got, evaluate(program, data), rtol=1e-5, atol=144 * 2.0**-22)


def test_the_same_program_gives_the_same_files(tmp_path):
    folders = [build(dense(), "c99", tmp_path / k / "net").folder for k in "ab"]
    texts = [{p.name: p.read_text() for p in folder.iterdir()} for folder in folders]
    assert texts[0] == texts[1]
    assert set(texts[0]) == {
        "net.c",
        "net.h",
        "net_weights.c",
        "net_weights.h",
        "main.c",
        "Makefile",
    }
    assert not any(str(tmp_path) in text for text in texts[0].values())


def test_the_version_follows_weights_and_sizes(tmp_path):
    def version(program, **options):
        return build(program, "c99", tmp_path / "net", **options).interface.version

    changed = dense()
    changed.params["fc0.weight"] = changed.params["fc0.weight"] + 1
    versions = [version(dense()), version(changed), version(dense(), dims={"N": 2})]
    assert len(set(versions)) == 3


def test_the_header_states_the_sizes(tmp_path):
    package = build(dense(), "native", tmp_path / "net", dims={"N": 3}, prefix="my-net")
    header = (package.folder / "my_net.h").read_text()
    macros = dict(re.findall(r"#define (\w+) (\d+)", header))
    assert macros["MY_NET_X_ELEMENTS"] == macros["MY_NET_OUTPUT_ELEMENTS"] == "96"
    assert int(macros["MY_NET_ARENA_BYTES"]) == package.arena_bytes
    assert "int32_t my_net_run(void *memory, const float *x, float *output);" in header


def test_weights_are_exact(tmp_path):
    rng = np.random.default_rng(2)
    bits = rng.integers(0, 1 << 32, 257, np.uint32)
    bits[:4] = (0x7F800000, 0xFF800000, 0x7FC00001, 0x80000000)  # inf, -inf, NaN, -0
    params = {
        "w": bits.view(np.float32),
        "half": bits[:9].astype(np.uint16),
        "long": bits[:8].view(np.int64),
    }
    b = Builder()
    values = [
        b.param("w", TensorType(f32, (257,))),
        b.param("half", TensorType(bf16, (9,))),
        b.param("long", TensorType(i64, (4,))),
    ]
    b.graph.outputs = [b.cast(v, dtype=v.dtype) for v in values]
    package, binary = built(Program(b.graph, params), tmp_path, "c99")
    for got, expected in zip(run(package, binary, []), params.values()):
        assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("target", ["c99", "native"])
def test_branches_and_loops(target, tmp_path):
    package, binary = built(branch(), tmp_path / "branch", target)
    x = np.arange(3, dtype=np.float32)
    for predicate in (True, False):
        (got,) = run(package, binary, [np.array(predicate), x])
        np.testing.assert_array_equal(got, evaluate(branch(), np.array(predicate), x))
    package, binary = built(loop(), tmp_path / "loop", target)
    for n in (0, 1, 5):
        (got,) = run(package, binary, [np.array(n), x])
        np.testing.assert_array_equal(got, x * 2**n)


def test_an_index_out_of_range_is_a_status(tmp_path):
    b = Builder()
    x = b.input(TensorType(f32, (3, 4)), "table")
    i = b.input(TensorType(i64, (2,)), "ids")
    b.graph.outputs = [b.build(REGISTRY["take"](axis=0), x, i)]
    package, binary = built(Program(b.graph), tmp_path)
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    (got,) = run(package, binary, [table, np.array([2, -3])])
    np.testing.assert_array_equal(got, table[[2, 0]])
    with pytest.raises(AssertionError, match="net_run: status 1"):
        run(package, binary, [table, np.array([0, 3])])


def test_state_is_carried_from_run_to_run(tmp_path):
    b = Builder()
    x = b.input(TensorType(f32, (2,)), "x")
    total = b.add(x, b.param("total", TensorType(f32, (2,))))
    b.graph.outputs = [b.mul(total, b.const(2.0, f32)), total]
    params = {"total": np.array([1, 2], np.float32)}
    program = Program(
        b.graph, params, state=(State("total", 1),), signature=Signature(names=("x",))
    )
    package, binary = built(program, tmp_path)
    xs = np.array([[1, 1], [10, 20], [100, 200]], np.float32)
    totals = [got[0] for got in stream(package, binary, [[x] for x in xs])]
    np.testing.assert_array_equal(totals, 2 * (params["total"] + xs.cumsum(0)))
    assert [p.name for p in package.ports] == ["x", "state_total", "output0", "output1"]


def test_what_cannot_become_c_is_refused_at_once(tmp_path):
    call = REGISTRY["aten_call"]
    b = Builder()
    x = b.input(TensorType(f32, (2,)), "x")
    for target in ("aten.foo.default", "aten.bar.default"):
        op = call(target=target, types=(TensorType(f32, (2,)),))
        x = b.append(op, [x]).outputs[0]
    b.graph.outputs = [x]
    with pytest.raises(UnsupportedError) as error:
        build(Program(b.graph), "native", tmp_path / "net")
    assert [p.split()[0] for p in error.value.problems] == ["aten.foo.default", "aten.bar.default"]
    assert not (tmp_path / "net").exists()


def test_sizes_that_a_run_decides_are_refused_with_their_nodes(tmp_path):
    with pytest.raises(UnsupportedError) as error:
        build(positive(), "native", tmp_path / "net")
    assert error.value.problems == ("nonzero: the run decides the size K",)
    with pytest.raises(UnsupportedError, match="assert_: a check while the program runs"):
        build(checked(), "native", tmp_path / "net")


def test_wrong_targets_and_sizes_are_refused(tmp_path):
    with pytest.raises(UnknownName, match="no target 'z80'; expected one of native, c99"):
        build(dense(), "z80", tmp_path / "net")
    with pytest.raises(UnknownName, match="no dim 'M'; the dims are N"):
        build(dense(), "c99", tmp_path / "net", dims={"M": 1})
    with pytest.raises(UserError, match="sizes out of range: N=9: expected 1 to 8"):
        build(dense(), "c99", tmp_path / "net", dims={"N": 9})


def test_sizes_are_those_of_the_object(tmp_path):
    package = build(dense(), "native", tmp_path / "net")
    sizes = package.sizes
    assert sizes.data == 0
    assert package.weight_bytes == 3 * 32 * 32 * 4
    assert 0 < sizes.weights - package.weight_bytes <= 3 * package.target.alignment
    assert 0 < sum(sizes.functions.values()) <= sizes.text
    assert set(sizes.needs) <= {"memcpy", "memset", "memmove", "memcmp"}
    assert package.arena_bytes >= package.live_bytes


def test_the_files_do_not_depend_on_the_order_of_hashes(tmp_path):
    dense().save(tmp_path / "net.oar")
    texts = []
    for seed in ("1", "2"):
        script = (
            "import oarlock; from oarlock.lite import build; "
            f"build(oarlock.load({str(tmp_path / 'net.oar')!r}), 'c99', {str(tmp_path / seed / 'net')!r})"
        )
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", script], env=environment, check=True)
        texts.append({p.name: p.read_text() for p in (tmp_path / seed / "net").iterdir()})
    assert texts[0] == texts[1]
