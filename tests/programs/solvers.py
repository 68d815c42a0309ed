"""Adaptive ODE solvers and Tree-LSTMs, written in several styles."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tests.programs.routing import limits

PROGRAMS: dict[str, Any] = {}


def program(make: Any) -> Any:
    """``make() -> (callable, [arguments of a call, ...])``"""
    PROGRAMS[make.__name__] = make
    return make


class Field(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 3))

    def forward(self, t, y):
        return self.net(y) * torch.cos(t) - 0.3 * y


@program
def ode_bogacki():
    """Bogacki-Shampine 3(2) with steps that are taken or not; a dict of counters."""
    f = Field(0)

    def solve(y, end, tol):
        t, h = torch.zeros(()), torch.tensor(0.3)
        k1 = f(t, y)
        counts = {"taken": 0, "refused": 0}
        while t < end:
            h = torch.minimum(h, end - t)
            k2 = f(t + h / 2, y + h * k1 / 2)
            k3 = f(t + 0.75 * h, y + 0.75 * h * k2)
            new = y + h * (2 * k1 + 3 * k2 + 4 * k3) / 9
            k4 = f(t + h, new)
            error = (h * (-5 * k1 / 72 + k2 / 12 + k3 / 9 - k4 / 8)).norm()
            if error <= tol:
                t, y, k1 = t + h, new, k4
                counts["taken"] += 1
            else:
                counts["refused"] += 1
            factor = 0.9 * (tol / error.clamp_min(1e-12)) ** (1 / 3)
            h = h * factor.clamp(0.2, 5.0)
            if counts["taken"] + counts["refused"] >= 60:
                raise RuntimeError("too many steps")
        return y, counts

    g = torch.Generator().manual_seed(14)
    ends = limits(1.0, 0.5, 2.0, 1.5)
    return solve, [(torch.randn(n, 3, generator=g), e, 1e-3) for n, e in zip((1, 2, 3, 1), ends)]


@program
def ode_dense_recursive():
    """Step doubling by recursion: a half is divided again where it is not exact enough."""
    f = Field(1)

    @dataclass
    class Path:
        times: list = field(default_factory=list)
        values: list = field(default_factory=list)

        def add(self, t, y):
            self.times.append(t)
            self.values.append(y)

    def rk4(t, y, h):
        a = f(t, y)
        b = f(t + h / 2, y + h / 2 * a)
        c = f(t + h / 2, y + h / 2 * b)
        d = f(t + h, y + h * c)
        return y + h / 6 * (a + 2 * b + 2 * c + d)

    def advance(t, y, h, tol, depth):
        whole = rk4(t, y, h)
        half = rk4(t + h / 2, rk4(t, y, h / 2), h / 2)
        if depth == 0 or (whole - half).abs().max() < tol:
            return half
        y = advance(t, y, h / 2, tol, depth - 1)
        return advance(t + h / 2, y, h / 2, tol, depth - 1)

    def solve(y, times, tol):
        path = Path()
        path.add(times[0], y)
        for a, b in itertools.pairwise(times):
            y = advance(a, y, b - a, tol, 3)
            path.add(b, y)
        return torch.stack(path.values), torch.stack(path.times)

    g = torch.Generator().manual_seed(15)
    tols = limits(1e-4, 1e-6, 1e-2, 1e-5)
    return solve, [
        (torch.randn(1, 3, generator=g) * 2, torch.linspace(0, 3, n), v)
        for n, v in zip((3, 4, 3, 6), tols)
    ]


@program
def ode_object():
    """A solver object with attributes that its methods change; interpolation to wanted times."""

    class Solver:
        def __init__(self, f, y):
            self.f, self.t, self.y = f, torch.zeros(()), y
            self.h, self.last = torch.tensor(0.5), None

        def attempt(self):
            a = self.f(self.t, self.y)
            b = self.f(self.t + self.h, self.y + self.h * a)
            low, high = self.y + self.h * a, self.y + self.h * (a + b) / 2
            return high, (low - high).abs().max() / 0.01

        def step(self):
            while True:
                y, error = self.attempt()
                if error < 1:
                    self.last = (self.t, self.y)
                    self.t, self.y = self.t + self.h, y
                    if error < 0.1:
                        self.h = self.h * 1.5
                    return
                self.h = self.h / 2

        def at(self, t):
            if self.last is None:
                return self.y
            t0, y0 = self.last
            w = (t - t0) / (self.t - t0)
            return y0 + w * (self.y - y0)

    f = Field(2)

    def solve(y, times):
        solver, rows = Solver(f, y), []
        for t in times:
            while solver.t < t:
                solver.step()
            rows.append(solver.at(t))
        return torch.stack(rows), solver.t

    g = torch.Generator().manual_seed(16)
    return solve, [
        (torch.randn(2, 3, generator=g), torch.rand(n, generator=g).sort()[0] * 2)
        for n in (3, 4, 2, 6)
    ]


def trees(n, g):
    """Children of n leaves and n - 1 inner nodes, as rows (left, right), -1 for none; the root is last."""
    left, right, open_ = [-1] * n, [-1] * n, list(range(n))
    for k in range(n - 1):
        i = int(torch.randint(0, len(open_) - 1, (), generator=g))
        left.append(open_[i]), right.append(open_[i + 1])
        open_[i : i + 2] = [n + k]
    return torch.tensor([left, right]).T.contiguous()


class TreeCell(nn.Module):
    def __init__(self, seed, dim=8):
        super().__init__()
        torch.manual_seed(seed)
        self.leaf, self.gates, self.dim = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, 5 * dim), dim

    def on_leaf(self, x):
        c, o = self.leaf(x).chunk(2, -1)
        c = torch.tanh(c)
        return torch.sigmoid(o) * torch.tanh(c), c

    def on_pair(self, a, b):
        i, f, g, o, u = self.gates(torch.cat([a[0], b[0]], -1)).chunk(5, -1)
        c = torch.sigmoid(i) * torch.tanh(u) + torch.sigmoid(f) * a[1] + torch.sigmoid(g) * b[1]
        return torch.sigmoid(o) * torch.tanh(c), c


@program
def tree_recursive():
    """Recursion from the root on indices."""

    class Tree(TreeCell):
        def node(self, i, children, words):
            if children[i, 0] < 0:
                return self.on_leaf(words[i])
            a = self.node(children[i, 0], children, words)
            b = self.node(children[i, 1], children, words)
            return self.on_pair(a, b)

        def forward(self, children, words):
            h, c = self.node(torch.tensor(children.shape[0] - 1), children, words)
            return h + 0 * c

    g = torch.Generator().manual_seed(17)
    return Tree(0).eval(), [(trees(n, g), torch.randn(n, 8, generator=g)) for n in (3, 4, 2, 6, 1)]


@program
def tree_bottom_up():
    """Bottom up in index order: lists of states, of run-time length."""
    cell = TreeCell(1).eval()

    def run(children, words):
        states = []
        leaf = 0
        for i, j in children.tolist():
            if i < 0:
                states.append(cell.on_leaf(words[leaf]))
                leaf += 1
            else:
                states.append(cell.on_pair(states[i], states[j]))
        return states[-1][0], torch.stack([h for h, _ in states])

    g = torch.Generator().manual_seed(18)
    return run, [(trees(n, g), torch.randn(n, 8, generator=g)) for n in (3, 4, 2, 7)]


@program
def tree_shift_reduce():
    """Shift and reduce with a stack, as SPINN does; a deque of words."""
    cell = TreeCell(2).eval()

    @dataclass(slots=True)
    class Node:
        h: torch.Tensor
        c: torch.Tensor

    def run(words, actions):
        buffer = deque(words.unbind(0))
        stack = []
        for action in actions:
            if action == 0:
                stack.append(Node(*cell.on_leaf(buffer.popleft())))
            else:
                b, a = stack.pop(), stack.pop()
                stack.append(Node(*cell.on_pair((a.h, a.c), (b.h, b.c))))
        return stack[-1].h, len(stack)

    def actions(n, g):
        out, shifted, height = [], 0, 0
        while shifted < n or height > 1:
            can_shift, can_reduce = shifted < n, height > 1
            go = can_shift and (not can_reduce or bool(torch.rand((), generator=g) < 0.5))
            out.append(0 if go else 1)
            shifted, height = (shifted + 1, height + 1) if go else (shifted, height - 1)
        return torch.tensor(out)

    g = torch.Generator().manual_seed(19)
    return run, [(torch.randn(n, 8, generator=g), actions(n, g)) for n in (3, 4, 2, 6)]


@program
def tree_levels():
    """Level by level: all nodes whose children are known, until none is left; buffers."""
    cell = TreeCell(3).eval()

    def run(children, words):
        n = children.shape[0]
        h, c = torch.zeros(n, 8), torch.zeros(n, 8)
        is_leaf = children[:, 0] < 0
        h[is_leaf], c[is_leaf] = cell.on_leaf(words)
        done = is_leaf.clone()
        rounds = 0
        while not done.all():
            ready = ~done & done[children[:, 0].clamp(min=0)] & done[children[:, 1].clamp(min=0)]
            i, j = children[ready].unbind(1)
            h[ready], c[ready] = cell.on_pair((h[i], c[i]), (h[j], c[j]))
            done = done | ready
            rounds += 1
        return h[-1], rounds

    g = torch.Generator().manual_seed(20)
    return run, [(trees(n, g), torch.randn(n, 8, generator=g)) for n in (3, 4, 2, 7)]
