"""Every sample of every record through a package, equal to the reference."""

from __future__ import annotations

import pytest

from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Program, Value
from oarlock.ir.op import REGISTRY
from oarlock.lite import build
from tests.lite.harness import any_compiler, compile_strictly, run
from tests.samples import assert_agree, draw, results_of, types_of

NAMES = [name for name, record in sorted(REGISTRY.items()) if record.samples]
GROUPS = 8  # packages: one compilation each


def program_of(names: list[str]) -> tuple[Program, list, list]:
    """All samples of some records side by side."""
    b, arrays, owners = Builder(), [], []
    for name in names:
        for i, sample in enumerate(REGISTRY[name].samples):
            drawn = draw(sample.inputs, sample)
            values = [b.input(t, f"{name}{i}_{k}") for k, t in enumerate(types_of(sample.inputs))]
            out = b.build(REGISTRY[name](**sample.attrs), *values)
            for value in [out] if isinstance(out, Value) else out:
                b.graph.outputs.append(value)
                owners.append((name, sample, drawn))
            arrays += drawn
    return Program(b.graph), arrays, owners


def check(names: list[str], target: str, folder, command, flags=("-O1",), launcher=()) -> None:
    program, arrays, owners = program_of(names)
    expected = results_of(evaluate(program, *arrays))
    package = build(program, target, folder / "samples")
    binary = compile_strictly(package, folder / "built", command, flags)
    got = run(package, binary, arrays, launcher)
    assert len(got) == len(expected)
    for value, e, g, (_, sample, drawn) in zip(program.graph.outputs, expected, got, owners):
        assert_agree(g, e, value.dtype, drawn, sample.tolerance)


@pytest.mark.parametrize("part", range(GROUPS))
def test_samples_as_plain_c(part, tmp_path):
    check(NAMES[part::GROUPS], "c99", tmp_path, any_compiler())


@pytest.mark.parametrize("part", range(GROUPS))
def test_samples_on_this_machine(part, tmp_path):
    check(NAMES[part::GROUPS], "native", tmp_path, any_compiler())
