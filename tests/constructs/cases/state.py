"""State between calls: containers that fill, numbers set back to what they were, attributes that come."""

from collections import defaultdict, deque

from torch import nn

from tests.constructs.case import case, t

UP, DOWN, ZERO = t(1.0, 2.0), t(-1.0, -2.0), t(0.0, 0.0)


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.start()


@case(UP, DOWN, UP, captures=2)
class KeyOfADict(Stateful):
    def start(self):
        self.cache = {}

    def forward(self, x):
        if "k" in self.cache:
            return x + self.cache["k"]
        self.cache["k"] = x.sum().detach()
        return x


@case(UP, DOWN, UP, captures=2)
class GetOfADict(Stateful):
    def start(self):
        self.cache = {}

    def forward(self, x):
        found = self.cache.get("k")
        if found is None:
            found = self.cache["k"] = x.sum().detach()
        return x + found


@case(UP, DOWN, UP, captures=2)
class MissingKey(Stateful):
    def start(self):
        self.cache = {}

    def forward(self, x):
        try:
            found = self.cache["k"]
        except KeyError:
            found = self.cache["k"] = x.sum().detach()
        return x + found


@case(UP, DOWN, UP, captures=2)
class MissingAttribute(Stateful):
    def start(self):
        pass

    def forward(self, x):
        if not hasattr(self, "first"):
            self.first = x.detach().mean()
        return x * self.first


@case(UP, DOWN, UP, ZERO, captures=3)
class Window(Stateful):
    def start(self):
        self.items = deque(maxlen=2)

    def forward(self, x):
        self.items.append(x.sum().detach())
        return x + sum(self.items) / len(self.items)


@case(UP, DOWN, UP, captures=2)
class SetOfSizes(Stateful):
    def start(self):
        self.sizes = set()

    def forward(self, x):
        if len(x) in self.sizes:
            return x * 2
        self.sizes.add(len(x))
        return x


@case(UP, DOWN, UP, DOWN, captures=3)
class Counts(Stateful):
    def start(self):
        self.n = {"up": 0, "down": 0}
        self.all = defaultdict(int)

    def forward(self, x):
        if x.sum() > 0:
            self.n["up"] += 1
        else:
            self.n["down"] += 1
        self.all["calls"] += 1
        return x * self.n["up"] - self.n["down"] + self.all["calls"]


@case(UP, DOWN, UP, UP, ZERO, captures=2)
class Patience(Stateful):
    def start(self):
        self.best, self.bad, self.lr = None, 0, 1.0

    def forward(self, x):
        loss = x.sum().detach()
        if self.best is None or loss < self.best:
            self.best = loss
            self.bad = 0
        else:
            self.bad += 1
            if self.bad >= 2:
                self.lr *= 0.5
                self.bad = 0
        return x * self.lr


@case(DOWN, UP, DOWN, UP, captures=3)
class WrittenOnly(Stateful):
    def start(self):
        self.k, self.n = 0, 1

    def forward(self, x):
        if x.sum() > 0:
            self.k = 0
        if x.sum() < 0:
            self.k = self.n
        self.n = self.n + 1 if x.sum() < 0 else 1
        return x * 2


@case(UP, UP, DOWN, UP, captures=2)
class SetBack(Stateful):
    def start(self):
        self.runs = {"now": 0, "most": 0}

    def forward(self, x):
        if x.sum() > 0:
            self.runs["now"] += 1
        else:
            self.runs["now"] = 0
        self.runs["most"] = max(self.runs["most"], self.runs["now"])
        return x * self.runs["most"]


@case(UP, DOWN, UP, UP, ZERO, factory=True, captures=2)
def variable_set_back():
    bad, best = 0, None

    def fn(x):
        nonlocal bad, best
        loss = x.sum().item()
        if best is None or loss < best:
            best = loss
            bad = 0
        else:
            bad += 1
        if bad >= 2:
            bad = 0
        return x * bad

    return fn


@case((UP, deque([t(1.0), t(2.0)])), (DOWN, deque([t(1.0)])), (DOWN, deque([t(4.0), t(5.0)])))
def deque_argument(x, items):
    items.append(x.sum())
    if items[0] > 3:
        items.popleft()
    return sum(items) / len(items)


@case((UP, {1, 2}), (DOWN, {1}), (DOWN, {1, 2}))
def set_argument(x, items):
    items.add(3)
    return x * len(items), 2 in items


@case(t(1.0, 2.0), t(-1.0, 5.0), t(0.0, 3.0), factory=True)
def counters_in_lists():
    count, table = [0], {"rates": [3, 1]}

    def step(x):
        count[0] += 1
        table["rates"][1] *= 2
        if count[0] % 2 == 0:
            return x * count[0]
        return x + table["rates"][1]

    return step


@case(UP, DOWN, DOWN, UP)
class DefaultOfTheClass(nn.Module):
    total = 0

    def forward(self, x):
        if x.sum() > 0:
            self.total = self.total + 1
        return x * self.total


@case(UP, DOWN, DOWN, UP)
class DefaultReadOnBothWays(nn.Module):
    total = 0

    def forward(self, x):
        if x.sum() > 0:
            self.total += 1
            return x * self.total
        return x - self.total
