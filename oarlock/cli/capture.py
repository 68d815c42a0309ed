"""``oarlock capture``: a model in a Python file to an ``.oar``."""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from oarlock.cli.output import json_option, show_document
from oarlock.errors import UserError
from oarlock.ir import Dim, DType

_SPEC = re.compile(r"(?:(?P<name>[A-Za-z_][\w.]*):)?(?P<dtype>\w+)\[(?P<shape>[^\]]*)\]$")


@click.command(epilog="Example: oarlock capture model.py:Net --input 'x:f32[N,3,32,32]' -o net.oar")
@click.argument("source", metavar="FILE.py:NAME")
@click.option("--input", "-i", "inputs", multiple=True, metavar="[NAME:]DTYPE[SHAPE]",
              help="One per argument; a letter in the shape is a dynamic dim: x:f32[N,3].")  # fmt: skip
@click.option(
    "--dim", "dims", multiple=True, metavar="NAME=MIN:MAX", help="Range of a dynamic dim."
)
@click.option("--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A state dict saved by torch.save or safetensors, loaded into the model.")  # fmt: skip
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--check/--no-check", default=True, help="Compare with eager on two inputs.")
@json_option
def command(
    source: str, inputs: tuple[str, ...], dims: tuple[str, ...], weights: Path | None,
    output: Path, check: bool, as_json: bool,
) -> None:  # fmt: skip
    """Capture a model from a Python file and save it.

    NAME is an nn.Module class without arguments, a module, or a function without arguments that
    returns the model, or (model, example arguments), or (model, example arguments, dynamic).
    The file is Python and is executed: capture only code that you trust.
    """
    import oarlock

    model, example, dynamic = load_model(source)
    if weights is not None:
        load_weights(model, weights)
    args = tuple(_parse_spec(text, _ranges(dims)) for text in inputs) or example
    if args is None:
        raise click.UsageError(f"{source} gives no example; describe its inputs with --input")
    program = oarlock.capture(model, args, dynamic=dynamic, check=None if check else False)
    program.save(output)
    nodes = sum(1 for _ in program.graph.walk())
    show_document(
        {"file": str(output), "nodes": nodes, "params": len(program.params),
         "weight_bytes": program.weight_bytes, "file_bytes": output.stat().st_size,
         "dims": {name: dim.bounds() for name, dim in program.dims.items()}},
        as_json,
    )  # fmt: skip


def load_model(source: str) -> tuple[Any, Any, Any]:
    """The model of ``FILE.py:NAME``, its example and dynamic dims, None where it gives none.

    Raises: UserError when the file has no such name or its code fails.
    """
    path, _, name = source.rpartition(":")
    if not path or not name:
        raise click.BadParameter(f"{source!r}: expected FILE.py:NAME", param_hint="FILE.py:NAME")
    module = _import_file(Path(path))
    if not hasattr(module, name):
        public = ", ".join(n for n in vars(module) if not n.startswith("_"))
        raise UserError(f"{path} has no {name!r}; it has {public}")
    import torch

    found = getattr(module, name)
    is_maker = callable(found) and not isinstance(found, torch.nn.Module)
    made = _call(source, found) if is_maker else found
    model, example, dynamic = (*(made if isinstance(made, tuple) else (made,)), None, None)[:3]
    if isinstance(model, torch.nn.Module):
        model.eval()
    if example is not None and not isinstance(example, tuple):
        example = tuple(example) if isinstance(example, list) else (example,)
    return model, example, dynamic


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[path.stem] = module
    _call(str(path), lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    return module


def _call(source: str, code: Callable[[], Any]) -> Any:
    """Run code of the user's; what it raises is the user's to fix."""
    try:
        return code()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        raise UserError(f"{source}: {where}: {type(error).__name__}: {error}") from error


def load_weights(model: Any, path: Path) -> None:
    """Load a state dict.  Raises: UserError when the file is none, or another model's."""
    try:
        model.load_state_dict(_read_weights(path))
    except Exception as error:
        raise UserError(f"{path}: {type(error).__name__}: {error}") from error


def _read_weights(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _ranges(texts: tuple[str, ...]) -> dict[str, Dim]:
    found = {}
    for text in texts:
        match = re.match(r"([A-Za-z_]\w*)=(\d+):(\d*)$", text)
        if match is None:
            raise click.BadParameter(f"{text!r}: expected NAME=MIN:MAX", param_hint="--dim")
        name, low, high = match.groups()
        found[name] = Dim(name, int(low), int(high) if high else None)
    return found


def _parse_spec(text: str, dims: dict[str, Dim]) -> Any:
    from oarlock.capture import InputSpec

    match = _SPEC.match(text.replace(" ", ""))
    if match is None:
        raise click.BadParameter(f"{text!r}: expected NAME:DTYPE[SHAPE]", param_hint="--input")
    shape = tuple(
        int(s) if s.isdigit() else dims.get(s, Dim(s)) for s in match["shape"].split(",") if s
    )
    return InputSpec(shape, DType.parse(match["dtype"]), match["name"])
