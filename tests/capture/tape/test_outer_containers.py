"""Every way to read a container from outside: later calls see what it holds by then."""

from __future__ import annotations

import importlib.util
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import pytest
import torch

from oarlock.capture.to_static import to_static

READS = """
len(c); 1 if c else 0; len(list(c)); sum(1 for _ in c); 1 if 3 in c else 0
str(sorted(c)); c == type(c)(); str(c); f"{c}"; sum(c); len(tuple(c)); max(c); len(c.copy())
[a for a in c]; any(c); [i for i, a in enumerate(c)]; [*c]; max(0, *c); c.get(3, 9)
[k for k, v in c.items()]; sum(c.values()); list(c.keys()); c[0]; c[-1]; c.count(3); len(c | {9})
{1} <= c; c.most_common(1)[0][0]; [a for a, b in zip(c, c)]; len({**c}); list(reversed(c))
list(map(lambda a: a, c)); len(set(c)); c[:1]; next(iter(c)); len(dict(**{str(k): k for k in c}))
""".replace("\n", ";").split(";")
READS = [text.strip() for text in READS if text.strip()]

CONTAINERS = {
    "list": lambda: [1, 2],
    "dict": lambda: {1: 1, 2: 2},
    "set": lambda: {1, 2},
    "deque": lambda: deque([1, 2]),
    "short deque": lambda: deque([1, 2], maxlen=3),
    "OrderedDict": lambda: OrderedDict({1: 1, 2: 2}),
    "defaultdict": lambda: defaultdict(int, {1: 1, 2: 2}),
    "Counter": lambda: Counter({1: 1, 2: 2}),
    "array": lambda: array("i", [1, 2]),
}


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """One function for each read, of a file, as conversion needs their source."""
    path = tmp_path_factory.mktemp("reads") / "reads_of_containers.py"
    lines = [f"def read_{i}(x, o):\n    c = o.c\n    return x, {r}\n" for i, r in enumerate(READS)]
    path.write_text("\n".join(lines))
    spec = importlib.util.spec_from_file_location("reads_of_containers", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [getattr(module, f"read_{i}") for i in range(len(READS))]


class Owner:
    c: Any


def grow(c: Any, value: int) -> None:
    if isinstance(c, dict):
        c[value] = value
    elif isinstance(c, set):
        c.add(value)
    else:
        c.append(value)


def outcomes(call: Any, c: Any) -> list[str]:
    """What three calls give, the container grown between them."""
    OWNER.c, found = c, []
    for value in (None, 3, 0):
        if value is not None:
            grow(c, value)
        try:
            found.append(_plain(call(torch.ones(2))[1]))
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
    return found


def _plain(x: Any) -> str:
    if isinstance(x, torch.Tensor):
        return str(x.item())
    return str([*x]) if isinstance(x, list) else str(x)


OWNER = Owner()


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_read(kind: str, readers: list[Any]):
    make = CONTAINERS[kind]
    wrong = []
    for text, read in zip(READS, readers):
        OWNER.c = make()
        try:
            read(torch.ones(2), OWNER)
        except Exception:
            continue  # this kind has no such read

        def call(x: torch.Tensor, read: Any = read) -> Any:
            return read(x, OWNER)

        want, got = outcomes(call, make()), outcomes(to_static(call), make())
        if want != got:
            wrong.append((text, want, got))
    assert wrong == []


class RecentlyUsed(torch.nn.Module):
    """Keeps a table for each of the last two lengths."""

    def __init__(self):
        super().__init__()
        self.tables = OrderedDict()
        self.hits = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        if n in self.tables:
            self.hits += 1
            self.tables.move_to_end(n)
        else:
            self.tables[n] = torch.ones(n) * n
            if len(self.tables) > 2:
                self.tables.popitem(last=False)
        return x * self.tables[n]


def test_order_of_keys_and_sizes_as_keys():
    eager, static = RecentlyUsed(), to_static(RecentlyUsed())
    for n in (2, 3, 2, 1, 3, 2, 3, 3, 1):
        assert torch.equal(eager(torch.ones(n)), static(torch.ones(n)))
        assert list(eager.tables) == list(static.tables)
        assert eager.hits == static.hits
