"""``Tracer``: runs Python code on fake tensors and records the torch calls that it makes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from oarlock.capture.tape.active import activated
from oarlock.capture.tape.data import DataHints
from oarlock.capture.tape.nodes import Ambient, Block, Call, Val, Where, map_tree
from oarlock.capture.tape.numbers import Number, number_of
from oarlock.capture.tape.queries import READS, access_of, is_query, name_of
from oarlock.capture.tape.sources import Source
from oarlock.capture.torch_private import fake_mode, is_fake
from oarlock.errors import UnsupportedError

_LIBRARY = (
    "/torch/",
    "/oarlock/capture/",
    "<oarlock",
    "<frozen",
    "/contextlib.py",
    "/functools.py",
)


def user_line(depth: int = 2) -> Where:
    """The innermost line that is neither torch's nor ours."""
    frame: Any = sys._getframe(depth)
    while frame is not None:
        file = frame.f_code.co_filename
        if not any(part in file for part in _LIBRARY):
            return Where(file, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back
    return Where("<unknown>", 0)


class Tracer(TorchFunctionMode):
    """Records the outermost torch calls of code that runs under it, autograd included.

    Real tensors that the code meets become inputs of the tape, with the source that holds them.
    """

    def __init__(self, state: dict[int, tuple[torch.Tensor, Source]] | None = None) -> None:
        super().__init__()
        self.fake = fake_mode()
        self.data = DataHints()
        self.root = Block()
        self.block = self.root
        self.vals: dict[int, tuple[torch.Tensor, Val]] = {}
        self.fakes: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.inputs: list[tuple[Val, Source, torch.Tensor]] = []
        self.state = state or {}
        self.aliases: list[tuple[Source, Source]] = []

    # ---- running

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Run the user's code in here."""
        with activated(self), self.fake, self.data, self:
            yield

    @contextmanager
    def into(self, block: Block) -> Iterator[Block]:
        """Record into ``block``."""
        before, self.block = self.block, block
        try:
            yield block
        finally:
            self.block = before

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if name_of(func) in READS:
            return self.read_data(func, args, kwargs)
        real_args, real_kwargs = self.samples(args), self.samples(kwargs)
        out = func(*real_args, **real_kwargs)
        if is_query(func) or (access_of(func) == "__get__" and not _has_tensor(out)):
            return out
        if not _is_silent(func):
            self.record(func, args, kwargs, out)
        return out

    def record(self, func: Any, args: tuple, kwargs: dict[str, Any], out: Any) -> Call:
        """Append a call; tensors of ``out`` that are new become its results."""
        where = user_line(3)
        noted = self.note(args), self.note(kwargs)
        call = Call(func, noted[0], noted[1], self.bind(out), where, ambient())
        self.block.nodes.append(call)
        return call

    def read_data(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        raise UnsupportedError(
            f"{user_line(3)}: {name_of(func)} reads the data of a tensor at capture time"
        )

    # ---- tensors and their values

    def samples(self, tree: Any) -> Any:
        """``tree`` with fakes for real tensors and hints for symbolic numbers."""
        return map_tree(tree, self.sample)

    def sample(self, x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return x if is_fake(x) else self.fake_of(x)
        return x.hint if isinstance(x, Number) else x

    def note(self, tree: Any) -> Any:
        """``tree`` with Vals for tensors and symbolic numbers."""
        return map_tree(tree, self.leaf)

    def leaf(self, x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return self.val(x)
        return x.val if isinstance(x, Number) else x

    def val(self, x: torch.Tensor) -> Val:
        """The value that a tensor in the hands of the user's code stands for."""
        if not is_fake(x):
            x = self.fake_of(x)
        found = self.vals.get(id(x))
        return found[1] if found else self.bind(x)

    def bind(self, out: Any) -> Any:
        """The tree of a call's results: Vals for tensors, None for anything else."""
        return map_tree(out, self._bind_leaf)

    def _bind_leaf(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x.val if isinstance(x, Number) else None
        found = self.vals.get(id(x))
        return found[1] if found else self.name(x, Val(self.block, x))

    def name(self, x: torch.Tensor, val: Val) -> Val:
        """Let fake tensor ``x`` stand for ``val``."""
        self.vals[id(x)] = (x, val)
        return val

    def fake_of(self, real: torch.Tensor) -> torch.Tensor:
        """The fake of a real tensor that the code meets: a new input of the tape at first."""
        found = self.fakes.get(id(real))
        if found is not None:
            return found[1]
        source = self.state[id(real)][1] if id(real) in self.state else Source(real, "", "a tensor")
        return self.add_input(real, source)

    def add_input(self, real: torch.Tensor, source: Source) -> torch.Tensor:
        """A fake of ``real`` as input of the tape."""
        found = self.fakes.get(id(real))
        if found is not None:
            first = next(s for _, s, x in self.inputs if x is real)
            self.aliases.append((first, source))
            return found[1]
        if source.base is None and id(real) in self.state:
            self.aliases.append((source, self.state[id(real)][1]))
        with _outside(self):
            fake = self.fake.from_tensor(real, static_shapes=True)
        self.fakes[id(real)] = (real, fake)
        val = self.name(fake, Val(self.root, fake, str(source)))
        self.inputs.append((val, source, real))
        return fake

    # ---- numbers

    def plain(self, x: Any, source: Source, atoms: list[tuple[Any, Source]]) -> Any:
        """An int or float argument: itself, guarded by equality."""
        atoms.append((x, source))
        return x

    def compute(self, op: Callable[..., Any], *args: Any) -> Any:
        """Record Python arithmetic on symbolic numbers."""
        hint = op(*[x.hint if isinstance(x, Number) else x for x in args])
        is_data = any(x.is_data for x in args if isinstance(x, Number))
        return self.number(op, args, hint, is_data)

    def number(self, op: Callable[..., Any], args: tuple, hint: Any, is_data: bool) -> Any:
        """A symbolic number that ``op(*args)`` gives at run time."""
        if isinstance(hint, tuple):
            raise UnsupportedError(f"{user_line()}: divmod of numbers known at run time")
        val = Val(self.block, hint)
        found = number_of(val, hint, is_data)
        self.block.nodes.append(Call(op, self.note(args), {}, val, user_line(3), ambient()))
        return found

    def is_symbolic(self, x: Any) -> bool:
        """``x`` is known at run time only: a tensor, a symbolic number, a list of run-time length."""
        return isinstance(x, (torch.Tensor, Number))


def ambient() -> Ambient:
    """What is set around the call that is made now."""
    autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    return Ambient(
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        autocast,
        autocast is None or torch.is_autocast_cache_enabled(),
    )


_SILENT = ("_set_grad_enabled", "_record_function_enter_new", "_record_function_exit")


def _is_silent(func: Any) -> bool:
    return name_of(func) in _SILENT or "_record_function" in str(func)


def _has_tensor(out: Any) -> bool:
    if isinstance(out, (tuple, list)):
        return any(map(_has_tensor, out))
    return isinstance(out, torch.Tensor)


@contextmanager
def _outside(tracer: Tracer) -> Iterator[None]:
    from oarlock.capture.torch_private import outside_modes

    with outside_modes():
        yield
