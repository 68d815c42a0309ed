"""Less usual parts of the language: texts that grow, one of many objects, special methods, iterators."""

from enum import IntEnum

import torch

from tests.constructs.case import case, t

UP, DOWN, MIXED = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0), t(-1.0, 2.0, -3.0)
LONG = t(1.0, -1.0, 0.5, -2.0, 3.0)


@case(UP, MIXED, DOWN, LONG)
def text_grows_in_loop(x):
    name = "n"
    for v in x:
        name += "p" if v > 0 else "m"
    if name.endswith("p"):
        x = x + 1
    return x * name.count("p"), name.upper()


@case(UP, MIXED, DOWN, LONG)
def texts_joined(x):
    signs = []
    for v in x:
        signs.append("+" if v > 0 else "-" if v < -1 else "0")
    shown = ",".join(signs)
    if shown == "+,+,+":
        return x * 2
    return x * shown.count("-"), signs[0]


class Link:
    def __init__(self, weight, after=None):
        self.weight, self.after = weight, after


CHAIN = Link(1, Link(2, Link(3, Link(4))))


@case(t(1.0, 2.0), t(9.0, 12.0), t(-1.0, 0.5))
def walk_of_many_objects(x):
    at = CHAIN
    while x.sum() > 0:
        x = x - at.weight
        if at.after is not None:
            at = at.after
    return x


@case(t(1.0, 2.0), t(9.0, 12.0), t(-1.0, 0.5))
def three_texts_in_list(x):
    mode, seen = "a", []
    while x.sum() > 0:
        mode = "b" if mode == "a" else "c" if mode == "b" else "a"
        seen.append(mode)
        x = x - 1
    return seen, mode


class Stack:
    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        if not self.items:
            raise IndexError("empty")
        return self.items.pop()

    def __len__(self):
        return len(self.items)

    def __bool__(self):
        return len(self.items) > 0


@case(torch.tensor([1, 2, 0, 4]), torch.tensor([3, 0, 0, 1]), torch.tensor([1, 1]))
def while_own_object(x):
    stack = Stack()
    for v in x:
        if v == 0:
            if len(stack) > 1:
                stack.push(stack.pop() + stack.pop())
            else:
                stack.push(v - 1)
        else:
            stack.push(v)
    total = stack.pop()
    while stack:
        total = total * 2 + stack.pop()
    return total


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@case((torch.tensor(1), UP), (torch.tensor(2), UP), (torch.tensor(2), LONG))
def one_of_two_enumerated_numbers(n, x):
    level = Level.LOW if n == Level.LOW else Level.HIGH
    return x * level + (1 if level is Level.HIGH else 0)
