"""Memory of compiled steps: what is planned is at most what eager steps hold at once."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import oarlock
from bench import train_models as models


def recurrent(kind: type[nn.Module]) -> models.Made:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = kind(24, 64, batch_first=True), nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            last = self.rnn(x)[1]
            return self.out((last[0] if isinstance(last, tuple) else last)[-1])

    model = Last()
    return model, models.classes(model, torch.optim.Adam(model.parameters())), _rows(16, 40, 24)


def _rows(*shape: int) -> list[models.Batch]:
    return [(torch.randn(shape), torch.randint(10, shape[:1])) for _ in range(2)]


def language() -> models.Made:
    model = models.LanguageModel(400, 48)
    step = models.classes(model, torch.optim.SGD(model.parameters(), lr=0.1), clip=5.0)
    return model, step, models._tokens(400, 20, 12)


def transformer() -> models.Made:
    model = models.GPT(65, 48, 2, 32)
    step = models.classes(model, torch.optim.AdamW(model.parameters()), clip=1.0)
    return model, step, models._tokens(65, 8, 32)


def convolutions() -> models.Made:
    model = models.lenet()
    step = models.classes(model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
    return model, step, models._images(32, 1, 28, 28)


def layers() -> models.Made:
    model = nn.Sequential(nn.Linear(100, 128), nn.ReLU(), nn.Linear(128, 10))
    return model, models.classes(model, torch.optim.Adam(model.parameters())), _rows(64, 100)


CASES = {
    "lstm": lambda: recurrent(nn.LSTM), "gru": lambda: recurrent(nn.GRU), "language": language,
    "transformer": transformer, "convolutions": convolutions, "layers": layers,
}  # fmt: skip


def peak_of_eager(step, batch: models.Batch) -> int:
    """The most bytes that torch's allocator has given out at once beyond those before the step."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step(*batch)
    found = profiled.profiler.kineto_results.events()
    sizes = [
        e.nbytes() for e in sorted(found, key=lambda e: e.start_ns()) if e.name() == "[memory]"
    ]
    return max(accumulate(sizes))


@pytest.mark.parametrize("case", CASES)
def test_arena_is_at_most_what_eager_holds(case):
    """The state of optimizers is there before; the arena is all of a step's values but draws."""
    torch.manual_seed(0)
    _, step, batches = CASES[case]()
    step(*batches[0])
    peak = peak_of_eager(step, batches[1])
    _, step, batches = CASES[case]()
    static = oarlock.to_static(step, backend="compiled")
    for batch in batches:
        static(*batch)
    plans = [x for t in static.tapes if t.executor for x in t.executor.steps.values()]
    (arena,) = {x.runner.plan.arena_bytes for x in plans[-1:]}
    assert 0 < arena <= peak
