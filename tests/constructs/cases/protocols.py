"""Special methods of users' modules and classes that decide on data: items, membership, iteration."""

from __future__ import annotations

import torch
from torch import nn

from tests.constructs.case import case, t

POS, NEG, NEAR = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0), t(0.5, -0.25, 0.0)


def scaled(factor: float, shift: float) -> nn.Linear:
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3) * factor)
        layer.bias.fill_(shift)
    return layer


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([scaled(1.0, 0.0), scaled(2.0, 0.5), scaled(3.0, 1.0)])

    def __getitem__(self, x):
        if x.sum() > 0:
            return self.layers[0](x)
        return self.layers[1](x)

    def __len__(self):
        return len(self.layers)

    def __contains__(self, x):
        if x.sum() > 1:
            return True
        return False

    def __iter__(self):
        for layer in self.layers:
            yield layer


BAG = Bag()


@case(POS, NEG, NEAR)
class module_with_items(Bag):
    def forward(self, x):
        y = self[x]
        for layer in self:
            if y.sum() < 10:
                y = layer(y)
        if x in self:
            y = y + len(self)
        return y


@case(POS, NEG, NEAR)
def item_of_a_module(x):
    return BAG[x] * 2


@case(POS, NEG, NEAR)
def member_of_a_module(x):
    return x * 3 if x not in BAG else x - 1


@case(POS, NEG, NEAR)
def loop_over_a_module(x):
    for layer in BAG:
        x = layer(x)
        if x.sum() > 4:
            break
    return x


@case(POS, NEG, NEAR)
def item_of_a_module_in_a_loop(x):
    n = 0
    while x.sum().abs() < 30 and n < 4:
        x = BAG[x]
        n += 1
    return x


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = scaled(1.0, 0.5), scaled(-1.0, 0.25)

    def __getitem__(self, key):
        if key > 0:
            return self.a
        return self.b


@case(POS, NEG, NEAR)
class chooses_a_module(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.bag = Gate(), Bag()

    def forward(self, x):
        for _ in range(3):
            x = self.gate[x.sum()](x) - 1
            if x in self.bag:
                x = self.bag[x]
        return x


@case(POS, NEG, NEAR)
class iterates_while_data_say_so(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = scaled(0.5, 0.0)

    def steps(self, x):
        self.x = x
        return self

    def __iter__(self):
        x = self.x
        while x.abs().sum() > 1:
            x = self.layer(x)
            yield x

    def forward(self, x):
        total = torch.zeros(3)
        for y in self.steps(x):
            total = total + y
        return total


class Layers(nn.ModuleList):
    def __getitem__(self, key):
        if isinstance(key, torch.Tensor):
            return super().__getitem__(0 if key.sum() > 0 else 1)
        return super().__getitem__(key)


class Named(nn.ModuleDict):
    def __getitem__(self, key):
        if isinstance(key, torch.Tensor):
            return super().__getitem__("a" if key.sum() > 0 else "b")
        return super().__getitem__(key)

    def __contains__(self, key):
        if isinstance(key, torch.Tensor):
            return bool(key.sum() > 0)
        return super().__contains__(key)


@case(POS, NEG, NEAR)
class lists_and_dicts_of_modules(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = Layers([scaled(1.0, 0.0), scaled(2.0, 0.5)])
        self.named = Named({"a": scaled(0.5, 0.0), "b": scaled(-1.0, 0.5)})

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        y = self.named[x](self.layers[x](x))
        return self.named["b"](y) if y in self.named else y


class Chain(nn.Sequential):
    def __iter__(self):
        for module in super().__iter__():
            yield module

    def forward(self, x):
        for module in self:
            x = module(x)
            if x.sum() > 3:
                break
        return x


@case(POS, NEG, NEAR, factory=True)
def sequence_that_stops_early():
    return Chain(scaled(0.5, 0.1), nn.Tanh(), scaled(2.0, 0.1))


class Halves:
    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return self

    def __next__(self):
        if self.x.abs().sum() < 1:
            raise StopIteration
        self.x = self.x * 0.5
        return self.x


class Powers:
    def __init__(self, x):
        self.x = x

    def __getitem__(self, place):
        found = self.x * 0.5**place
        if found.abs().sum() < 1:
            raise IndexError(place)
        return found


@case(POS, NEG, NEAR, POS * 10)
class module_that_is_an_iterator(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def __iter__(self):
        return self

    def __next__(self):
        if self.x.abs().sum() < 1:
            raise StopIteration
        self.x = self.x * self.scale
        return self.x

    def forward(self, x):
        self.x = x
        for y in self:
            x = x + y
        return x


@case(POS, NEG, NEAR, POS * 10)
def loop_over_an_iterator_that_data_end(x):
    total = x
    for y in Halves(x):
        total = total + y
        if total.sum() > 80:
            break
    return total


@case(POS, NEG, NEAR, POS * 10)
def list_of_an_iterator_that_data_end(x):
    return list(Halves(x)), sum(Halves(x), x), [y.sum() for y in Halves(x)]


@case(POS, NEG, NEAR, POS * 10)
def iterator_that_data_end_beside_others(x):
    total = x
    for i, y in enumerate(Halves(x)):
        total = total + y * i
    for i, y in zip(range(4), Halves(x)):
        total = total - y * i
    return total


@case(POS, NEG, NEAR, POS * 10)
def next_of_an_iterator_that_data_end(x):
    halves = Halves(x)
    return next(halves, x - 1), next(halves, x * 3)


@case(POS, NEG, NEAR, POS * 10)
def items_that_data_end(x):
    total = x
    for y in Powers(x):
        total = total + y
    try:
        return total * Powers(x)[2]
    except IndexError:
        return total
