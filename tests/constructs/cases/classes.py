"""Classes: attributes, methods, properties, super, dataclasses, special methods, inheritance."""

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from tests.constructs.case import case, r, t

POS, NEG = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0)


@case(POS, NEG, POS, method="step")
class Accumulator:
    def __init__(self):
        self.total = torch.zeros(3)
        self.calls = 0

    def step(self, x):
        self.calls += 1
        if x.sum() > 0:
            self.total = self.total + x.detach()
        return self.total * x


@case(POS, NEG, POS, method="__call__")
class CallsItself:
    def __init__(self):
        self.history = []

    def __call__(self, x):
        if x.sum() > 0:
            self.history.append(x.detach() * 2)
        return x * len(self.history)


@case((POS, t(3)), (NEG, t(0)), method="run")
class AttributeInLoop:
    def __init__(self):
        self.h = torch.zeros(3)

    def run(self, x, n):
        self.h = torch.zeros(3)
        for i in range(n):
            self.h = torch.tanh(self.h + x * i)
        return self.h


class Shape(ABC):
    scale = 2.0

    def __init__(self, size):
        self.size = size

    @abstractmethod
    def area(self): ...

    @property
    def twice(self):
        return self.area() * self.scale

    @staticmethod
    def clip(v):
        return v if v > 0 else -v

    @classmethod
    def unit(cls):
        return cls(torch.ones(()))


class Square(Shape):
    def area(self):
        return self.clip(self.size) * self.size


class Circle(Shape):
    scale = 3.0

    def __init__(self, size):
        super().__init__(size + 1)

    def area(self):
        return 3.14 * self.size**2


@case(t(2.0), t(-2.0))
def inheritance(x):
    shape = Square(x) if x > 0 else Circle(x)
    return shape.twice + shape.area()


@case(t(2.0), t(-2.0))
def class_and_static_methods(x):
    return Square.unit().twice * Shape.clip(x)


@case(t(2.0), t(-2.0))
def isinstance_dispatch(x):
    total = torch.zeros(())
    for s in (Square(x), Circle(x)):
        if isinstance(s, Circle) and x > 0:
            total = total + s.area()
        elif hasattr(s, "size"):
            total = total + getattr(s, "size")
    return total


class Temperature:
    def __init__(self, value):
        self._value = value

    @property
    def value(self):
        if self._value.sum() > 0:
            return self._value
        return self._value * 0

    @value.setter
    def value(self, v):
        self._value = v if v.sum() > 0 else v - 1


@case(POS, NEG)
def property_get_and_set(x):
    temp = Temperature(x)
    temp.value = temp.value + 1
    temp.value = x
    return temp.value, temp._value


@case(Temperature(POS), Temperature(NEG))
def object_argument(temp):
    temp.value = temp.value * 2
    return temp.value + temp._value


@dataclass
class State:
    h: torch.Tensor
    step: int = 0
    logs: list = field(default_factory=list)

    def advance(self, x):
        if x.sum() > 0:
            return State(self.h + x, self.step + 1, [*self.logs, x])
        return replace(self, h=self.h - x)


@case(POS, NEG)
def dataclass_in_branch(x):
    s = State(x)
    if x.sum() > 0:
        s.h = s.h * 2
        s.step = 5
    return s.h * s.step, s.step


@case(POS, NEG)
def dataclass_returned(x):
    s = State(torch.zeros(3)).advance(x)
    return s


@case((State(POS), POS), (State(NEG, 2), NEG))
def dataclass_argument(s, x):
    s = s.advance(x)
    return s.advance(x).h, s.step


@case((POS, t(3)), (NEG, t(0)))
def dataclass_carried(x, n):
    s = State(x)
    for i in range(n):
        s.h = s.h * 0.5 + i
        s.step += 1
    return s.h, s.step


@case((POS, t(3)), (NEG, t(2)))
def dataclass_replaced_in_loop(x, n):
    s = State(x)
    i = 0
    while i < n:
        s = State(s.h * 2, s.step + 1)
        i += 1
    return s.h, s.step


@dataclass(frozen=True)
class Config:
    scale: float = 2.0
    clip: bool = True


@case((POS, Config()), (NEG, Config()), (NEG, Config(3.0, False)), captures=3)
def frozen_config(x, config):
    y = x * config.scale
    if config.clip and y.sum() > 0:
        return y.clamp(max=3)
    return y


class Point(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor

    def norm(self):
        s = self.x**2 + self.y**2
        return s.sqrt() if s > 1 else s


@case(t(2.0), t(0.1))
def named_tuple_class(v):
    p = Point(v, v * 2)
    return p.norm(), p._asdict()["x"]


class Vec:
    def __init__(self, data):
        self.data = data

    def __add__(self, other):
        return Vec(self.data + (other.data if isinstance(other, Vec) else other))

    def __radd__(self, other):
        return self + other

    def __neg__(self):
        return Vec(-self.data)

    def __getitem__(self, i):
        return self.data[i] if self.data[i] > 0 else self.data[i] * 0

    def __setitem__(self, i, v):
        self.data = self.data.clone()
        self.data[i] = v

    def __len__(self):
        return self.data.shape[0]

    def __iter__(self):
        return iter(self.data)

    def __contains__(self, v):
        return bool((self.data == v).any())

    def __bool__(self):
        return bool(self.data.sum() > 0)

    def __lt__(self, other):
        return self.data.sum() < other.data.sum()

    def __eq__(self, other):
        return (self.data == other.data).all()

    __hash__ = None

    def __call__(self, k):
        return Vec(self.data * k)


@case(POS, NEG)
def special_arithmetic(x):
    v = Vec(x)
    w = v + 1 + -v + v(3)
    w = 2 + w
    w[0] = 7.0
    return w.data, w[1], len(w)


@case(POS, NEG, POS * 0)
def special_truth_and_order(x):
    v = Vec(x)
    if v:
        return v.data * 2
    if v < Vec(x * 0):
        return v.data - 1
    return x


@case(POS, t(-1.0, -2.0, -3.0), t(0.0, -1.0, 1.0))
def special_in_eq_iter(x):
    v = Vec(x)
    total = torch.zeros(())
    for e in v:
        total = total + e
    if 2.0 in v:
        total = total + 100
    if v == Vec(NEG):
        total = total - 100
    return total


class Mode(enum.Enum):
    UP = 1
    DOWN = 2


@case((POS, Mode.UP), (NEG, Mode.UP), (NEG, Mode.DOWN), captures=2)
def enum_argument(x, mode):
    if mode is Mode.UP and x.sum() > 0:
        return x + mode.value
    return x - 1


@case(POS, NEG)
def enum_chosen_by_data(x):
    mode = Mode.UP if x.sum() > 0 else Mode.DOWN
    return x * 2 if mode == Mode.UP else x - 1


class Mixin:
    def transform(self, x):
        return super().transform(x) + 1


class Base:
    def transform(self, x):
        return x * 2 if x.sum() > 0 else x


@case(POS, NEG, method="transform")
class MixedIn(Mixin, Base):
    def transform(self, x):
        y = super().transform(x)
        if y.sum() > 0:
            return y
        return super(Mixin, self).transform(y)


@case(POS, NEG)
def local_class(x):
    class Scale:
        def __init__(self, k):
            self.k = k

        def __call__(self, v):
            return v * self.k if v.sum() > 0 else v

    return Scale(3)(x)


class Slotted:
    __slots__ = ("v",)

    def __init__(self, v):
        self.v = v


@case(POS, NEG)
def slots(x):
    s = Slotted(x)
    if x.sum() > 0:
        s.v = x * 2
    return s.v


class Dynamic:
    def __init__(self):
        self.table = {}

    def __getattr__(self, name):
        if name == "table":
            raise AttributeError(name)
        return self.table[name]


@case(POS, NEG)
def dynamic_attributes(x):
    d = Dynamic()
    d.table["w"] = x + 1
    setattr(d, "bias", x * 2)
    if x.sum() > 0:
        d.table["w"] = x * 5
    return d.w + d.bias


class Linked:
    def __init__(self, value, following=None):
        self.value, self.following = value, following


@case(POS, NEG)
def linked_list(x):
    head = Linked(x, Linked(x + 1, Linked(x * 2)))
    total = torch.zeros(3)
    node = head
    while node is not None:
        if node.value.sum() > 0:
            total = total + node.value
        node = node.following
    return total


@case((NEG, t(1)), (POS, t(3)), (NEG, t(0)), method="run", captures=2)
class Machine:
    def __init__(self):
        self.state = "idle"
        self.count = 0

    def run(self, x, n):
        if x.sum() > 0:
            self.state = "busy"
        for _ in range(n):
            self.count += 1
        if self.state == "busy":
            return x * self.count
        return x


class Counter:
    total = 0

    def bump(self, x):
        if x.sum() > 0:
            Counter.total += 1
        return x * Counter.total


@case(POS, NEG, POS, factory=True)
def class_attribute():
    Counter.total = 0
    return Counter().bump


@case(POS, NEG, POS, method="update", captures=2)
class RunningMean:
    def __init__(self):
        self.mean = torch.zeros(3)
        self.n = 0
        self.best = None

    def update(self, x):
        x = x.detach()
        self.n += 1
        self.mean += (x - self.mean) / self.n
        if self.best is None or x.sum() > self.best.sum():
            self.best = x
        return self.mean.clone()


@case((r(4, 3), t(2)), (r(4, 3), t(0)), method="roll")
class Buffer:
    def __init__(self):
        self.data = torch.zeros(4, 3)
        self.at = 0

    def roll(self, x, n):
        for i in range(n):
            self.data[self.at] = x[i].detach()
            self.at = (self.at + 1) % 4
        return self.data.clone(), self.at


class Spelled:
    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"Spelled({self.value.shape[0]}, {float(self.value.sum()):.2f})"


@case((torch.ones(2),), (torch.ones(3),), (torch.ones(200),), (torch.ones(5),))
def texts_of_objects_and_containers(x):
    one = Spelled(x)
    many = [x.shape[0], (x.sum(),), {"k": one}]
    text = f"{one} {one!r} {many} {tuple(x.shape)} {x.shape}" + " end"
    text = "start " + text
    if x.sum() > 100:
        raise ValueError(text)
    return text, str(many), repr(one), "%s of %r" % (one, many)


class Counted:
    def __init__(self):
        self.count, self.scale, self.sizes = 0, 2.0, [3, 4]


COUNTED = Counted()


@case((torch.ones(2), COUNTED), (-torch.ones(2), COUNTED), (torch.ones(2), COUNTED), captures=2)
def object_without_tensors_is_changed(x, state):
    if x.sum() > 0:
        state.count += 1
    return x * state.count * state.scale + len(state.sizes)
