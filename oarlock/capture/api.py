"""``capture``: an eager model and an example to a verified Program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from oarlock.capture.check import check_against_eager
from oarlock.capture.recorder import Recorder, dtype_of, to_numpy, torch_dtype
from oarlock.capture.structure import map_tensors, tree_of
from oarlock.capture.torch_private import Shapes
from oarlock.errors import UnsupportedError, UserError
from oarlock.ir import Dim, DType, Program, Signature, Size, TensorType, f32
from oarlock.ir.verify import verify

Dynamic = Mapping[str, Mapping[int, "str | Dim"]]


@dataclass(frozen=True)
class InputSpec:
    """Stands for an example tensor: ``InputSpec(("N", 3, 32, 32), f32, "image")``.

    Args: shape: ints, names or Dims; dtype: element type; name: of the input, else its argument's.
    """

    shape: Sequence[int | str | Dim]
    dtype: DType = f32
    name: str | None = None

    def example(self) -> torch.Tensor:
        """A tensor of the smallest sizes that the dims allow."""
        sizes = [s if isinstance(s, int) else max(_dim(s).bounds()[0], 1) for s in self.shape]
        if self.dtype.is_float:
            return torch.randn(sizes).to(torch_dtype(self.dtype))
        return torch.zeros(sizes, dtype=torch_dtype(self.dtype))


def _dim(size: str | Dim) -> Dim:
    return Dim(size) if isinstance(size, str) else size


def capture(
    model_or_fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic: Dynamic | None = None,
    check: Any = None,
) -> Program:
    """Record ``model_or_fn(*args, **kwargs)`` as a Program, and compare it with eager.

    Args:
        args, kwargs: an example; tensors at any depth of tuples, lists, dicts, dataclasses;
            an InputSpec may stand for a tensor.  Numbers and texts become constants.
        dynamic: ``{argument name: {axis: "N" or Dim("N", min=1, max=64)}}``; a nested tensor is
            addressed by its path, ``"batch.tokens"``.  One name is one size.
        check: further argument tuples to compare with eager; False compares nothing.
    Returns: the Program; weights are copied, the model is left as it was.
    Raises: UnsupportedError listing everything that cannot be captured, with its line;
        DivergenceError when the program does not compute what eager does.
    """
    if not callable(model_or_fn):
        raise UserError(f"capture: expected a module or function, got {type(model_or_fn).__name__}")
    args = (args,) if isinstance(args, (torch.Tensor, InputSpec)) else tuple(args)
    call = _Call.of(model_or_fn, args, dict(kwargs or {}), dynamic or {})
    program = call.record()
    verify(program)
    if check is not False:
        check_against_eager(program, model_or_fn, call.args, call.kwargs, check or ())
    return program


@dataclass
class _Call:
    """One call to record: examples, and the shape with dims of each tensor by its path."""

    fn: Callable[..., Any]
    args: tuple
    kwargs: dict[str, Any]
    names: list[str]
    shapes: dict[str, tuple[Size, ...]]

    @staticmethod
    def of(fn: Any, args: tuple, kwargs: dict[str, Any], dynamic: Dynamic) -> _Call:
        names = _argument_names(fn, len(args))
        shapes: dict[str, tuple[Size, ...]] = {}
        dims: dict[str, Dim] = {}

        def example(x: Any, name: str) -> Any:
            if isinstance(x, InputSpec):
                shapes[x.name or name] = tuple(
                    s if isinstance(s, int) else dims.setdefault(_dim(s).name, _dim(s))
                    for s in x.shape
                )
                return x.example()
            return x

        names = [x.name if isinstance(x, InputSpec) and x.name else n for n, x in zip(names, args)]
        args = tuple(example(x, n) for n, x in zip(names, args))
        kwargs = {n: example(x, n) for n, x in kwargs.items()}
        call = _Call(fn, args, kwargs, names, shapes)
        call.apply(dynamic, dims)
        return call

    def apply(self, dynamic: Dynamic, dims: dict[str, Dim]) -> None:
        """Give every tensor its shape; names of ``dynamic`` must exist."""
        tensors: dict[str, torch.Tensor] = {}

        def leaf(tensor: torch.Tensor, path: str) -> int:
            tensors[path] = tensor
            return len(tensors) - 1

        self.trees(leaf)
        for path in dynamic:
            if path not in tensors:
                raise UserError(
                    f"dynamic: no tensor {path!r}; the tensors are {', '.join(tensors)}"
                )
        for path, tensor in tensors.items():
            if tensor.device.type != "cpu":
                raise UserError(f"{path}: expected a tensor on the CPU, got {tensor.device}")
            shape: list[Size] = list(self.shapes.get(path, tensor.shape))
            for axis, given in dynamic.get(path, {}).items():
                if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
                    raise UserError(
                        f"dynamic: axis {axis} of {path!r}, a tensor of rank {len(shape)}"
                    )
                dim = dims.setdefault(_dim(given).name, _dim(given))
                shape[axis] = dim
            self.shapes[path] = tuple(shape)

    def trees(self, leaf: Any) -> tuple[list[Any], list[Any]]:
        args = [tree_of(x, n, leaf) for n, x in zip(self.names, self.args)]
        return args, [(n, tree_of(x, n, leaf)) for n, x in self.kwargs.items()]

    def record(self) -> Program:
        shapes = Shapes()
        recorder = Recorder(shapes, _weight_names(self.fn))
        paths: list[str] = []
        originals: list[torch.Tensor] = []

        def leaf(tensor: torch.Tensor, path: str) -> int:
            paths.append(path)
            originals.append(tensor)
            return len(paths) - 1

        arg_trees, kwarg_trees = self.trees(leaf)
        fakes = iter([self.fake(recorder, p, x) for p, x in zip(paths, originals)])
        args, kwargs = map_tensors((self.args, self.kwargs), lambda _: next(fakes))
        result = self.run(recorder, args, kwargs)
        outputs: list[torch.Tensor] = []

        def output(tensor: torch.Tensor, path: str) -> int:
            outputs.append(tensor)
            return len(outputs) - 1

        tree = tree_of(result, "result", output)
        recorder.graph.outputs = [recorder.value(x) for x in outputs]
        self.refuse(recorder)
        signature = Signature(tuple(arg_trees), tuple(kwarg_trees), tree, tuple(paths))
        params = {key: to_numpy(tensor) for key, tensor in recorder.weights.items()}
        return Program(recorder.graph, params, dict(shapes.dims), (), signature)

    def fake(self, recorder: Recorder, path: str, tensor: torch.Tensor) -> torch.Tensor:
        shape = self.shapes[path]
        fake = recorder.shapes.fake_input(shape, tensor.dtype)
        name = path.replace(".", "_")
        value = recorder.graph.input(TensorType(dtype_of(tensor.dtype), shape), name)
        recorder.bind(fake, value)
        return fake

    def run(self, recorder: Recorder, args: tuple, kwargs: dict[str, Any]) -> Any:
        names = _module_names(self.fn)

        def enter(module: torch.nn.Module, _: Any) -> None:
            recorder.modules.append(names.get(id(module), type(module).__name__))

        def leave(module: torch.nn.Module, _: Any, __: Any) -> None:
            recorder.modules.pop()

        hooks = (
            torch.nn.modules.module.register_module_forward_pre_hook(enter),
            torch.nn.modules.module.register_module_forward_hook(leave),
        )
        try:
            with torch.inference_mode(), recorder.shapes.mode, recorder:
                return self.fn(*args, **kwargs)
        except Exception as error:
            # The model itself failed on fake tensors: a problem, after those already met.
            recorder.problems.append(f"{recorder.origin()}: {type(error).__name__}: {error}")
            self.refuse(recorder)
            raise
        finally:
            for hook in hooks:
                hook.remove()

    def refuse(self, recorder: Recorder) -> None:
        problems = list(dict.fromkeys(recorder.problems))
        problems += [
            f"{source}: the code decides on {condition}, which does not hold for every size"
            for condition, source in recorder.shapes.guards()
        ]
        if problems:
            raise UnsupportedError(f"{len(problems)} things cannot be captured:", problems)


def _argument_names(fn: Any, count: int) -> list[str]:
    target = fn.forward if isinstance(fn, torch.nn.Module) else fn
    names = []
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:  # a builtin without a signature
        parameters = ()
    for p in parameters:
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
    return [names[i] if i < len(names) else f"arg{i}" for i in range(count)]


def _weight_names(fn: Any) -> dict[int, str]:
    if not isinstance(fn, torch.nn.Module):
        return {}
    named = [
        *fn.named_buffers(remove_duplicate=False),
        *fn.named_parameters(remove_duplicate=False),
    ]
    return {id(tensor): name for name, tensor in reversed(named)}


def _module_names(fn: Any) -> dict[int, str]:
    if not isinstance(fn, torch.nn.Module):
        return {}
    return {id(m): f"model.{n}" if n else "model" for n, m in fn.named_modules()}
