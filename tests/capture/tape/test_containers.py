"""Containers from outside that change between calls: each call sees what they hold then."""

import copy
from array import array
from collections import Counter, OrderedDict, defaultdict, deque

import pytest
import torch

from oarlock.capture.to_static import to_static

CONTAINERS = {
    "list": [1, 2],
    "dict": {1: 1, 2: 2},
    "set": {1, 2},
    "deque": deque([1, 2]),
    "ordered": OrderedDict({1: 1, 2: 2}),
    "default": defaultdict(int, {1: 1, 2: 2}),
    "counter": Counter({1: 1, 2: 2}),
    "array": array("i", [1, 2]),
}
QUESTIONS = {
    "len": lambda c: len(c),
    "truth": lambda c: 1 if c else 0,
    "list": lambda c: len(list(c)),
    "in": lambda c: 1 if 3 in c else 0,
    "sum": lambda c: sum(c),
    "copy": lambda c: len(c.copy()) if hasattr(c, "copy") else 0,
    "comprehension": lambda c: [x for x in c],  # noqa: C416
    "enumerate": lambda c: [i for i, _ in enumerate(c)],
    "starred": lambda c: [*c],
    "unpacked": lambda c: len({**c}) if isinstance(c, dict) else 0,
    "get": lambda c: c.get(3, 9) if isinstance(c, dict) else 0,
    "values": lambda c: sum(c.values()) if isinstance(c, dict) else 0,
    "text": lambda c: str(c),
    "item": lambda c: c[3] if isinstance(c, dict) and 3 in c else 0,
}


def add(items, value):
    if isinstance(items, dict):
        items[value] = value
    elif isinstance(items, set):
        items.add(value)
    else:
        items.append(value)


def answers(kind, question, is_static):
    held, ask = copy.deepcopy(CONTAINERS[kind]), QUESTIONS[question]

    def f(x):
        return x + 1, ask(held)

    run = to_static(f) if is_static else f
    found = []
    for value in (None, 3, 0):
        if value is not None:
            add(held, value)
        answer = run(torch.ones(2))[1]
        found.append(list(answer) if isinstance(answer, list) else answer)
    return found


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_call_sees_what_a_container_holds(kind, question):
    assert answers(kind, question, True) == answers(kind, question, False)
