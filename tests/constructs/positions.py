"""Every construct in every position: programs as text, made from two tables.

A construct is statements over ``v``, ``w`` and ``y`` (rows of four), ``items`` (a list), ``table`` (a
dict) and ``self`` that change ``y`` and, some, the others.  A position is a function body with a
place for them.  ``v[0]`` decides in positions, ``v[1]`` and later in constructs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import dedent, indent
from typing import Any

import torch

from tests.constructs.case import Case, module_of

HEAD = """
import contextlib
import torch
from torch import nn
import torch.nn.functional as F

COUNT = 0
LOG = []

class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.count = 0
        self.last = torch.zeros(4)
        self.register_buffer("total", torch.zeros(()))
        self.seen = []
"""
MODULE = """
class Net(Holder):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.7, -1.1, 0.4, 0.9]))
        <make>

    def forward(self, xs):
        w, items, table = self.w, [], {"last": self.w}
        v, y = xs[0], xs[0] * w
        <body>
        return <result>
"""
FUNCTION = """
def program(xs, w):
    items, table = [], {"last": w}
    v, y = xs[0], xs[0] * w
    <body>
    return <result>
"""
PART = """
class Part(Holder):
    def forward(self, v, y, items, table, w):
        <part>
"""


@dataclass(frozen=True)
class Construct:
    """Args: uses: results beside ``y``; value: an expression that gives a new ``y``; needs: what
    the position must offer.
    """

    text: str
    uses: tuple[str, ...]
    value: str
    needs: frozenset[str]


@dataclass(frozen=True)
class Position:
    """Args: outside: definitions before the program; part: the body of ``self.part``; value: the
    body where the construct is an expression; offers: what constructs may need.
    """

    body: str
    outside: str
    part: str
    value: str
    frame: str
    offers: frozenset[str]


CONSTRUCTS: dict[str, Construct] = {}
POSITIONS: dict[str, Position] = {}


def construct(name: str, text: str, *uses: str, value: str = "", needs: str = "") -> None:
    needed = {"self"} if "self" in text else set()
    CONSTRUCTS[name] = Construct(
        dedent(text).strip(), uses, value, frozenset(needed | {needs} - {""})
    )


def position(
    name: str,
    body: str,
    outside: str = "",
    part: str = "",
    value: str = "",
    frame: str = MODULE,
    loop: bool = False,
) -> None:
    offers = {"loop"} if loop else set()
    offers |= {"self"} if frame is MODULE else set()
    POSITIONS[name] = Position(
        dedent(body).strip(), dedent(outside), part, value, frame, frozenset(offers)
    )


# ---- constructs

construct(
    "assign_in_if",
    """
    k = y - w
    if v[1] > 0:
        k = y * v
        m = k + 1
    else:
        m = v
    y = k + m
    """,
)
construct(
    "elif_chain",
    """
    if v[1] > 1:
        y = y * v
    elif v[1] > 0:
        y = y + w
    elif v[2] > 0:
        pass
    else:
        y = y - v
    """,
)
construct(
    "early_return",
    """
    if v[1] > 0:
        return <returns>
    y = y + v
    """,
)
construct(
    "early_returns_in_loop",
    """
    for k in range(3):
        if y[k] > 0.3:
            y = y * w
            return <returns>
        y = y + v
    """,
)
construct(
    "break_",
    """
    for k in range(4):
        if y[k] > 0.2:
            break
        y = y + v * w
    """,
)
construct(
    "continue_",
    """
    for k in range(3):
        if y[k] > 0:
            continue
        y = y + v * w + k
    """,
)
construct(
    "break_while",
    """
    steps = 0
    while True:
        if y.sum() > 2 or steps == 3:
            break
        y, steps = y + v.abs(), steps + 1
    y = y * steps
    """,
)
construct(
    "loop_else",
    """
    for e in v:
        if e > 1:
            y = y * e
            break
    else:
        y = y - w
    """,
)
construct(
    "break_outer",
    """
    if v[1] > 0.6:
        y = y + w
        break
    y = y - v
    """,
    needs="loop",
)
construct(
    "continue_outer",
    """
    if v[1] > 0.6:
        y = y + w
        continue
    y = y - v
    """,
    needs="loop",
)
construct(
    "while_on_data",
    """
    while y.abs().sum() < 3:
        y = y * 1.5 + v.abs() * w.abs() + 0.1
    """,
)
construct(
    "for_tensor",
    """
    for e in v:
        y = y * e + w
    """,
)
construct(
    "for_range_of_data",
    """
    for k in range(int(v[1].abs() * 2)):
        y = y + w * k
        y[k] = v[k]
    """,
)
construct("list_append", "items.append(y * v)", "items")
construct(
    "list_append_in_if",
    """
    if v[1] > 0:
        items.append(y * v)
        y = y + items[0]
    y = y + len(items)
    """,
    "items",
)
construct(
    "list_pop_and_stack",
    """
    parts = [v, y]
    if v[1] > 0:
        parts.append(w)
        parts[0] = y
    last = parts.pop()
    y = torch.stack(parts).sum(0) * last
    """,
)
construct(
    "dict_set",
    """
    table["last"] = y * v
    y = y + table["last"]
    """,
    "table",
)
construct(
    "dict_set_in_if",
    """
    if v[1] > 0:
        table["last"] = y * v
    y = y + table["last"]
    """,
    "table",
)
construct(
    "dict_new_key",
    """
    found = {}
    if v[1] > 0:
        found["a"] = v * w
    y = y + found.get("a", v)
    """,
)
construct(
    "dict_literal",
    """
    found = {"a": v, "b": w} if v[1] > 0 else {"a": w, "b": y}
    for key, value in found.items():
        y = y + value * len(key)
    """,
)
construct(
    "attribute_set",
    """
    self.last = y.detach() * 2
    y = y + self.last
    """,
)
construct(
    "attribute_set_in_if",
    """
    if v[1] > 0:
        self.last = y.detach() * 2
    y = y + self.last
    """,
)
construct(
    "attribute_augmented",
    """
    self.total += v.detach().sum()
    y = y * self.total.clone()
    """,
)
construct(
    "counter_attribute",
    """
    if v[1] > 0:
        self.count += 1
    y = y + self.count
    """,
)
construct(
    "attribute_list",
    """
    self.seen.append(v.detach())
    y = y + self.seen[-1]
    if len(self.seen) > 2:
        self.seen.pop(0)
    """,
)
construct(
    "in_place",
    """
    y = y + 0
    y.mul_(2)
    y += v
    if v[1] > 0:
        y.sub_(w)
    """,
)
construct(
    "in_place_on_old",
    """
    y.add_(v)
    """,
)
construct(
    "slice_assigned",
    """
    y = y + 0
    y[1:3] = v[:2] * w[0]
    if v[1] > 0:
        y[0] = 1
    """,
)
construct(
    "mask_assigned",
    """
    y = y.clone()
    y[v > 0] = 0.5
    y[y < -1] *= 2
    """,
)
construct(
    "and_or_not",
    """
    if (v[1] > 0 and not v[2] > 0) or v[3] > 1:
        y = y * w
    else:
        y = y + v
    """,
)
construct(
    "and_value", "y = y + (v[1] > 0 and v[2] or w[0])", value="y + (v[1] > 0 and v[2] or w[0])"
)
construct("ternary", "y = y * w if v[1] > 0 else y - v", value="y * w if v[1] > 0 else y - v")
construct(
    "chained_comparison",
    """
    if 0 < v[1] < 1 != v[2]:
        y = y * w
    """,
    value="y * w if 0 < v[1] < 1 else y",
)
construct(
    "comprehension",
    """
    kept = [e * w for e in v if e > 0]
    y = y + sum(kept, torch.zeros(4)) * len(kept)
    """,
    value="y + sum([e * w for e in v if e > 0], torch.zeros(4))",
)
construct(
    "dict_comprehension",
    """
    found = {k: e * w for k, e in enumerate(v)}
    if v[1] > 0:
        y = y + found[2]
    """,
)
construct(
    "try_except",
    """
    try:
        if v[1] > 0:
            raise ValueError("positive")
        y = y + v
    except ValueError as error:
        y = y - w * len(str(error))
    else:
        y = y * 2
    finally:
        y = y + 1
    """,
)
construct(
    "raise_",
    """
    if v[1] > 1.5:
        raise ValueError(f"too large: {v[1].item():.2f}")
    y = y + v
    """,
)
construct("assert_", "assert v[1] < 1.5, 'too large'\ny = y + v")
construct(
    "no_grad",
    """
    with torch.no_grad():
        s = v * w
        if v[1] > 0:
            s = s + 1
    y = y + s * v
    """,
)
construct(
    "nonlocal_",
    """
    z = y
    def bump(e):
        nonlocal z
        if e > 0:
            z = z + e * w
    bump(v[1])
    bump(v[2])
    y = z
    """,
)
construct(
    "nested_function",
    """
    def pick(a, b=w, *, scale=2):
        if a.sum() > 0:
            return a * scale
        return b
    y = pick(v) + pick(y, v, scale=3)
    """,
)
construct(
    "lambda_",
    """
    f = lambda e: e * w if e.sum() > 0 else e - w
    y = y + f(v)
    """,
    value="(lambda e: e * w if e.sum() > 0 else e - w)(v) + y",
)
construct(
    "lambda_chosen",
    """
    f = torch.sin if v[1] > 0 else (lambda e: e * w)
    y = f(y)
    """,
)
construct(
    "generator_function",
    """
    def parts():
        for e in v:
            if e > 0:
                yield e * w
    for p in parts():
        y = y + p
    """,
)
construct(
    "generator_expression",
    "y = y + sum(e * w for e in v if e > 0)",
    value="y + sum(e * w for e in v if e > 0)",
)
construct(
    "star_unpacking",
    """
    first, *rest = (v, w, y) if v[1] > 0 else (w, v, v)
    y = torch.stack([first, *rest]).sum(0)
    a, *others = y
    y = y * a + len(others)
    """,
)
construct(
    "walrus",
    """
    if (s := v[1:].sum()) > 0:
        y = y + s
    while (q := y.abs().sum()) < 2:
        y = y + w.abs()
    y = y * q
    """,
    value="y + s if (s := v[1:].sum()) > 0 else y * w",
)
construct(
    "match_",
    """
    match int(v[1]):
        case 0:
            y = y + v
        case 1 | 2:
            y = y * w
        case _:
            y = y - 1
    """,
)
construct(
    "match_text",
    """
    kind = "up" if v[1] > 0 else "down"
    match kind:
        case "up":
            y = y + v
        case other:
            y = y * len(other)
    """,
)
construct("text", "items.append(f'{v[1].item():.2f} {len(items)}')", "items")
construct(
    "text_chosen",
    """
    name = "up" if v[1] > 0 else "down"
    items.append("is %s" % name)
    y = y * len(name)
    """,
    "items",
)
construct(
    "print_",
    """
    print("v", round(v[1].item(), 3))
    if v[1] > 0:
        print("up", y.shape)
    """,
)
construct(
    "del_",
    """
    k = y * 2
    if v[1] > 0:
        del k
        k = v
    y = y + k
    del k
    """,
)
construct(
    "del_item",
    """
    parts = [v, w, y]
    if v[1] > 0:
        del parts[1]
    y = y + parts[1]
    """,
)
construct(
    "global_counter",
    """
    global COUNT
    if v[1] > 0:
        COUNT += 1
    y = y + COUNT
    """,
)
construct(
    "global_list",
    """
    if v[1] > 0:
        LOG.append(y.detach())
    y = y + len(LOG)
    """,
)
construct(
    "optional",
    """
    extra = None
    if v[1] > 0:
        extra = v * w
    if extra is not None:
        y = y + extra
    """,
)
construct(
    "optional_result",
    """
    extra = None if v[1] > 0 else y
    items.append(extra)
    """,
    "items",
)
construct(
    "tuple_swap",
    """
    a, b = y, v * w
    if v[1] > 0:
        a, b = b, a
    y = a * 2 - b
    """,
)
construct(
    "tuple_chosen",
    """
    pair = (y, 1) if v[1] > 0 else (v, 2)
    y = pair[0] * pair[1]
    """,
)
construct("random_draw", "y = y + torch.rand(4) * w", value="y + torch.rand(4) * w")
construct(
    "random_draw_in_if",
    """
    if v[1] > 0:
        y = F.dropout(y, 0.5, True)
    y = y * torch.rand(())
    """,
)
construct(
    "number_from_data",
    """
    n = int(v[1].abs() * 2)
    s = v[1].item()
    y = y * s + n
    if n > 1 and s > 0:
        y = y - n
    """,
)
construct(
    "size_from_data",
    """
    kept = v[v > 0]
    if kept.numel() > 1:
        y = y + kept.mean()
    y = y + torch.ones(len(kept)).sum()
    """,
)
construct(
    "truth",
    """
    flag = bool(v[1] > 0)
    if flag:
        y = y + v
    if not flag and any(e > 1 for e in v):
        y = y * w
    """,
)
construct(
    "max_of_numbers",
    """
    k = max(int(v[1]), 0) + min(1, int(v[3].abs()))
    y = y * abs(k - 1)
    """,
)
construct(
    "nested_loops",
    """
    for k in range(2):
        for e in v[:2]:
            if e > 0:
                y = y + e * k
    """,
)

# ---- positions

position("top", "<code>", value="y = <value>")
position("function", "<code>", frame=FUNCTION, value="y = <value>")
position(
    "then",
    """
    if v[0] > 0:
        <code>
    else:
        y = y - 1
    """,
)
position(
    "orelse",
    """
    if v[0] > 0:
        y = y * 3
    elif v[0] < -0.6:
        y = y * 4
    else:
        <code>
    y = y + 1
    """,
)
position(
    "while_loop",
    """
    n = xs[2, 3].abs()
    while n > 0.5:
        n = n - 1
        v = xs[1] + n
        <code>
    """,
    loop=True,
)
position(
    "for_tensor",
    """
    for v in xs:
        <code>
    y = y * 2
    """,
    loop=True,
)
position(
    "for_list",
    """
    for v in [xs[0], xs[1] * w]:
        y = y * 2
        <code>
    """,
    loop=True,
)
position(
    "after_return",
    """
    if v[0] > 0:
        return <returns>
    <code>
    """,
)
position(
    "called_function",
    "y = inner(self, v, y, items, table, w) + w",
    outside="def inner(self, v, y, items, table, w):\n    <code>\n    return y\n",
)
position(
    "called_in_branch",
    """
    if v[0] > 0:
        y = inner(self, v, y, items, table, w) + w
    """,
    outside="def inner(self, v, y, items, table, w):\n    <code>\n    return y\n",
)
position(
    "method",
    "y = self.part.step(self, v, y, items, table, w) + w",
    outside="class Part:\n    def step(me, self, v, y, items, table, w):\n        <code>\n"
    "        return y\n",
)
position(
    "submodule",
    "y = self.part(v, y, items, table, w) + w",
    part="<code>\nreturn y",
)
position(
    "closure",
    """
    def inner(v):
        nonlocal y
        <code>
        return y
    y = inner(v) + inner(xs[1])
    """,
)
position(
    "comprehension",
    """
    def inner(v, y):
        <code>
        return y
    y = sum([inner(v, y) for v in xs])
    """,
    value="y = sum([<value> for v in xs])",
)
position(
    "lambda_",
    """
    def inner(v, y):
        <code>
        return y
    f = lambda v: inner(v, y)
    y = f(v) if v[0] > 0 else f(xs[1])
    """,
    value="f = lambda v: <value>\ny = f(v) if v[0] > 0 else f(xs[1])",
)
position(
    "try_block",
    """
    try:
        if v[1] > 2.5:
            raise ValueError("far")
        <code>
    except (ValueError, AssertionError):
        y = y * 5
    """,
)
position(
    "finally_block",
    """
    try:
        if v[0] > 0:
            raise KeyError("k")
        y = y * 3
    except KeyError:
        y = y * 5
    finally:
        <code>
    """,
)
position(
    "with_block",
    """
    with torch.enable_grad(), contextlib.nullcontext():
        <code>
    y = y + 1
    """,
)
position(
    "with_own",
    """
    with Noting(items):
        <code>
    y = y + len(items)
    """,
    outside="""
class Noting:
    def __init__(self, items):
        self.items = items
    def __enter__(self):
        return self
    def __exit__(self, *error):
        self.items.append(1)
""",
)
position(
    "after_break",
    """
    for k in range(3):
        if xs[1, k] > 0.5:
            break
        y = y + xs[k]
    <code>
    """,
)
position(
    "if_in_loop",
    """
    for v in xs:
        if v[0] > 0:
            y = y + 1
            <code>
        else:
            y = y * w
    """,
    loop=True,
)
position(
    "loop_in_if",
    """
    if v[0] > 0:
        for place, v in enumerate(xs):
            <code>
            y = y + place
    """,
    loop=True,
)
position(
    "if_in_if",
    """
    if v[0] > 0:
        if xs[1, 0] > 0:
            <code>
        y = y + w
    """,
)
position(
    "while_in_for",
    """
    for v in xs:
        s = v[0]
        while s > 0:
            s = s - 1
            <code>
        y = y + s
    """,
    loop=True,
)

ROWS = (
    ((0.5, 0.7, -0.4, 0.3), (-0.6, 0.7, 0.2, -0.5), (0.8, -0.3, 0.6, 1.4)),
    ((-0.5, 0.6, 0.4, 1.3), (0.4, -0.7, 0.3, 0.5), (-0.8, 0.3, 0.6, 0.1)),
    ((0.6, -0.8, -0.2, 0.2), (0.7, 0.9, 0.1, 0.4), (0.3, 0.2, -0.7, 2.4)),
    ((-0.7, -1.2, 0.9, -0.3), (-0.2, -0.4, 0.8, 0.6), (1.2, -0.1, 0.4, 1.1)),
    ((0.9, 1.8, 0.3, 0.1), (0.2, 0.5, -0.6, 0.7), (0.3, 1.1, 0.7, 0.2)),
    ((-0.4, 2.6, -0.5, 0.8), (-0.3, 1.9, 0.4, -0.2), (0.6, -0.9, 0.5, 0.9)),
    ((0.2, -0.2, 0.1, 1.6), (0.6, 1.2, 0.2, 0.3), (0.5, 1.7, -0.2, 0.8)),
    ((0.1, -2.3, -0.7, 0.4), (0.8, -0.6, -0.1, 0.2), (-0.3, 0.4, 0.3, 1.9)),
    ((-0.1, -0.6, 0.2, 0.6), (0.3, 0.2, -0.9, 0.8), (0.4, 0.6, 0.1, 0.3)),
    ((0.1, -0.1, 0.2, 0.1), (0.1, 0.1, -0.1, 0.1), (0.1, 0.2, 0.1, 0.9)),
)


def names() -> list[str]:
    """``position.construct`` for all that Python allows; ``position.construct=`` for expressions."""
    found = []
    for p, place in POSITIONS.items():
        for c, code in CONSTRUCTS.items():
            if code.needs <= place.offers:
                found += [f"{p}.{c}"] + [f"{p}.{c}="] * bool(place.value and code.value)
    return found


def text_of(name: str) -> str:
    """The program ``position.construct``."""
    place, _, kind = name.partition(".")
    where, what = POSITIONS[place], CONSTRUCTS[kind.rstrip("=")]
    result = ", ".join(("y", *what.uses))
    if kind.endswith("="):
        body = where.value.replace("<value>", f"({what.value})")
    else:
        body = where.body
    own = "def inner" not in body
    code = what.text.replace("<returns>", result if own and "<code>" in body else "y")
    texts = {"code": code, "result": result, "returns": result}
    body = filled(body, texts)
    part = filled(PART, {"part": filled(where.part, texts)}) if where.part else ""
    outside = filled(where.outside, texts)
    texts["make"] = "self.part = Part()" if "class Part" in part + outside else "self.part = None"
    return "\n\n".join([HEAD, part, outside, filled(where.frame, {**texts, "body": body})])


def filled(text: str, values: dict[str, str]) -> str:
    """``text`` with each ``<name>`` replaced; one that has a line of its own gives the indentation."""

    def lines(found: re.Match[str]) -> str:
        return indent(values[found[2]], found[1])

    text = re.sub(
        r"^( *)<(\w+)>$", lambda m: lines(m) if m[2] in values else m[0], text, flags=re.M
    )
    return re.sub(r"<(\w+)>", lambda m: values.get(m[1], m[0]), text)


def program(name: str, backwards: bool = False) -> Case:
    """The case; its calls take every path, from the last to the first if ``backwards``."""
    place, _, kind = name.partition(".")
    module = module_of(f"positions/{place}/{kind}.py", text_of(name))
    rows = ROWS[::-1] if backwards else ROWS
    calls: list[Any] = [(torch.tensor(row),) for row in rows]
    made: Any = module.Net if "Net" in vars(module) else (lambda: module.program)
    if "Net" not in vars(module):
        calls = [(*call, torch.tensor([0.7, -1.1, 0.4, 0.9])) for call in calls]
    return Case(
        name,
        made,
        tuple(calls),
        module.__file__,
        module.CODES,
        shared=("COUNT", "LOG"),
        namespace=vars(module),
    )
