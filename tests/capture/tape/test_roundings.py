"""How far results move when operations round otherwise."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from oarlock.capture.tape.roundings import MOVES, Otherwise  # noqa: E402

EPS = 2.0**-23


def moved(fn, *args, seed=0):
    with Otherwise(seed):
        return fn(*args)


def test_one_operation_moves_by_its_roundings():
    x = torch.rand(1000) + 1
    change = ((moved(torch.exp, x) - x.exp()) / x.exp()).abs()
    assert change.min() > 0 and change.max() <= (MOVES + 1) * EPS


def test_sums_and_products_move_by_the_root_of_their_terms():
    x, w = torch.rand(4, 256), torch.rand(256, 3)
    for fn in (
        lambda: x.sum(1),
        lambda: x @ w,
        lambda: F.conv1d(x.T[None], w.T[..., None].contiguous()),
    ):
        change = ((moved(fn) - fn()) / fn()).abs()
        assert 0.5 * MOVES * 16 * EPS < change.max() <= 2 * MOVES * 16 * EPS


def test_views_draws_and_integers_stay():
    x, k = torch.rand(3, 4), torch.arange(5)
    assert torch.equal(moved(lambda: x[1:].T), x[1:].T)
    assert torch.equal(moved(lambda: k * 2), k * 2)
    torch.manual_seed(0)
    drawn = moved(torch.rand, 5)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(5))


def test_updates_in_place_and_lists_move():
    x = [torch.ones(3), torch.ones(2)]
    moved(torch._foreach_add_, x, 1.0)
    assert all(0 < float((t - 2).abs().max()) <= 2 * (MOVES + 1) * EPS for t in x)
    assert torch.ones(0, 3).sum(1).shape == moved(lambda: torch.ones(0, 3).sum(1)).shape


def test_a_backward_pass_moves_too():
    layer, x = nn.Linear(8, 4), torch.randn(5, 8)

    def slopes():
        return torch.autograd.grad(layer(x).square().sum(), layer.weight)[0]

    change = (moved(slopes) - slopes()).abs().max() / slopes().abs().max()
    assert EPS < change < 1e3 * EPS


def test_half_moves_by_its_own_roundings():
    x = (torch.rand(1000) + 1).bfloat16()
    change = ((moved(torch.sqrt, x) - x.sqrt()) / x.sqrt()).float().abs()
    assert 0 < change.max() <= (MOVES + 2) * 2.0**-7
