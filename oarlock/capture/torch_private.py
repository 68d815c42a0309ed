"""The one module with private torch names: fake tensors, their shape environment, symbols."""

from __future__ import annotations

import logging
import operator
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import sympy
import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    GuardOnDataDependentSymNode,
    ShapeEnv,
    StatelessSymbolicContext,
)
from torch.nn.modules import transformer
from torch.overrides import _get_current_function_mode, _pop_mode_temporarily
from torch.utils._python_dispatch import _disable_current_modes

from oarlock.capture.symbols import (
    comparisons,
    exceptions,
    holds,
    linear_bound,
    readable,
    size_of,
    true_from,
    true_until,
)
from oarlock.ir import Dim, Size
from oarlock.ir.dim import solve_linear

LEAST_HINT = 7
_MATHS: dict[str, Callable[[Any, Any], Any]] = {
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "min": torch.sym_min,
    "max": torch.sym_max,
}
LARGEST = 1000  # parts of an expression: beyond, deciding on it takes minutes
FEW = 12  # sizes that may decide otherwise when they then give the same


class Decision(NamedTuple):
    """A condition that was taken as true, and the line that asked; ``number``: for a plain number."""

    condition: Any
    source: str
    number: bool = False

    def refusal(self, shown: str) -> str:
        """What is wrong with it, and what to do."""
        if not self.number:
            parts = sympy.preorder_traversal(self.condition)
            is_multiple = any(type(part).__name__ == "Mod" for part in parts)
            return (
                f"{self.source}: the code decides on {shown}, which does not hold for every size; "
                f"make the size constant, {'a multiple, such as 32 * Dim(name), ' * is_multiple}"
                f"or narrow its range: Dim(name, min=..., max=...)"
            )
        return (
            f"{self.source}: the code decides on {shown}: it asks for the size as a plain number, "
            f"as range(n) and int(n * 0.5) do; work on the whole axis, compute with whole numbers "
            f"(n // 2), or make the size constant: Dim(name, min=..., max=...)"
        )


@dataclass(frozen=True)
class Exceptional:
    """A size for which the code decides otherwise than was recorded."""

    dim: str
    value: int
    why: str


class Shapes:
    """A fake tensor mode whose symbols are Oarlock's dims.

    Dynamic sizes are traced with distinct primes above ``reach`` times the sizes of the example:
    large enough for the model, and 1 is an ordinary size.  What
    the line ``flipped`` decides on gets the other truth.
    """

    def __init__(self, reach: int = 1, flipped: str = "") -> None:
        self.reach = reach
        self.env = _Decisions(flipped, specialize_zero_one=False, duck_shape=False)
        self.mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=self.env)
        self.dims: dict[str, Dim] = {}
        self.hints: dict[str, int] = {}
        self.examples: dict[str, int] = {}
        self.symbols: dict[sympy.Symbol, Dim] = {}
        self.symints: dict[str, torch.SymInt] = {}

    def hint(self, dim: Dim, example: int = 0) -> int:
        """The size that ``dim`` is traced with, inside its range."""
        for atom in sorted(dim.atoms(), key=str):
            if atom.name not in self.hints:
                wanted = _prime(
                    max(self.reach * example + 1, LEAST_HINT, atom.low), set(self.hints.values())
                )
                self.hints[atom.name] = wanted if atom.high is None else min(wanted, atom.high)
                self.dims[atom.name] = Dim(atom.name, atom.low, atom.high)
                self.examples[atom.name] = solve_linear(dim, atom.name, {}, example) or atom.low
        return dim.evaluate(self.hints)

    def fake_input(
        self, shape: Sequence[Size], dtype: torch.dtype, example: Sequence[int]
    ) -> torch.Tensor:
        """A fake tensor of ``shape``; its Dims become symbols, traced above the example's sizes."""
        sizes = [self.hint(s, n) if isinstance(s, Dim) else s for s, n in zip(shape, example)]
        real = torch.empty(sizes, dtype=dtype)
        kinds = [DimDynamic.DYNAMIC if isinstance(s, Dim) else DimDynamic.STATIC for s in shape]
        fake = self.mode.from_tensor(real, symbolic_context=StatelessSymbolicContext(kinds))
        for size, got in zip(shape, fake.shape):
            if isinstance(size, Dim):
                self.symbols[got.node.expr] = size
                self.symints.setdefault(str(size), got)
        return fake

    def unspecified(self, hint: int | float, label: str) -> Any:
        """A SymInt or SymFloat of any value, which kernels decide on as if it were ``hint``."""
        source = ConstantSource(label)
        symbol = self.env.create_unspecified_symbol(hint, source, DimDynamic.DYNAMIC)
        is_int = isinstance(hint, int)
        create = self.env.create_symintnode if is_int else self.env.create_symfloatnode
        return create(symbol, hint=hint, source=source)

    def fake_constant(self, tensor: torch.Tensor) -> torch.Tensor:
        """A fake stand-in of a real tensor; tensors that share memory get ones that do."""
        return self.mode.from_tensor(tensor, static_shapes=True)

    def size(self, value: Any) -> Size:
        """An int or SymInt as a Size.  Raises: UserError for one that depends on data."""
        return (
            size_of(value.node.expr, self.symbols)
            if isinstance(value, torch.SymInt)
            else int(value)
        )

    def number(self, size: Size) -> Any:
        """A Size as an int or SymInt."""
        if not isinstance(size, Dim):
            return size
        total: Any = 0
        for monomial, factor in size.terms:
            for atom in monomial:
                factor = factor * self._atom(atom)
            total = total + factor
        return total

    def _atom(self, atom: Any) -> Any:
        if str(atom) in self.symints:
            return self.symints[str(atom)]
        a, b = self.number(atom.a), self.number(atom.b)
        return _MATHS[atom.kind](a, b)

    def undecided(self) -> set[str]:
        """Conditions that do not hold for every size."""
        conditions = [d.condition for d in self.env.decisions]
        return {readable(c, self.symbols) for c in conditions if not holds(c, self.symbols)}

    def untried(self) -> list[str]:
        """Lines that take a truth which is other for more sizes than can be tried."""
        lines = dict.fromkeys(
            source
            for condition, source, _ in self.env.decisions
            if not holds(condition, self.symbols)
            and exceptions(condition, self.symbols, FEW) is None
        )
        return [x for x in lines if not any(d.number for d in self.env.decisions if d.source == x)]

    def is_fixed(self) -> bool:
        """The code has asked for a size as a plain number, which torch then puts into every shape."""
        return any(d.number and not holds(d.condition, self.symbols) for d in self.env.decisions)

    def forget(self, sources: Collection[str]) -> None:
        """Drop the decisions of some lines."""
        self.env.decisions = [d for d in self.env.decisions if d.source not in sources]

    def refused(self) -> tuple[list[str], list[Exceptional]]:
        """What the code decides otherwise for some sizes: what is refused, and what is to be tried.

        A decision that is other for a few sizes only is tried there against eager.
        """
        problems, tries = [], []
        for decision in self.env.decisions:
            condition = decision.condition
            if holds(condition, self.symbols):
                continue
            why = decision.refusal(readable(condition, self.symbols))
            found = exceptions(condition, self.symbols, FEW)
            if found is None:
                problems.append(why)
            else:
                tries += [Exceptional(found[0], value, why) for value in found[1]]
        return problems, list(dict.fromkeys(tries))

    def widest(self) -> tuple[Dim, str] | None:
        """A dim with the range in which a decision is always as recorded, and the line that decides.

        Only small sizes are given up, and none that the example has.
        """
        for condition, source, _ in self.env.decisions:
            if holds(condition, self.symbols) or exceptions(condition, self.symbols, FEW):
                continue
            found = true_from(condition, self.symbols)
            if found is not None and found[1] <= self.examples[found[0]]:
                dim = self.within((*found, None))
                if dim is not None:
                    return dim, source
        return None

    def limit(self, example: Mapping[str, int]) -> tuple[Dim, str] | None:
        """A dim without a largest size that the code decides on as below one, and the line."""
        for condition, source, _ in self.env.decisions:
            if holds(condition, self.symbols) or exceptions(condition, self.symbols, FEW):
                continue
            found = true_until(condition, self.symbols)
            dim = self.within((found[0], None, found[1])) if found is not None else None
            if dim is None or self.dims[dim.name].bounds()[1] is not None:
                continue
            if example.get(dim.name, 0) <= (dim.bounds()[1] or 0):
                return dim, source
        return None

    @contextmanager
    def assumptions(self) -> Iterator[list[Decision]]:
        """Collects what ATen calls decide on sizes."""
        before, self.env.inner = self.env.inner, []
        try:
            yield self.env.inner
        finally:
            self.env.inner = before

    def narrowed(self, decisions: Sequence[Decision]) -> Dim | None:
        """A dim with the range that makes the first unproven decision true, if a range can."""
        for condition, *_ in decisions:
            if holds(condition, self.symbols):
                continue
            for part in (condition, *comparisons(condition)):
                dim = self.within(linear_bound(part, self.symbols))
                if dim is None:
                    continue
                env = {dim.name: dim}
                dims = {s: d.substitute(env) for s, d in self.symbols.items()}
                if holds(condition, {s: d for s, d in dims.items() if isinstance(d, Dim)}):
                    return dim
        return None

    def within(self, bound: tuple[str, int | None, int | None] | None) -> Dim | None:
        """The dim with its range cut to ``bound``, if the traced size stays in it."""
        if bound is None or bound[0] not in self.hints:  # a number of the run has no traced size
            return None
        name, low, high = bound
        old_low, old_high = self.dims[name].bounds()
        low = old_low if low is None else max(low, old_low)
        high = min((h for h in (high, old_high) if h is not None), default=None)
        traced = self.hints[name]
        if (
            traced < low
            or (high is not None and traced > high)
            or (low, high) == (old_low, old_high)
        ):
            return None
        return Dim(name, low, high)


def _prime(least: int, taken: set[int]) -> int:
    """The first prime from ``least`` on that is not taken."""
    n = least
    while n in taken or any(n % d == 0 for d in range(2, int(n**0.5) + 1)):
        n += 1
    return n


class _Decisions(ShapeEnv):
    """Keeps what is decided on symbolic sizes: ``decisions`` by the captured code, ``inner`` by ATen.

    Decisions inside an ATen call (the choice of a backend, of a memory format) mostly do not change
    what is computed; where the result's type shows that they did, the range is narrowed.
    """

    def __init__(self, flipped: str, **options: Any) -> None:
        super().__init__(**options)
        self.flipped = flipped
        self.turned: set[Any] = set()  # what that line asked for; others get the same truth
        self.decisions: list[Decision] = []
        self.inner: list[Decision] = []

    def evaluate_expr(self, orig_expr: Any, *args: Any, **kwargs: Any) -> Any:
        if sum(1 for _ in sympy.preorder_traversal(orig_expr)) > LARGEST:
            raise NotImplementedError("sizes whose expressions grow from layer to layer")
        result = super().evaluate_expr(orig_expr, *args, **kwargs)
        if getattr(orig_expr, "is_number", False) or orig_expr in (sympy.true, sympy.false):
            return result
        is_truth = result in (sympy.true, sympy.false) or isinstance(result, bool)
        if is_truth:
            condition = orig_expr if result else sympy.Not(orig_expr)
        else:
            condition = sympy.Eq(orig_expr, result)
        source, asker = _deciding_line()
        in_library = is_truth and asker == "C++"
        if source is None or in_library:
            self.inner.append(Decision(condition, ""))
        elif asker != "expansion" or not _asks_whether_to_broadcast(condition):
            self.decisions.append(Decision(condition, source, number=not is_truth))
        if is_truth and source == self.flipped:
            self.turned.add(orig_expr)
        return not result if orig_expr in self.turned else result


def _asks_whether_to_broadcast(condition: Any) -> bool:
    """``size != 1`` in an expansion: with 1 it would repeat an axis of one element once."""
    return isinstance(condition, sympy.Ne) and condition.rhs in (0, 1)


_MACHINERY = (
    "/torch/fx/", "/torch/__init__.py", "/torch_private.py", "/capture/functions.py", "/sympy/",
)  # fmt: skip


def _deciding_line() -> tuple[str | None, str]:
    """The user's line that asks for a condition, or None inside an ATen call; who asks.

    An expansion (``expand_by_torch``) is recorded, so what it decides counts.  Python asks through
    ``SymInt`` and ``SymBool`` of torch/__init__.py; the code behind ``x[i] = y`` in C++ does not.
    """
    frame, inside, asker = sys._getframe(2), False, "C++"
    while frame is not None:
        code = frame.f_code
        if code.co_name == "expand_by_torch":
            asker = "expansion"
        elif code.co_name == "__torch_dispatch__" and asker != "expansion":
            return None, asker
        elif code.co_filename.endswith("/torch/__init__.py") and asker == "C++":
            asker = "Python"
        elif not any(part in code.co_filename for part in _MACHINERY):
            library = "/torch/" in code.co_filename
            inside = inside or (library and "/torch/nn/" not in code.co_filename)
            if not library and not (
                asker == "expansion" and "/oarlock/capture/" in code.co_filename
            ):
                where = f"{code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}"
                return (where if asker == "expansion" or not inside else None), asker
        frame = frame.f_back
    return None, asker


def is_fake(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, FakeTensor)


def depends_on_data(error: Exception) -> bool:
    """The model decided on a size that depends on data."""
    return isinstance(error, GuardOnDataDependentSymNode)


@contextmanager
def quiet_fakes() -> Iterator[None]:
    """Calls on fakes that fail are not logged: a capture tries some, and tells what is wrong."""
    log = logging.getLogger(FakeTensorMode.__module__)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


@contextmanager
def under_mode(mode: Any) -> Iterator[bool]:
    """As when torch calls ``mode``: without it.  Gives False, and changes nothing, where another
    mode is above it."""
    if _get_current_function_mode() is not mode:
        yield False
        return
    with _pop_mode_temporarily():
        yield True


def outside_modes() -> Any:
    """A context in which real tensors are read as they are."""
    return _disable_current_modes()


def storage_of(tensor: torch.Tensor) -> int:
    """What identifies the memory behind a tensor."""
    return tensor.untyped_storage()._cdata


@contextmanager
def symbolic_kernels() -> Iterator[None]:
    """Fake kernels keep sizes symbolic in calls that they make of each other."""
    with enable_python_dispatcher():
        yield


def _is_causal(mask: Any, is_causal: bool | None = None, size: int | None = None) -> bool:
    """Whether the caller says that the mask is causal; its values are used all the same."""
    return is_causal is True


@contextmanager
def whole_composites() -> Iterator[None]:
    """``inference_mode``, where composites arrive whole, without the fused paths of ``nn``.

    A cache keyed by a symbolic size finds nothing; ``nn.Transformer`` looks into no mask.
    """
    swaps: list[tuple[Any, str, Any]] = [
        (torch.SymInt, "__hash__", lambda size: id(size)),
        (transformer, "_detect_is_causal_mask", _is_causal),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in swaps]
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for owner, name, new in swaps:
        setattr(owner, name, new)
    try:
        with torch.inference_mode():
            yield
    finally:
        for owner, name, old in before:
            setattr(owner, name, old)
        torch.backends.mha.set_fastpath_enabled(enabled)


def mode_of(tensor: Any) -> FakeTensorMode:
    """The mode that a fake tensor belongs to."""
    return tensor.fake_mode


FAKE_ERRORS = (
    DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)  # fmt: skip


def is_dispatching() -> bool:
    """Some mode sees the operators that torch calls."""
    return torch.utils._python_dispatch._get_current_dispatch_mode() is not None


def key_bits(tensor: torch.Tensor) -> int:
    """What kind of tensor it is: its dispatch keys."""
    return torch._C._dispatch_keys(tensor).raw_repr()


def has_composite_kernel(func: Any) -> bool:
    """The operator is made of others, and may give an alias of an argument."""
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), composite)


def is_batched(tensor: torch.Tensor) -> bool:
    """A tensor that vmap runs over."""
    bits = key_bits(tensor)
    if bits not in _BATCHED:
        _BATCHED[bits] = "Batched" in str(torch._C._dispatch_keys(tensor))
    return _BATCHED[bits]


_BATCHED: dict[int, bool] = {}  # by the bits of dispatch keys


def has_saved_hooks() -> bool:
    """Hooks see what autograd saves, as under ``torch.utils.checkpoint``."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


@contextmanager
def without_saved_hooks() -> Iterator[None]:
    """Where nothing that is saved is shown to hooks around."""
    if not has_saved_hooks():
        yield
        return
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        yield


def keeps_graph() -> bool:
    """The backward pass that runs now was asked to retain its graph."""
    return torch._C._autograd._get_current_graph_task_keep_graph()


def is_transformed() -> bool:
    """Calls are made under torch.func, forward-mode gradients or a mode that sees operators."""
    is_forward = torch.autograd.forward_ad._current_level >= 0
    return is_forward or torch._C._functorch.peek_interpreter_stack() is not None


def without_transforms() -> Any:
    """Calls in here are made as outside of torch.func."""
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    return temporarily_clear_interpreter_stack()
