"""Texts with values of a run in them: as Python and PyTorch print numbers and tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import Formatter
from typing import Any

import numpy as np

PRECISION, WIDTH, EDGE, MANY = 4, 80, 3, 1000  # as torch.set_printoptions has them by default
_PLAIN = ("float32", "int64", "bool")


def escaped(text: str) -> str:
    """A literal part of a message."""
    return text.replace("{", "{{").replace("}", "}}")


def field(index: int, conversion: str = "", spec: str = "") -> str:
    """A value of a message; conversion ``t``: a tensor as ``str`` shows it."""
    return f"{{{index}{conversion and '!' + conversion}{spec and ':' + spec}}}"


def filled(message: str, values: Sequence[Any]) -> str:
    """``message`` with its values."""
    if not values:
        return message
    found = []
    for literal, name, spec, conversion in Formatter().parse(message):
        found.append(literal)
        if name is not None:
            found.append(shown(np.asarray(values[int(name)]), conversion, spec or ""))
    return "".join(found)


def shown(x: np.ndarray, conversion: str | None, spec: str) -> str:
    """One value: tensors of one number are formatted as that number, but where ``str`` is asked."""
    if conversion == "t" or x.ndim:
        return format(tensor_text(x), spec)
    value = x.item()
    return format({"r": repr, "s": str}.get(conversion or "", lambda v: v)(value), spec)


def tensor_text(x: np.ndarray) -> str:
    """A tensor as ``repr`` gives it."""
    suffix = "" if x.dtype.name in _PLAIN and x.size else f", dtype=torch.{x.dtype.name}"
    if not x.size:
        suffix = "" if x.dtype.name == "float32" else suffix
        size = f", size=({', '.join(map(str, x.shape))})" if x.ndim != 1 else ""
        return f"tensor([]{size}{suffix})"
    show = _Numbers(x if x.size <= MANY else _edges(x))
    text = _nested(x, show, len("tensor("), x.size > MANY)
    text = "tensor(" + text
    if suffix and len(text) - text.rfind("\n") + 1 + len(suffix) > WIDTH:
        suffix = ",\n       " + suffix[2:]
    return f"{text}{suffix})"


def _edges(x: np.ndarray) -> np.ndarray:
    """What is printed of a large tensor."""
    for axis, n in enumerate(x.shape):
        if n > 2 * EDGE:
            ends = [*range(EDGE), *range(n - EDGE, n)]
            x = np.take(x, ends, axis)
    return x


class _Numbers:
    """How the numbers of a tensor are printed, in one width."""

    def __init__(self, x: np.ndarray) -> None:
        self.is_float = x.dtype.kind == "f"
        self.kind = "whole" if self.is_float else "plain"
        if not self.is_float:
            self.width = max((len(str(v)) for v in x.ravel().tolist()), default=1)
            return
        values = x[np.isfinite(x) & (x != 0)].astype(np.float64)
        self.width = 1
        if not values.size:
            return
        size = np.abs(values)
        is_wide = size.max() / size.min() > 1000 or size.max() > 1e8
        if not (values == np.ceil(values)).all():
            self.kind = "parts"
            is_wide = is_wide or size.min() < 1e-4
        self.kind = "powers" if is_wide else self.kind
        extra = 1 if self.kind == "whole" else 0
        self.width = max(len(self.one(v).rstrip(".")) + extra for v in values.tolist())

    def one(self, value: Any) -> str:
        if self.kind == "plain":
            return str(value)
        if self.kind == "powers":
            return f"{value:.{PRECISION}e}"
        if self.kind == "parts":
            return f"{value:.{PRECISION}f}"
        return f"{value:.0f}" + ("." if math.isfinite(value) else "")

    def __call__(self, value: Any) -> str:
        return self.one(value).rjust(self.width)


def _nested(x: np.ndarray, show: _Numbers, indent: int, is_cut: bool) -> str:
    if not x.ndim:
        return show(x.item())
    n = len(x)
    cut = is_cut and n > 2 * EDGE
    rows = [*x[:EDGE], *x[n - EDGE :]] if cut else list(x)
    if x.ndim == 1:
        items = [show(v.item()) for v in rows]
        items = [*items[:EDGE], " ...", *items[EDGE:]] if cut else items
        per_line = max(1, (WIDTH - indent) // (show.width + 2))
        lines = [items[i : i + per_line] for i in range(0, len(items), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(map(", ".join, lines)) + "]"
    texts = [_nested(row, show, indent + 1, is_cut) for row in rows]
    texts = [*texts[:EDGE], "...", *texts[EDGE:]] if cut else texts
    return "[" + ("," + "\n" * (x.ndim - 1) + " " * (indent + 1)).join(texts) + "]"
