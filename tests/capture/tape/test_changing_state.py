"""What changes between calls, or in one: eager and static agree, or the static function refuses."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.nn.modules import module as modules

from oarlock.capture.to_static import to_static
from oarlock.errors import OarlockError, UnsupportedError
from tests.capture.tape.changing import KINDS, POSITIONS, text_of

REFUSED = {  # where the change comes between calls
    "random shuffle": "a list in an order known at run time",
    "np random array": "an array known at run time",
    "lru cache": "what a cache keeps",
    "iterator": "an iterator from outside goes on",
    "count": "an iterator from outside goes on",
    "generator object": "an iterator from outside goes on",
}
INSIDE = [position for position in POSITIONS if position != "between"]


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    before, gelu = dict(os.environ), functional.gelu
    limit, threads = sys.getrecursionlimit(), torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    reset()
    functional.gelu = gelu
    os.environ.clear()
    os.environ.update(before)
    sys.setrecursionlimit(limit)
    torch.set_num_threads(threads)


def reset() -> None:
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(1)
    sys.setrecursionlimit(1000)
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")
    modules._global_forward_hooks.clear()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def load(text: str, folder: Path) -> Any:
    """A module of its own with ``text``, as conversion needs the source."""
    path = folder / f"changing_{len(list(folder.iterdir()))}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def plain(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return str(x.dtype), tuple(x.shape), x.requires_grad, repr(x.detach().tolist())
    return [plain(v) for v in x] if isinstance(x, (list, tuple)) else repr(x)


def outcomes(text: str, static: Callable[[Any], Any], folder: Path) -> tuple[list[Any], Any]:
    """What the calls give, and the error that ends them."""
    gelu = functional.gelu
    reset()
    found: list[Any] = []
    try:
        for value in load(text, folder).run(static):
            found.append(plain(value))
    except Exception as error:
        return found, error
    finally:
        functional.gelu = gelu
        modules._global_forward_hooks.clear()
    return found, None


def text(error: Any) -> str:
    return (
        ""
        if error is None
        else f"{type(error).__name__}: {re.sub(r'changing_[0-9]+', '', str(error))}"
    )


def compared(name: str, position: str, folder: Path) -> str:
    """Whether the two agree: nothing, a refusal, or what is silently different."""
    program = text_of(name, position)
    want, failed = outcomes(program, lambda f: f, folder)
    got, error = outcomes(program, to_static, folder)
    if got != want[: len(got)]:
        return f"silently different: {want} and {got}"
    if isinstance(error, OarlockError) and not isinstance(failed, OarlockError):
        return "refused"
    return (
        "" if len(got) == len(want) and text(error) == text(failed) else f"{failed!r} and {error!r}"
    )


@pytest.mark.parametrize("name", KINDS)
def test_changed_between_calls(name: str, tmp_path: Path):
    assert compared(name, "between", tmp_path) == ("refused" if name in REFUSED else "")


@pytest.mark.parametrize(
    ("name", "position"),
    [
        pytest.param(name, position, marks=[pytest.mark.slow] if i % 8 else [])
        for i, (name, position) in enumerate((n, p) for n in KINDS for p in INSIDE)
    ],
)
def test_changed_in_a_call(name: str, position: str, tmp_path: Path):
    assert compared(name, position, tmp_path) in ("", "refused")


@pytest.mark.parametrize(
    ("change", "position", "name"),
    [
        ("forward hook", "by a call", "register_forward_hook"),
        ("module list", "on data", "append"),
        ("contextvar", "by a call on data", "context variable V"),
        ("lru cache", "by a call", "K is changed"),
        ("initial seed", "in a loop on data", "the seed is asked for"),
        ("weakref", "inside", "weak reference"),
        ("dtype", "by a call on data", "double changes the type of Net"),
    ],
)
def test_a_change_of_machinery_is_refused(change: str, position: str, name: str, tmp_path: Path):
    _, error = outcomes(text_of(change, position), to_static, tmp_path)
    assert isinstance(error, UnsupportedError) and name in str(error)


def test_attributes_of_tensors_of_the_run():
    """A global keeps what the call sets on it; on an argument or result it is refused."""
    held = torch.ones(3)

    def counts(x):
        held.count = held.count + 1 if hasattr(held, "count") else 1
        return x * held.count

    static = to_static(counts)
    assert [static(torch.ones(1)).item() for _ in range(4)] == [1, 2, 3, 4]

    def tags(x):
        y = x * 2
        y.tag = 3
        return y

    with pytest.raises(UnsupportedError, match="attribute tag"):
        to_static(tags)(torch.ones(3))


COLLECTED: ContextVar[dict[str, list[torch.Tensor]] | None] = ContextVar("COLLECTED", default=None)


def collects(x: torch.Tensor) -> torch.Tensor:
    held = COLLECTED.get()
    if held is not None:
        held["seen"].append(x * 2)
    return x + 1


def test_a_context_variable_that_the_call_sets():
    """What a call collects belongs to it, as the hidden states of library models do."""

    def f(x):
        token = COLLECTED.set({"seen": []})
        y = collects(collects(x))
        found = COLLECTED.get()
        COLLECTED.reset(token)
        return y, found["seen"]

    static = to_static(f)
    for x in (torch.ones(3), torch.arange(3.0), torch.zeros(2)):
        assert plain(static(x)) == plain(f(x))
    assert static.captures <= 2 and COLLECTED.get() is None


@pytest.mark.parametrize(
    "name", ["default dtype", "deterministic", "threads", "cudnn flag", "environment"]
)
def test_a_setting_that_a_call_changes_is_refused(name: str, tmp_path: Path):
    assert compared(name, "by a call", tmp_path) == "refused"
