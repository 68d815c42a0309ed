"""Arguments of a call to the tensors of the graph: the inverse of ``ir.signature.rebuild``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from oarlock.errors import InputError
from oarlock.ir.signature import Signature, Tree, leaf_indices

_MISSING = object()
SizeCheck = tuple[str, str, Any]  # (argument, text of the size, value given)


def bind(
    signature: Signature, names: Sequence[str], inputs: Sequence[Any], named: Mapping[str, Any]
) -> tuple[list[Any], list[SizeCheck]]:
    """The tensors in order of ``names``, and the ints that must equal a size of the program.

    Arguments come as the captured function took them, or as tensors: in order, or by name.
    Raises: InputError naming the argument.
    """
    if _is_flat(signature, names, inputs):
        return _bind_flat(names, inputs, named), []
    binder = _Binder(len(names))
    if len(inputs) > len(signature.args):
        raise InputError(
            f"expected {len(signature.args)} positional arguments, got {len(inputs)}; "
            f"tensors: {', '.join(names)}"
        )
    for i, (tree, value) in enumerate(zip(signature.args, inputs)):
        binder.take(tree, value, f"argument {i}" if "leaf" not in tree else names[tree["leaf"]])
    trees = dict(signature.kwargs)
    for name, value in named.items():
        if name in trees:
            binder.take(trees[name], value, name)
        elif name in names:
            binder.leaf(names.index(name), value, name)
        elif (tree := _tree_named(signature, names, name)) is not None:
            binder.take(tree, value, name)
        else:
            raise _unknown(name, [*names, *(k for k in trees if k not in names)])
    _check_complete(binder.leaves, names)
    return binder.leaves, binder.sizes


def _tree_named(signature: Signature, names: Sequence[str], name: str) -> Tree | None:
    """The positional argument whose tensors are called ``name.``..."""
    for tree in signature.args:
        leaves = list(leaf_indices(tree))
        if leaves and all(names[i].startswith(f"{name}.") for i in leaves):
            return tree
    return None


def _is_flat(signature: Signature, names: Sequence[str], inputs: Sequence[Any]) -> bool:
    """Tensors one by one rather than the captured structure."""
    if not signature.args and not signature.kwargs:
        return True
    plain = all(hasattr(x, "shape") for x in inputs)
    trees = signature.args[: len(inputs)]
    fits = len(trees) == len(inputs) and all("leaf" in tree for tree in trees)
    return plain and not fits and len(inputs) == len(names)


def _bind_flat(names: Sequence[str], inputs: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
    if len(inputs) > len(names):
        raise InputError(f"expected {len(names)} inputs ({', '.join(names)}), got {len(inputs)}")
    leaves = [*inputs, *[_MISSING] * (len(names) - len(inputs))]
    for name, value in named.items():
        if name not in names:
            raise _unknown(name, names)
        if leaves[names.index(name)] is not _MISSING:
            raise InputError(f"input {name!r} is given twice", name)
        leaves[names.index(name)] = value
    _check_complete(leaves, names)
    return leaves


def _unknown(name: str, names: Sequence[str]) -> InputError:
    return InputError(f"no input {name!r}; expected {', '.join(names) or 'none'}", name)


def _check_complete(leaves: Sequence[Any], names: Sequence[str]) -> None:
    missing = [name for name, leaf in zip(names, leaves) if leaf is _MISSING]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        shown = ", ".join(map(repr, missing))
        raise InputError(f"input {shown} {verb} missing; expected {', '.join(names)}", missing[0])


class _Binder:
    def __init__(self, count: int) -> None:
        self.leaves: list[Any] = [_MISSING] * count
        self.sizes: list[SizeCheck] = []

    def leaf(self, i: int, value: Any, where: str) -> None:
        if self.leaves[i] is not _MISSING and self.leaves[i] is not value:
            raise InputError(f"input {where!r} is given twice, with different values", where)
        self.leaves[i] = value

    def take(self, tree: Tree, value: Any, where: str) -> None:
        """Walk ``tree`` and ``value`` together."""
        kind = next(k for k in tree if k != "fields")
        if kind == "leaf":
            self.leaf(tree["leaf"], value, where)
        elif kind == "size":
            self.sizes.append((where, tree["size"], value))
        elif kind == "const":
            _check_const(tree["const"], value, where)
        else:
            _WALK[kind](self, tree, value, where)

    def sequence(self, tree: Tree, value: Any, where: str) -> None:
        trees = tree.get("tuple", tree.get("list"))
        if not isinstance(value, (tuple, list)) or len(value) != len(trees):
            raise _shape(where, f"{len(trees)} items in a list or tuple", value)
        for i, (inner, item) in enumerate(zip(trees or (), value)):
            self.take(inner, item, f"{where}[{i}]")

    def mapping(self, tree: Tree, value: Any, where: str) -> None:
        keys = [key for key, _ in tree["dict"]]
        if not isinstance(value, Mapping) or set(value) != set(keys):
            raise _shape(where, f"a dict with the keys {', '.join(map(str, keys))}", value)
        for key, inner in tree["dict"]:
            self.take(inner, value[key], f"{where}[{key!r}]")

    def record(self, tree: Tree, value: Any, where: str) -> None:
        for name, inner in tree["fields"]:
            item = value.get(name, _MISSING) if isinstance(value, Mapping) else _MISSING
            item = getattr(value, name, _MISSING) if item is _MISSING else item
            if item is _MISSING:
                raise _shape(where, f"a {tree['record']} with the field {name}", value)
            self.take(inner, item, f"{where}.{name}")


_WALK: dict[str, Callable[[_Binder, Tree, Any, str], None]] = {
    "tuple": _Binder.sequence,
    "list": _Binder.sequence,
    "dict": _Binder.mapping,
    "record": _Binder.record,
}


def _check_const(expected: Any, value: Any, where: str) -> None:
    same = type(expected) is type(value) and (expected == value or expected != expected)
    if not same:
        raise InputError(
            f"{where}: captured with {expected!r}, got {_describe(value)}; capture again with it",
            where,
        )


def _shape(where: str, expected: str, value: Any) -> InputError:
    return InputError(f"{where}: expected {expected}, got {_describe(value)}", where)


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(map(str, value))}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    if hasattr(value, "shape"):
        return f"a tensor of shape {list(value.shape)}"
    return repr(value)[:80]
