"""What a program has learnt, and programs of inference, in files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from oarlock.errors import ArgumentTypeError, InvalidModel, UserError
from oarlock.ir import archive
from oarlock.runtime.predictor import Predictor
from oarlock.train.static.executor import Executor
from oarlock.train.static.program import Program, default_main_program
from oarlock.train.static.state import fill, misfits
from oarlock.train.static.training import optimizers_of

PathLike = str | os.PathLike[str]
FORMAT = 1


def save(program: Program, path: PathLike) -> None:
    """Write parameters, buffers and the state of optimizers: data that ``torch.load`` reads with
    ``weights_only=True``."""
    document = {
        "format": FORMAT,
        "tensors": {name: x.detach() for name, x in program.parameters().items()},
        "optimizers": [x.state_dict() for x in optimizers_of(program.block)],
    }
    torch.save(document, path)


def load(program: Program, path: PathLike) -> None:
    """Put what ``save`` has written into the tensors of a program that was built alike.

    Raises: InvalidModel when the file does not fit, listing all; nothing is changed then.
    """
    document = _document(path)
    problems = misfits(program, document["tensors"])
    optimizers = optimizers_of(program.block)
    if len(document["optimizers"]) not in (0, len(optimizers)) and optimizers:
        problems.append(f"expected {len(optimizers)} optimizers, got {len(document['optimizers'])}")
    if problems:
        raise InvalidModel("\n  ".join([f"{path}: does not fit the program:", *problems]))
    fill(program, document["tensors"])
    for optimizer, state in zip(optimizers, document["optimizers"]):
        optimizer.load_state_dict(state)


def _document(path: PathLike) -> dict[str, Any]:
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except OSError:
        raise
    except Exception as error:
        raise InvalidModel(f"{path}: no file of static.save: {error}") from None
    names = {"format", "tensors", "optimizers"}
    is_whole = isinstance(found, dict) and names <= set(found) and found["format"] == FORMAT
    if not is_whole or not all(isinstance(x, Tensor) for x in found["tensors"].values()):
        raise InvalidModel(f"{path}: no file of static.save")
    return found


@dataclass(frozen=True)
class InferenceProgram:
    """A loaded program: ``Executor().run`` takes it, ``predictor`` runs it without torch."""

    predictor: Predictor
    feed_names: tuple[str, ...]
    fetch_names: tuple[str, ...]

    def run(self, feed: Mapping[str, Any], fetch_list: Sequence[Any]) -> list[Any]:
        found = self.predictor(**feed)
        values = dict(zip(self.fetch_names, found if len(self.fetch_names) > 1 else [found]))
        unknown = [x for x in fetch_list if x not in values]
        if unknown:
            raise UserError(f"cannot fetch {unknown}; names: {', '.join(values)}")
        return [values[x] for x in fetch_list]


def save_inference_model(
    path: PathLike,
    feed_vars: Sequence[Any],
    fetch_vars: Sequence[Any],
    executor: Executor | None = None,
    program: Program | None = None,
) -> None:
    """Write an ``.oar`` file that computes ``fetch_vars`` of the program as it is tested.

    Args: feed_vars: placeholders, at least those that the results depend on; executor: not needed.
    """
    program = default_main_program() if program is None else program
    test = program if program.is_test else program.clone(for_test=True)
    result = test.lowered(None, list(fetch_vars))
    names = {x if isinstance(x, str) else _placeholder(program, x) for x in feed_vars}
    missing = [n for n in result.signature.names if n not in names]
    if missing:
        raise UserError(f"save_inference_model: fetch_vars depend on {', '.join(missing)} too")
    result.meta["fetch"] = [_shown(program, x, i) for i, x in enumerate(fetch_vars)]
    archive.save(result, _with_suffix(path))


def load_inference_model(
    path: PathLike, executor: Executor | None = None
) -> tuple[InferenceProgram, list[str], list[str]]:
    """The program, the names to feed and the names to fetch."""
    predictor = Predictor(_with_suffix(path))
    program = archive.load(_with_suffix(path))
    feed = tuple(program.signature.names)
    given = program.meta.get("fetch")
    fetch = tuple(given) if isinstance(given, list) else tuple(_counted(program))
    return InferenceProgram(predictor, feed, fetch), list(feed), list(fetch)


def _counted(program: Any) -> list[str]:
    return [f"fetch_{i}" for i in range(len(program.graph.outputs) - len(program.state))]


def _placeholder(program: Program, x: Any) -> str:
    for place in program.placeholders.values():
        if place.value is x:
            return place.name
    raise ArgumentTypeError(f"feed_vars: expected placeholders, got {type(x).__name__}")


def _shown(program: Program, x: Any, at: int) -> str:
    if isinstance(x, str):
        return x
    val = program.val_of(x)
    named = (text for text, v in program.names.items() if v is val)
    return next(named, f"fetch_{at}")


def _with_suffix(path: PathLike) -> str:
    text = os.fspath(path)
    return text if text.endswith(".oar") else f"{text}.oar"
