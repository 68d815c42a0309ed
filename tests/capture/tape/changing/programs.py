"""Programs as text: a kind of state in a position, which says who changes it, and when."""

from __future__ import annotations

import re
from textwrap import indent

from tests.capture.tape.changing.kinds import KINDS

HEAD = """
import contextlib, contextvars, functools, math, os, random, time, types, copy, collections
import dataclasses, operator
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
"""

POSITIONS = {
    "between": """
def f(x):
    return {read}
def run(static):
    s = static(f)
    yield s(X), s(-X)
    for change in CHANGES:
        change()
        yield s(X), s(-X)
    CHANGES[0]()
    yield s(X), s(-X)
""",
    "inside": """
def f(x):
    found = [{read}]
{inlined}
    return found
def run(static):
    s = static(f)
    yield s(X)
    yield s(-X)
    yield s(X)
""",
    "on data": """
def f(x):
    first = {read}
    if x.sum() > 0:
{c0}
    else:
{c1}
    return first, {read}
def run(static):
    s = static(f)
    yield s(X)
    yield s(-X)
    yield s(-X)
    yield s(X)
    CHANGES[-1]()
    yield s(-X)
    yield s(X)
""",
    "by a call": """
def f(x):
    first = {read}
    change0()
    return first, {read}
def run(static):
    s = static(f)
    yield s(X)
    yield s(-X)
    CHANGES[-1]()
    yield s(X)
    yield s(X)
""",
    "by a call on data": """
def f(x):
    if x.sum() > 0:
        change0()
    return {read}
def run(static):
    s = static(f)
    yield s(-X)
    yield s(X)
    CHANGES[-1]()
    yield s(-X)
    yield s(X)
    yield s(-X)
""",
    "in a loop on data": """
def f(x):
    y, n = {read}, 0
    y = y if isinstance(y, torch.Tensor) else y[0]
    while x.abs().sum() > 8:
        x = x / 2
        change0()
        n += 1
    return y, {read}, n
def run(static):
    s = static(f)
    yield s(X)
    yield s(X * 5)
    CHANGES[-1]()
    yield s(X)
    yield s(X * 9)
""",
}

_GLOBALS = re.compile(r"global (\w+); ?")


def text_of(name: str, position: str) -> str:
    """The program, whose ``run(static)`` yields what calls of ``static(f)`` give."""
    setup, read, changes = KINDS[name]
    known = sorted({found for change in changes for found in _GLOBALS.findall(change)})
    bodies = [_GLOBALS.sub("", change) for change in changes]
    names = f"    global {', '.join(known)}\n" if known else ""
    functions = [
        f"def change{i}():\n{names}{indent(body, '    ')}\n" for i, body in enumerate(bodies)
    ]
    inner = "\n".join(f"{indent(b, '    ')}\n    found.append(({read}))" for b in bodies)
    first, second = (indent(bodies[i % len(bodies)], " " * 8) for i in (0, 1))
    body = POSITIONS[position].format(read=read, inlined=inner, c0=first, c1=second)
    if position in ("inside", "on data"):
        body = body.replace("def f(x):\n", f"def f(x):\n{names}", 1)
    table = f"CHANGES = [{', '.join(f'change{i}' for i in range(len(changes)))}]"
    x = "X = torch.tensor([1.5, 2.0, -0.5])"
    return "\n".join([HEAD, setup, *functions, table, x, body])
