"""Imports go one way, and ``import oarlock`` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "oarlock"
LAYERS = [
    {"errors", "knobs"},
    {"ir"},
    {"ops"},
    {"evaluate"},
    {"passes"},
    {"capture"},
    {"onnx"},
    {"codegen"},
    {"runtime"},
    {"lite"},
    {"train"},
    {"clip", "static"},
    {"slim"},
    {"serve"},
    {"cli"},
]
RANK = {name: i for i, names in enumerate(LAYERS) for name in names}
MAY_IMPORT_TORCH = {"capture", "train", "slim"}
MAY_IMPORT_TORCH_IN_A_FUNCTION = {"ops/aten.py", "cli"}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def layer_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules imported, each with whether the statement is at the top level."""
    tree = ast.parse(path.read_text())
    top = {id(n) for n in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found += [(f"{node.module}.{alias.name}", id(node) in top) for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downward(path):
    mine = layer_of(path)
    for module, _ in imports(path):
        parts = module.split(".")
        if parts[0] == "oarlock" and len(parts) > 1 and parts[1] in RANK:
            assert RANK[parts[1]] <= RANK[mine], f"{path.name} ({mine}) imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_torch_stays_where_it_belongs(path):
    where = str(path.relative_to(PACKAGE))
    for module, at_top in imports(path):
        if module.split(".")[0] in ("torch", "transformers"):
            lazy = not at_top and any(where.startswith(p) for p in MAY_IMPORT_TORCH_IN_A_FUNCTION)
            assert layer_of(path) in MAY_IMPORT_TORCH or lazy, f"{where} imports {module}"


def test_import_is_light():
    script = (
        "import sys, oarlock; oarlock.Program; oarlock.parse; "
        "print([m for m in ('torch', 'onnx', 'ziglang', 'rich') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
