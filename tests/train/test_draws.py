"""Random numbers of compiled steps: torch's, and its generator moves on by as much."""

from __future__ import annotations

import pytest
import torch

from oarlock.capture.joint.recording import Draw
from oarlock.runtime import toolchain
from oarlock.runtime.cache import open_cache
from oarlock.train import draws

BERNOULLI, NORMAL = torch.ops.aten.bernoulli_.float, torch.ops.aten.normal_.default
F32, F64 = torch.float32, torch.float64


@pytest.fixture(scope="module")
def library():
    return toolchain.find(None, open_cache()).pool


def dropout(p, *shape, dtype=F32, stride=None, **kwargs):
    like = (shape, stride or torch.empty(shape).stride(), dtype)
    return Draw(BERNOULLI, (p,), kwargs, like)


def normal(*shape):
    return Draw(NORMAL, (), {}, (shape, torch.empty(shape).stride(), F32))


SEQUENCES = {
    "one": [dropout(0.9, 3, 5)],
    "several": [dropout(0.5, 7), dropout(0.1, 2, 311), dropout(0.75, 1000), dropout(0.3, 1)],
    "long": [dropout(0.8, 35, 20, 200)],
    "none": [dropout(0.5, 0, 4), dropout(0.5, 3)],
    "certain": [dropout(1.0, 40), dropout(0.0, 40), dropout(2.0**-53, 40), dropout(1e-300, 40)],
    "between others": [dropout(0.5, 33), normal(9), dropout(0.5, 700), normal(3), normal(2)],
    "of f64": [dropout(0.5, 30), dropout(0.5, 30, dtype=F64), dropout(0.5, 30)],
    "turned": [dropout(0.5, 4, 6, stride=(1, 4)), dropout(0.5, 5)],
}


@pytest.mark.parametrize("before", [0, 1, 2, 623, 624, 625])
@pytest.mark.parametrize("name", SEQUENCES)
def test_numbers_and_the_state_after_them(name, before, library):
    """Whatever words of the generator were taken before."""
    sequence = SEQUENCES[name]
    torch.manual_seed(before)
    torch.randint(2, (before,))
    start = torch.get_rng_state()
    expected = [draw.make() for draw in sequence]
    after = torch.get_rng_state()
    torch.set_rng_state(start)
    found = draws.make_all(sequence, library)
    assert torch.equal(torch.get_rng_state(), after)
    for got, want in zip(found, expected):
        assert got.dtype is want.dtype
        assert got.shape == want.shape
        assert torch.equal(got, want)


def test_a_generator_of_another_kind_is_left_to_torch(library, monkeypatch):
    """Where the numbers are not those of the twister here, each draw is torch's."""
    monkeypatch.setattr(draws, "is_twister", lambda _: False)
    monkeypatch.setattr(draws, "fill", None)
    torch.manual_seed(3)
    expected = torch.empty(40).bernoulli_(0.5)
    torch.manual_seed(3)
    (found,) = draws.make_all([dropout(0.5, 40)], library)
    assert torch.equal(found, expected)


def test_another_layout_of_the_state_is_seen(library, monkeypatch):
    monkeypatch.setattr(draws, "STATE_BYTES", 5064)
    assert draws.is_twister.__wrapped__(library) is False


def test_other_numbers_are_seen(library, monkeypatch):
    monkeypatch.setattr(draws, "fill", lambda _library, _state, x, p: x.fill_(float(p > 0.5)))
    assert draws.is_twister.__wrapped__(library) is False


@pytest.mark.parametrize(
    "draw",
    [
        dropout(0.5, 3, generator=torch.Generator()), dropout(1.5, 3), dropout(1, 3),
        dropout(0.5, 3, dtype=F64), dropout(0.5, 4, 6, stride=(1, 4)), normal(3),
        Draw(torch.ops.aten.bernoulli.p, (0.5,), {}, None),
    ],
)  # fmt: skip
def test_what_torch_draws(draw):
    assert draws.chance(draw) is None
