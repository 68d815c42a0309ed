"""``Program``: what was recorded between placeholders and results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from oarlock.capture.arrays import named_type
from oarlock.capture.tape.active import active
from oarlock.capture.tape.nodes import Block, Val
from oarlock.capture.tape.sources import Source, key_of
from oarlock.capture.torch_private import is_fake
from oarlock.errors import ArgumentError, ArgumentTypeError, UnknownName, UserError
from oarlock.ir import Dim
from oarlock.train.static.recorder import Recorder

BATCH, SIZES = (6, 10), (64, 96)  # sizes that stand for unknown ones: of the first axis, of others
Axis = int | str


@dataclass(frozen=True)
class Placeholder:
    """An input: a text in ``shape`` names a size that a feed decides."""

    name: str
    shape: tuple[Axis, ...]
    dtype: torch.dtype
    val: Val
    value: Tensor

    def __str__(self) -> str:
        return f"{self.name}: {str(self.dtype)[6:]}[{', '.join(map(str, self.shape))}]"


@dataclass(eq=False)
class Program:
    """Calls recorded under ``program_guard``; nothing runs until ``Executor().run``.

    Parameters, buffers and other tensors that exist outside are used where they lie: eager code and
    all programs see the same values.
    """

    block: Block = field(default_factory=Block)
    placeholders: dict[str, Placeholder] = field(default_factory=dict)
    names: dict[str, Val] = field(default_factory=dict)
    is_frozen: bool = False
    is_test: bool = False

    def __post_init__(self) -> None:
        self.symbolic: dict[Any, tuple[Any, Any]] = {}
        self.recorder = Recorder(self.symbolic)
        self.recorder.root = self.recorder.block = self.block

    def __str__(self) -> str:
        from oarlock.train.static.printing import text_of

        return text_of(self)

    def __repr__(self) -> str:
        inputs = ", ".join(map(str, self.placeholders.values()))
        return f"<static.Program({inputs}), {len(self.block.nodes)} calls>"

    def clone(self, for_test: bool = False) -> Program:
        """A finished copy that shares all tensors.

        Args: for_test: without gradients and updates, with dropout off and batch norm by its running
            values, as modules in eval mode do.
        """
        from oarlock.train.static.testing import for_testing

        block = for_testing(self) if for_test else Block(None, list(self.block.nodes))
        twin = Program(block, dict(self.placeholders), dict(self.names), True, for_test)
        twin.recorder = self.recorder
        return twin

    def parameters(self) -> dict[str, Tensor]:
        """Tensors from outside that the program uses, by name."""
        found: dict[str, Tensor] = {}
        for _, source, real in self.recorder.inputs:
            if source.base is not None and isinstance(real, Tensor):
                found[self.recorder.name_of_tensor(real) or f"tensor_{len(found)}"] = real
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of ``parameters``, detached; they share memory with the program."""
        return {name: x.detach() for name, x in self.parameters().items()}

    def set_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put tensors or arrays into the program's own.

        Raises: ArgumentError listing all that does not fit; nothing is changed then.
        """
        from oarlock.train.static.state import set_state

        if not isinstance(state, Mapping):
            raise ArgumentTypeError(
                f"set_state_dict: expected a dict of tensors by name, got {type(state).__name__}"
            )
        set_state(self, state)

    def val_of(self, x: Any) -> Val | None:
        """The value that ``x`` stands for: a recorded tensor or number, or its name."""
        if isinstance(x, str):
            named = self.placeholders.get(x)
            return named.val if named is not None else self.names.get(x)
        if isinstance(x, Tensor) and is_fake(x):
            found = self.recorder.vals.get(id(x))
            return found[1] if found is not None else None
        return getattr(x, "val", None)

    def lowered(self, feed: dict[str, Any] | None = None, fetch_list: Sequence[Any] = ()) -> Any:
        """The ``oarlock.Program`` that computes ``fetch_list``; see ``lowering.lowered``."""
        from oarlock.train.static.lowering import lowered

        return lowered(self, feed, fetch_list)


_MAIN, _STARTUP = Program(), Program(is_frozen=True)
_GUARDED: list[Program] = []


def default_main_program() -> Program:
    """The program of the innermost guard, else one that always exists."""
    return _GUARDED[-1] if _GUARDED else _MAIN


def default_startup_program() -> Program:
    """An empty program: parameters are initialised when modules are made."""
    return _STARTUP


@contextmanager
def program_guard(program: Program, startup_program: Program | None = None) -> Iterator[Program]:
    """Record torch calls that depend on placeholders into ``program``; others run at once.

    Args: startup_program: accepted for programs that have one; stays empty.
    """
    if not isinstance(program, Program):
        raise ArgumentTypeError(f"expected a static.Program, got {type(program).__name__}")
    if program.is_frozen:
        raise UserError("a clone is finished: record into the program that it was cloned from")
    _GUARDED.append(program)
    try:
        with program.recorder.recording():
            yield program
    finally:
        _GUARDED.pop()


def guarded(what: str) -> Program:
    """The program that records now."""
    if not _GUARDED or active() is not _GUARDED[-1].recorder:
        raise UserError(
            f"static.{what} outside of a program_guard; write: with program_guard(program): ..."
        )
    return _GUARDED[-1]


def data(
    name: str,
    shape: Sequence[int | str | Dim | None],
    dtype: Any = "float32",
    stop_gradient: bool = True,
) -> Tensor:
    """A placeholder for what is fed under ``name``.

    Args:
        shape: None or -1 where the feed decides; a text gives such a size a name, and sizes of one
            name are equal in a feed.
        dtype: a torch, numpy or Oarlock type, or its name.
        stop_gradient: False for inputs that ``gradients`` is asked for.
    """
    program = guarded("data")
    if not isinstance(name, str) or not name:
        raise ArgumentTypeError(f"data: name: expected a text, got {name!r}")
    if name in program.placeholders or name in program.names:
        raise ArgumentError(f"data: {name!r} is already a name of this program")
    if not isinstance(shape, (tuple, list)):
        raise ArgumentTypeError(f"data: {name!r}: shape: expected a list of sizes, got {shape!r}")
    axes = tuple(_axis(name, i, s) for i, s in enumerate(shape))
    kind = element_type(dtype)
    source = Source(None, f"args[{name!r}]", name)
    sizes = [
        s if isinstance(s, int) else (BATCH if i == 0 else SIZES)[0] for i, s in enumerate(axes)
    ]
    for i, s in enumerate(axes):
        if not isinstance(s, int):
            program.symbolic[key_of(source, i)] = BATCH if i == 0 else SIZES
    recorder = program.recorder
    with torch._C.DisableTorchFunction():
        example = torch.zeros(sizes, dtype=kind, requires_grad=not stop_gradient)
        value = recorder.inputs.tensor(example, source)
    program.placeholders[name] = Placeholder(name, axes, kind, recorder.val(value), value)
    return value


def name(value: Any, text: str) -> Any:
    """Give a recorded value a name, to fetch it by and to call a result of a saved model."""
    program = guarded("name")
    if not isinstance(text, str) or not text:
        raise ArgumentTypeError(f"name: expected a text, got {text!r}")
    if text in program.placeholders or text in program.names:
        raise ArgumentError(f"name: {text!r} is already a name of this program")
    found = program.val_of(value)
    if found is None:
        raise ArgumentTypeError(
            f"name: expected a value of this program, got {type(value).__name__}"
        )
    program.names[text] = found
    return value


def _axis(name: str, at: int, size: Any) -> Axis:
    if size is None or (type(size) is int and size == -1):
        return "N" if at == 0 else f"N{at}"
    if isinstance(size, (str, Dim)):
        return str(size)
    if type(size) is int and size >= 0:
        return size
    raise ArgumentError(
        f"data: {name!r}: shape[{at}]: expected a size, None or the name of a size, got {size!r}"
    )


def element_type(dtype: Any) -> torch.dtype:
    """A torch dtype from any usual way to say it."""
    try:
        return named_type(dtype)
    except UnknownName:
        raise ArgumentTypeError(f"dtype: expected an element type, got {dtype!r}") from None
