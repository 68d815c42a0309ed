"""Which torch functions only ask about metadata, and how a function is written in replay."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch

from oarlock.capture.tape.nodes import Call, Check, Val

_NAMES = [
    "dim",
    "size",
    "numel",
    "nelement",
    "stride",
    "is_floating_point",
    "is_complex",
    "is_signed",
    "is_contiguous",
    "element_size",
    "storage_offset",
    "ndimension",
    "__len__",
    "__hash__",
    "__repr__",
    "is_same_size",
    "is_inference",
    "get_device",
    "result_type",
    "can_cast",
    "is_conj",
    "is_neg",
    "__dir__",
    "is_tensor",
    "is_storage",
    "is_shared",
    "dense_dim",
    "sparse_dim",
    "is_coalesced",
    "is_set_to",
    "type",
    "__format__",
    "__str__",
    "is_nonzero_static",
    "has_names",
    "__sizeof__",
    "sym_size",
    "_is_view",
    "_is_zerotensor",
    "is_distributed",
    "is_vulkan",
    "__class__",
    "_has_symbolic_sizes_strides",
    "_nested_tensor_size",
    "promote_types",
    "_dimI",
    "_dimV",
    "broadcast_shapes",
    "get_default_dtype",
    "is_grad_enabled",
    "finfo",
    "iinfo",
    "q_scale",
    "untyped_storage",
    "storage",
    "_typed_storage",
    "get_autocast_dtype",
]
LAYOUT = {
    "stride", "is_contiguous", "storage_offset", "is_set_to", "is_conj", "is_neg", "_is_view",
}  # fmt: skip
SIZES = ("shape", "size", "numel", "nelement", "__len__", "stride")
RANKS = ("dim", "ndim", "ndimension")
TOLD = frozenset((*SIZES, *RANKS, *LAYOUT))  # what a tensor tells of itself that sizes decide
INDEXED = ("__getitem__", "getitem", "__setitem__", "setitem")
LEFT_ALIGNED = "_nested_tensor_from_mask_left_aligned"  # of a mask of padding
READS = {
    "item", "tolist", "__bool__", "__int__", "__float__", "__index__", "equal", "allclose",
    "is_nonzero", "__contains__", LEFT_ALIGNED, "numpy", "data_ptr", "__complex__", "__array__",
}  # fmt: skip
_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "matmul": "@", "__eq__": "==", "__ne__": "!=",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "__and__": "&",
    "__or__": "|", "__xor__": "^", "__floordiv__": "//", "__mod__": "%", "pow": "**",
    "__pow__": "**", "__lshift__": "<<", "__rshift__": ">>", "remainder": "%",
}  # fmt: skip
_REFLECTED = {
    "__rsub__": "-", "__rdiv__": "/", "__rfloordiv__": "//", "__rmod__": "%", "__rpow__": "**",
    "__rlshift__": "<<", "__rrshift__": ">>", "bitwise_and": "&", "bitwise_or": "|",
    "bitwise_xor": "^",
}  # fmt: skip
_SIGNS = {"neg": "-{}", "positive": "+{}", "abs": "abs({})"}
_OPERATORS: dict[Callable[..., Any], str] = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/",
    operator.floordiv: "//", operator.mod: "%", operator.pow: "**", operator.eq: "==",
    operator.ne: "!=", operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=",
    operator.and_: "&", operator.or_: "|", operator.xor: "^", operator.lshift: "<<",
    operator.rshift: ">>", operator.is_: "is", operator.is_not: "is not",
    operator.contains: "in",
}  # fmt: skip


def name_of(func: Any) -> str:
    """``add`` of ``Tensor.add``; ``grad`` of the getter of ``Tensor.grad``."""
    owner = getattr(func, "__self__", None)
    if type(owner).__name__ in ("getset_descriptor", "property"):
        return getattr(owner, "__name__", None) or owner.fget.__name__  # type: ignore[union-attr]
    return getattr(func, "__name__", str(func))


def access_of(func: Any) -> str | None:
    """``__get__``, ``__set__`` or ``__delete__`` when ``func`` is that of an attribute of tensors."""
    owner = getattr(func, "__self__", None)
    if type(owner).__name__ not in ("getset_descriptor", "property"):
        return None
    return func.__name__


def is_query(func: Any) -> bool:
    """``func`` tells metadata and does nothing."""
    return name_of(func) in _NAMES if access_of(func) != "__set__" else False


def infix(func: Any, arity: int) -> str | None:
    """The Python operator of ``func`` with two positional arguments."""
    if arity != 2:
        return None
    try:
        if func in _OPERATORS:
            return _OPERATORS[func]
    except TypeError:
        return None
    if func is torch.Tensor.__pow__:  # whose name is that of another
        return "**"
    name = getattr(func, "__name__", "")
    return _INFIX.get(name) if getattr(torch.Tensor, name, None) is func else None


_BINARY = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "eq", "ne", "lt", "le", "gt", "ge",
    "and", "or", "xor",
)  # fmt: skip


def _arithmetic() -> dict[Any, Any]:
    """Methods of tensors whose first argument is a number on some way: the operator itself."""
    found: dict[Any, Any] = {}
    for name in _BINARY:
        plain = getattr(operator, f"{name}_" if name in ("and", "or") else name)
        for method in (name, f"__{name}__", f"__r{name}__"):
            swapped = method.startswith("__r")
            if hasattr(torch.Tensor, method):
                found[getattr(torch.Tensor, method)] = _swapped(plain) if swapped else plain
    divisions = dict.fromkeys((torch.Tensor.div, torch.Tensor.true_divide), operator.truediv)
    signs = (operator.neg, operator.pos, operator.abs, operator.invert)
    methods = (torch.Tensor.neg, torch.Tensor.positive, torch.Tensor.abs, torch.Tensor.bitwise_not)
    return {**found, **divisions, **dict(zip(methods, signs))}


def _swapped(func: Any) -> Any:
    return lambda a, b: func(b, a)


PYTHONS = _arithmetic()


def of_number(func: Any, args: Sequence[Any]) -> str | None:
    """A format of ``func``, recorded for a tensor, that also serves a number in its place."""
    name = method(func) or ""
    if len(args) == 1:
        return _SIGNS.get(name)
    other = args[1] if len(args) == 2 else None
    sample = other.sample if isinstance(other, Val) else other
    is_number = isinstance(sample, (int, float, torch.SymInt, torch.SymFloat))
    return f"{{1}} {_REFLECTED[name]} {{0}}" if is_number and name in _REFLECTED else None


def method(func: Any) -> str | None:
    """The name when ``func`` is a method of tensors."""
    name = getattr(func, "__name__", "")
    return name if name and getattr(torch.Tensor, name, None) is func else None


def is_update(func: Any) -> bool:
    """``func`` changes one of its arguments, or the gradients of leaves."""
    name = name_of(func)
    if access_of(func) in ("__set__", "__delete__") or name in ("__setitem__", "backward"):
        return True
    return name.endswith("_") and not name.endswith("__")


_CHANGES = {
    "append", "appendleft", "extend", "extendleft", "insert", "pop", "popleft", "popitem", "remove",
    "clear", "reverse", "rotate", "sort", "setitem", "delitem", "setdefault", "update", "add", "discard",
}  # fmt: skip


def changes_list(node: Any) -> bool:
    """A call changes a list, or another container, of the run."""
    if not isinstance(node, Call) or node.func in _OPERATORS:
        return False
    if name_of(node.func).strip("_") not in _CHANGES:
        return False
    first = node.args[0] if node.args else None
    return isinstance(first, Val) and not isinstance(first.sample, torch.Tensor)


def assumption(node: Any) -> str:
    """What a run may find not to hold; empty for a node that always does."""
    if isinstance(node, Check):
        return f"{node.where}: {node.what}"
    if isinstance(node, Call) and node.is_counted:
        return f"{node.where}: {name_of(node.func)} gives {len(node.outs)} tensors"
    return ""
