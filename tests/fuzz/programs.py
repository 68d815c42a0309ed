"""Random programs over the op records, deterministic by seed.

A ``Case`` is a program and inputs for it at two assignments of its symbols.  Every node is evaluated
as it is added, so that indices are in range, numbers stay of a size that can be compared, and domains
are respected most of the time.  Ops come from the registry: pointwise, reductions and records with an
axis by their traits, all others through their samples, whose shapes are cut from values at hand.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.fuzz.maker import Case, Maker
from tests.fuzz.steps import grow


def generate(seed: int) -> Case:
    """The program number ``seed``."""
    rng = random.Random(seed)
    while True:
        maker = Maker(rng)
        grow(maker, rng.choice((2, 4, 6, 8, 10, 14, 20)))
        case = maker.finish()
        if case is not None:
            return case


def cases(seed: int, count: int) -> Iterator[tuple[int, Case]]:
    """Programs ``seed``, ``seed + 1``, ..."""
    for number in range(seed, seed + count):
        yield number, generate(number)


__all__ = ["Case", "cases", "generate"]
