"""A tape with control flow, without gradients, as a program in the engine.

Weights are inputs of the program, read where they lie at each call; what a call updates is copied
back after it has succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oarlock.capture.tape.aliasing import sharing
from oarlock.capture.tape.lower import lower_with_weights
from oarlock.capture.tape.nodes import (
    Assert,
    Block,
    Call,
    Check,
    Fork,
    If,
    Print,
    Raise,
    SubTape,
    Val,
    While,
    leaves,
)
from oarlock.capture.tape.numbers import Number
from oarlock.capture.tape.queries import name_of
from oarlock.capture.tape.sources import Source
from oarlock.capture.to_static import NotThisCall
from oarlock.errors import InputError, ModelError, UnsupportedError
from oarlock.ir import Dim
from oarlock.ir.signature import Tree
from oarlock.ops.random import GENERATOR
from oarlock.runtime import arrays, engine
from oarlock.runtime.binding import bind
from oarlock.runtime.interpreter import Compiled, Interpreter
from oarlock.runtime.session import Session
from oarlock.runtime.state import lift_params
from oarlock.train import team

_LOWERED = (Assert, Call, Check, If, Raise, While)
_KINDS = {"none", "number", "unbound", "dtype", "rank"}
_PLAIN = (bool, int, float, str, type(None))


@dataclass
class Part:
    """What is lowered: ``inputs`` of a tape with their sources, its nodes, its result.

    ``is_copied``: the caller hands on detached copies of the results.
    """

    inputs: list[tuple[Val, Source]]
    root: Block
    result: Any
    dims: dict[Any, Dim] = field(default_factory=dict)
    is_copied: bool = False
    is_strict = True


class Lowered:
    """Calls of a part, for arguments such as ``(*args, **kwargs)``.

    Raises: UnsupportedError with the reason why it is not run as a program.
    """

    def __init__(
        self, part: Part, args: tuple, kwargs: dict[str, Any], names: Sequence[str], threads: int
    ) -> None:
        refuse(part)
        program, weights = lower_with_weights(part, args, kwargs, names)
        notes = program.meta.get("notes")
        if notes:
            raise UnsupportedError("; ".join(map(str, notes)))
        if GENERATOR in weights:
            raise UnsupportedError("random draws, which differ from those of PyTorch")
        keys = [k for k in program.params if _is_outside(weights[k], part)]
        self.updates = [(weights[s.name], s.output) for s in program.state]
        self.own = {x.untyped_storage()._cdata for x in weights.values()}
        if self.updates and len(self.own) < len(weights):
            raise UnsupportedError("tensors of the state share memory")
        self.visible = len(program.graph.inputs)
        lifted, _ = lift_params(program, keys)
        lifted = lifted.replace(state=())
        self.weights = [Weight(weights[k]) for k in keys]
        self.program, self.session = lifted, _session(lifted, threads)
        layout = self.session.layout
        self.inputs, self.outputs = layout.inputs[: self.visible], layout.outputs
        self.names = [p.name for p in self.inputs]
        self.signature = program.signature
        self.result = Result(part.result, part.root.results[0], program.signature.result or {})

    def __call__(self, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """One call.  Raises: NotThisCall."""
        try:
            given, sizes = bind(self.signature, self.names, args, kwargs)
            if self.updates:
                self._check_memory(given)
            dense = [arrays.as_dense(x, p.type, p.name) for x, p in zip(given, self.inputs)]
            dense += [w.read() for w in self.weights]
            plan = self.session.plan(tuple([x.shape for x in dense]))
            found = self.session.run(plan, dense)
        except (InputError, ModelError) as error:
            raise NotThisCall(str(error)) from error
        assert not sizes
        tensors = [arrays.to_torch(x, p.type.dtype) for x, p in zip(found, self.outputs)]
        for target, i in self.updates:
            with torch.no_grad():
                target.copy_(tensors[i])
        return self.result.build(tensors)

    def _check_memory(self, given: Sequence[Any]) -> None:
        for x in given:
            if isinstance(x, Tensor) and x.untyped_storage()._cdata in self.own:
                raise NotThisCall("an argument shares memory with what the call changes")

    def __str__(self) -> str:
        steps = "" if isinstance(self.session, Session) else ", steps driven by Python"
        return f"a program ({sum(1 for _ in self.program.graph.walk())} nodes{steps})"


def refuse(part: Part) -> None:
    """Raises: UnsupportedError for what a program would do otherwise than the calls of the tape."""
    nodes = list(part.root.walk())
    if any(isinstance(n, Print) for n in nodes):
        raise UnsupportedError("it prints, warns or logs")
    if any(isinstance(n, Fork) for n in nodes):
        raise UnsupportedError("ways of a decision that give results of different kinds")
    others = {type(n).__name__ for n in nodes if not isinstance(n, _LOWERED)}
    if others or any(isinstance(x, SubTape) for n in nodes for x in _given(n)):
        raise UnsupportedError("functions that are called at run time")
    for val, source in part.inputs:
        if source.base is not None and not isinstance(val.sample, Tensor):
            raise UnsupportedError(f"{source} is read at each call")
    if any(isinstance(n, Call) and name_of(n.func) in _AUTOGRAD for n in nodes):
        raise UnsupportedError("gradients inside of control flow")
    results = [v for v in leaves(part.root.results) if isinstance(v, Val)]
    tensors = [v for v in results if isinstance(v.sample, Tensor)]
    if part.is_copied:
        return
    if any(v.sample.requires_grad or "grad" in v.loose for v in tensors):
        raise UnsupportedError("results whose gradients eager code may ask for")
    why = sharing(part.inputs, part.root, tensors)
    if why:
        raise UnsupportedError(why)


_AUTOGRAD = ("backward", "grad", "requires_grad_", "register_hook", "apply")


def _given(node: Any) -> Iterator[Any]:
    return leaves((getattr(node, "args", ()), getattr(node, "kwargs", {})))


def _is_outside(tensor: Tensor, part: Part) -> bool:
    """Read from a source, so that another value may be there at the next call."""
    return any(source.base is not None and source.value() is tensor for _, source in part.inputs)


def _session(program: Any, threads: int) -> Any:
    try:
        built = engine.build(program)
        return Session(built, threads, team.pool(built.pool, threads))
    except engine.HasSteps as found:
        compiled = Compiled(found.program, lambda p: engine.build(p), found.target)
        return Interpreter(compiled, threads)


class Weight:
    """A tensor as an array; made anew when it moves."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.key, self.array = tensor, None, np.empty(0)

    def read(self) -> np.ndarray:
        x = self.tensor
        if not x.is_contiguous() or x.dtype is torch.bfloat16 or x.is_neg():
            return arrays.as_dense(x, _type(x), "a weight")
        key = (x.data_ptr(), x.shape)
        if key != self.key:
            self.key, self.array = key, arrays.as_dense(x, _type(x), "a weight")
        return self.array


def _type(x: Tensor) -> Any:
    from oarlock.capture.arrays import dtype_of
    from oarlock.ir import TensorType

    return TensorType(dtype_of(x.dtype), tuple(x.shape))


class Result:
    """The structure of a result: plain containers of tensors, numbers and constants.

    Args: tree: where the program has them.  Raises: UnsupportedError for others.
    """

    def __init__(self, like: Any, noted: Any, tree: Tree) -> None:
        self.seen: set[int] = set()
        self.build = self._maker(like, noted, tree)

    def _maker(self, like: Any, noted: Any, tree: Tree) -> Callable[[Sequence[Tensor]], Any]:
        if isinstance(noted, Val):
            return self._leaf(noted, tree)
        if type(like) in _PLAIN:
            return lambda tensors: like
        if type(like) not in (tuple, list, dict) or id(like) in self.seen:
            raise UnsupportedError(f"a result of class {type(like).__name__}")
        self.seen.add(id(like))
        if type(like) is dict:
            keys, trees = list(like), [t for _, t in tree["dict"]]
            makers = [self._maker(*x) for x in zip(like.values(), noted, trees, strict=True)]
            return lambda tensors: {k: make(tensors) for k, make in zip(keys, makers)}
        kind, trees = type(like), tree["tuple" if type(like) is tuple else "list"]
        makers = [self._maker(*x) for x in zip(like, noted, trees, strict=True)]
        return lambda tensors: kind([make(tensors) for make in makers])

    def _leaf(self, val: Val, tree: Tree) -> Callable[[Sequence[Tensor]], Any]:
        sample = val.sample
        kind = type(sample.hint) if isinstance(sample, Number) else type(sample)
        loose = val.loose & _KINDS
        if loose or not (isinstance(sample, Tensor) or kind in (bool, int, float)):
            why = ", ".join(sorted(loose)) or kind.__name__
            raise UnsupportedError(f"a result that is of another kind in some calls: {why}")
        if "leaf" not in tree:
            if isinstance(sample, Tensor) or "const" not in tree:
                raise UnsupportedError("a result that the program does not compute")
            return lambda tensors: tree["const"]
        at = tree["leaf"]
        if isinstance(sample, Tensor):
            return lambda tensors: tensors[at]
        return lambda tensors: kind(tensors[at].item())
