"""Small programs through ``.save`` and a Predictor: forms that decoders of libraries are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import oarlock
from oarlock.errors import InputError, ModelError, UnsupportedError


def truth_of_sizes_as_fill(x):
    """Stopping criteria of transformers: whether a length is reached, for each row."""
    done = torch.zeros(x.shape[0], dtype=torch.bool)
    while not done.all():
        x = torch.cat([x, x[:, -1:] + 1], 1)
        done = done | torch.full((x.shape[0],), x.shape[1] >= 9) | (x[:, -1] > 12)
    return x


def number_or_none(x):
    """How much of the input is new: all of it at first."""
    new, total = None, x.sum(1)
    while total.sum() < 60:
        y = x if new is None else x[:, -new:]
        total = total + y.sum(1)
        new = int(y[0, 0]) + 1
    return total


def members(x):
    ends = torch.tensor([3, 5])
    return torch.isin(x, ends), torch.isin(x, 4), torch.isin(x, ends, invert=True)


def rows_of_numbers(x):
    total = 0
    for a, *rest in torch.stack([x[:, 0], x[:, 1], x[:, 2]], 1).tolist():
        total = total + a * rest[0] if a > 1 else total - rest[-1]
    return total


def unbound_along_an_axis_of_the_run(x):
    best = x[:, 0]
    for column in x.unbind(1):
        if (column > best).all():
            best = column
    return best


def as_many_values_as_places(x):
    """What is put where a mask says, from an argument's rows."""
    out = torch.zeros(x.shape[0] * 2, x.shape[1], dtype=x.dtype)
    out[torch.arange(len(out)) % 2 == 0] = x
    return out


PROGRAMS = (
    truth_of_sizes_as_fill, number_or_none, members, rows_of_numbers,
    unbound_along_an_axis_of_the_run, as_many_values_as_places,
)  # fmt: skip


@pytest.mark.parametrize("fn", PROGRAMS)
def test_saved(fn: Callable[..., Any], tmp_path: Path):
    static = oarlock.to_static(fn, backend="replay")
    calls = [torch.arange(n * k).reshape(n, k) % 7 for n, k in ((2, 3), (2, 4), (3, 5), (1, 7))]
    for x in calls:
        static(x)
    static.save(tmp_path / "p.oar")
    predictor = oarlock.Predictor(tmp_path / "p.oar")
    for x in calls:
        want, found = fn(x), predictor(x)
        pairs = zip(want, found, strict=True) if isinstance(want, tuple) else [(want, found)]
        for a, b in pairs:
            assert np.array_equal(np.asarray(a), np.asarray(b))


def test_numbers_are_arguments(tmp_path: Path):
    def decode(x, steps, rest=(1, 0.5)):
        while x.sum() < 100 and steps > 0:
            x, steps = x * 2 + rest[0], steps - 1
        return x * rest[1], steps

    static = oarlock.to_static(decode, backend="replay")
    calls = [
        (torch.ones(3), 2, (1, 0.5)),
        (torch.ones(3), 3, (2, 0.25)),
        (torch.ones(4), 9, (3, 2.0)),
    ]
    for call in calls:
        static(*call)
    static.save(tmp_path / "p.oar")
    predictor = oarlock.Predictor(tmp_path / "p.oar")
    for call in calls:  # small whole numbers, halved: exact
        for a, b in zip(predictor(*call), decode(*call), strict=True):
            assert np.array_equal(np.asarray(a), np.asarray(b))


def test_another_number_of_values_than_places_is_an_error(tmp_path: Path):
    def put(x, mask, values):
        x = x.clone()
        x[mask] = values
        return x

    static = oarlock.to_static(put, backend="replay")
    for n, k in ((4, 2), (5, 3)):
        static(torch.zeros(n, 2), torch.arange(n) < k, torch.ones(k, 2))
    static.save(tmp_path / "p.oar")
    predictor = oarlock.Predictor(tmp_path / "p.oar")
    given = torch.zeros(6, 2), torch.arange(6) < 4
    assert np.array_equal(predictor(*given, torch.ones(4, 2)), put(*given, torch.ones(4, 2)))
    with pytest.raises(InputError, match="N1=3, k1=4"):
        predictor(*given, torch.ones(3, 2))


def test_a_number_of_the_run_that_must_fit_an_axis(tmp_path):
    """Whether it does can't be asked of the inputs: refused with the reason."""
    static = oarlock.to_static(lambda x, k: x.topk(int(k)).values)
    for k in (2, 5, 3):
        static(torch.rand(5), torch.tensor(k))
    with pytest.raises(UnsupportedError, match="topk"):
        static.save(tmp_path / "largest.oar")


class Deep(torch.nn.Module):
    """In its own forward until data stop it, deeper than decisions of a file may be."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor([0.5, -0.25, 1.0]))

    def forward(self, x, depth):
        if depth <= 0:
            return x
        return self.forward(torch.tanh(x * self.scale), depth - 1) + x


def test_a_module_in_its_own_forward(tmp_path: Path):
    module, x = Deep(), torch.tensor([0.5, -1.0, 2.0])
    static = oarlock.to_static(module)
    with torch.no_grad():
        for depth in (2, 0, 5):
            static(x, torch.tensor(depth))
        static.forward.save(tmp_path / "p.oar")
        predictor = oarlock.Predictor(tmp_path / "p.oar")
        for depth in (0, 7, 100):
            want = Deep()(x, torch.tensor(depth))
            got = predictor(x.numpy(), np.int64(depth))
            np.testing.assert_allclose(got, want, rtol=1e-6 * (depth + 1))


def test_a_number_that_a_float_tensor_gives(tmp_path: Path):
    """It is as exact as the tensor was, not as Python's numbers are."""
    weights = torch.linspace(0.1, 1, 49).reshape(7, 7)

    def energy(x):
        while x.norm() > 1:
            x = x * 0.7
        return (x @ weights @ x * 3).item()

    static = oarlock.to_static(energy, backend="replay")
    calls = [torch.arange(1.0, 8.0) * k for k in (1, 2, 0.3)]
    for x in calls:
        static(x)
    static.save(tmp_path / "p.oar")
    for x in calls:
        want = energy(x)
        assert abs(oarlock.Predictor(tmp_path / "p.oar")(x) - want) < 1e-6 * want


def summed_rows(x):
    """A number that each trip makes a row of."""
    total, largest = 0, x.new_zeros(x.shape[1])
    for i, row in enumerate(x, 1):
        total = total + row * i
        largest = torch.maximum(largest, row)
    return total, largest


def polynomial(x):
    value = 0
    for row in x:
        value = value * row[0] + row
    return value


@pytest.mark.parametrize("fn", (summed_rows, polynomial))
def test_a_number_that_the_first_trip_makes_a_tensor(fn: Callable[..., Any], tmp_path: Path):
    static = oarlock.to_static(fn, backend="replay")
    calls = [torch.arange(float(n * 3)).reshape(n, 3) for n in (2, 4, 1, 5)]
    for x in calls[:2]:
        static(x)
    static.save(tmp_path / "p.oar")
    predictor = oarlock.Predictor(tmp_path / "p.oar")
    for x in calls:  # small whole numbers: exact
        want, found = fn(x), predictor(x)
        pairs = zip(want, found, strict=True) if isinstance(want, tuple) else [(want, found)]
        for a, b in pairs:
            assert np.array_equal(b, a)
    with pytest.raises(InputError, match="capture with a wider range"):
        predictor(torch.zeros(0, 3))


def test_a_number_that_stays_one_where_data_want_no_trip(tmp_path: Path):
    def until(x):
        total = 0
        while x.sum() < 20:
            total, x = total + x, x * 2
        return total

    static = oarlock.to_static(until, backend="replay")
    for x in (torch.tensor([1.0, 2.0]), torch.tensor([4.0, 2.0])):
        static(x)
    static.save(tmp_path / "p.oar")
    predictor = oarlock.Predictor(tmp_path / "p.oar")
    x = torch.tensor([0.5, 0.25])
    assert np.array_equal(predictor(x), until(x))
    with pytest.raises(ModelError, match="the loop runs not once, and a loop changes a int"):
        predictor(torch.tensor([40.0, 2.0]))


def test_messages_show_sequences_of_numbers(tmp_path: Path):
    def checked(x):
        if x.max() > 3:
            place = [int(x.argmax()), 1.5, "a"]
            raise ValueError(f"{x.max().item():.2f} in {tuple(x.shape)}, {x.shape}, {place}")
        if x.min() < -3:
            raise RuntimeError("low", (int(x.argmin()), x.shape[0]), [])
        return x

    static = oarlock.to_static(checked, backend="replay")
    for x in ([1.5, 0.25], [1.0, -2.0, 0.5]):
        static(torch.tensor(x))
    static.save(tmp_path / "p.oar")
    predictor = oarlock.Predictor(tmp_path / "p.oar")
    for wrong in ([4.125, 0.0], [0.0, -5.0, 1.0]):
        with pytest.raises((ValueError, RuntimeError)) as want:
            checked(torch.tensor(wrong))
        with pytest.raises(ModelError) as found:
            predictor(torch.tensor(wrong))
        assert str(found.value) == f"{want.type.__name__}: {want.value}"
