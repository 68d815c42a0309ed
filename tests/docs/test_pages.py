"""Derived pages are fresh; the code of the hand-written ones runs and prints what they show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("torch")


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE
    )


def run(code: str, folder: Path) -> str:
    (folder / "page.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_derived_pages_are_fresh():
    from docs.generate import stale

    assert stale() == [], "run `make docs`"


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/predictor.md",
        "docs/clip.md",
        "docs/static.md",
        "docs/to_static.md",
        "docs/training.md",
        "docs/training-modules.md",
    ],
)
def test_examples_print_what_is_shown(page, tmp_path):
    (code,) = blocks(page)
    shown = (ROOT / page).read_text().split("\nprints\n\n```\n")[1].split("```")[0]
    assert run(code, tmp_path).split() == shown.split()


def test_recipe_op(tmp_path):
    check = """
import torch, oarlock
x = torch.linspace(-2, 2, 41)
program = oarlock.capture(torch.nn.Hardshrink(0.7), (x,))
assert program.graph.nodes[-1].name == "shrink", program
assert torch.equal(oarlock.Predictor(program)(x), torch.nn.functional.hardshrink(x, 0.7))
"""
    source = "import oarlock.ops\nfrom oarlock.ops.activation import *\n"
    source += "from oarlock.ops.activation import Activation, Any, np, op\n"
    source += "from oarlock.capture.lift.pointwise import Lifter, Value, lift\n"
    record, lifted = blocks("CONTRIBUTING.md")[:2]
    run(source + record + lifted + check, tmp_path)


def test_recipe_rule(tmp_path):
    check = """
import oarlock
from oarlock.passes.rewrite import rewrite
program = oarlock.parse('''oarlock 1
graph(%x: f32[3]) {
  %0 = neg(%x) : f32[3]
  %1 = neg(%0) : f32[3]
  %2 = neg(%1) : f32[3]
  return %2
}
''')
done = rewrite(program, RULES)
assert [n.name for n in done.graph.nodes] == ["neg"], done
"""
    source = "from oarlock.passes.rewrite import Patch, Rules, made_by\n"
    source += "from typing import Any\nfrom oarlock.ir import Node, Value\n"
    source += "RULES = Rules()\nrule = RULES.rule\n"
    run(source + blocks("CONTRIBUTING.md")[2] + check, tmp_path)


def test_recipe_target(tmp_path):
    source = "from oarlock.codegen.target import TARGETS, Target, get\n"
    run(source + blocks("CONTRIBUTING.md")[3] + "assert get('avx512_256').lanes(4) == 8", tmp_path)
