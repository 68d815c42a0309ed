"""Sizes in the code of a model: maths, decisions, narrowed ranges."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

import oarlock  # noqa: E402
from oarlock.errors import InputError, UnsupportedError  # noqa: E402
from oarlock.ir import Dim  # noqa: E402

N, T = Dim("N", max=64), Dim("T", min=2, max=64)


def same_as_eager(model, shape=(1, 4, 8), dynamic=None, sizes=((1, 5), (3, 9), (2, 2))):
    dynamic = dynamic or {0: N, 1: T}
    program = oarlock.capture(model, (torch.randn(shape),), dynamic={"x": dynamic})
    for batch, length in sizes:
        x = torch.randn(batch, length, *shape[2:])
        expected = model(x)
        got = oarlock.evaluate(program, x.numpy())
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=1e-6)
    return program


def chunks(x):
    """Padded to chunks of 4, each of which loses its mean, and cut again."""
    n, t, c = x.shape
    parts = F.pad(x, (0, 0, 0, -t % 4)).reshape(n, -1, 4, c)
    parts = parts - parts.mean(2, keepdim=True)
    whole = parts.reshape(n, parts.shape[1] * 4, c) + F.pad(x, (0, 0, 0, -t % 4))
    return whole[:, :t]


def written(x):
    y = torch.zeros_like(x)
    y[:, 0] = x[:, -1]
    y[:, 1:] = 2
    return y


MATHS = {
    "chunks of four": chunks,
    "rows written": written,
    "histogram": lambda x: torch.histc(x, bins=4, min=-1, max=1),
    "pool of a whole axis": lambda x: F.max_pool1d(x, x.shape[-1]) + F.avg_pool1d(x, x.size(2)),
    "pool of all steps": lambda x: F.max_pool1d(x.transpose(1, 2), x.shape[1]).squeeze(2),
    "pool of pairs": lambda x: F.max_pool1d(F.pad(x.transpose(1, 2), (0, 3)), 2),

    "half": lambda x: x[:, : x.shape[1] // 2],
    "minus one": lambda x: x.reshape(-1, x.shape[-1]),
    "flatten": lambda x: x.reshape(x.shape[0], -1),
    "max": lambda x: torch.zeros(max(x.shape[0], x.shape[1])) + 1,
    "min": lambda x: x[:, : min(x.shape[1], 5)],
    "pad to a multiple": lambda x: torch.nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 4)),
    "square root": lambda x: x / math.sqrt(x.size(1)),
    "power": lambda x: x * x.shape[1] ** -0.5,
    "division": lambda x: x * (x.shape[0] / x.shape[1]),
    "mean by hand": lambda x: x.sum(1) / x.shape[1],
    "tensor of a size": lambda x: x * torch.tensor(x.shape[1]),
    "tensor of sizes": lambda x: torch.tensor([x.shape[0], x.shape[1]]) * 2,
    "arange": lambda x: torch.arange(x.shape[1]) * 2,
    "arange with a start": lambda x: torch.arange(1, x.shape[1] + 1, dtype=torch.float32),
    "full": lambda x: torch.full((x.shape[0], 2), x.shape[1]),
    "linspace": lambda x: torch.linspace(0, 1, x.shape[1]),
    "middle": lambda x: x[:, x.shape[1] // 2],
    "last": lambda x: x[:, -1] + x[:, x.shape[1] - 1],
    "causal mask": lambda x: torch.ones(x.shape[1], x.shape[1]).tril() * x[0, :, :1],
    "ceil": lambda x: x[:, : math.ceil(x.shape[1] / 2)],
    "chunks": lambda x: torch.cat(x.chunk(2, -1)[::-1], -1),
    "numel": lambda x: x.sum() / x.numel(),
    "expand": lambda x: x[:, :1].expand(-1, x.shape[1], -1),
    "repeat": lambda x: torch.arange(3).repeat(x.shape[0], 1),
}  # fmt: skip


@pytest.mark.parametrize("name", MATHS)
def test_maths_on_sizes(name):
    same_as_eager(MATHS[name])


def test_two_inputs_share_a_dim():
    def model(x, y):
        return x @ y.transpose(1, 2)

    x = torch.randn(1, 4, 8)
    dims = {"x": {0: "N", 1: "T"}, "y": {0: "N", 1: "S"}}
    program = oarlock.capture(model, (x, torch.randn(1, 3, 8)), dynamic=dims)
    assert str(program.graph.outputs[0].type) == "f32[N,T,S]"
    with pytest.raises(oarlock.errors.InputError, match=r"'y'.* axis 0 of size 2"):
        oarlock.evaluate(program, np.ones((2, 3, 8), "f4"), np.ones((3, 3, 8), "f4"))


def test_decisions_that_hold_for_every_size():
    def model(x):
        if x.size(0) >= 1 and x.size(1) > 1 and x.dim() == 3 and x.size(1) != 1:
            return x * 2 if x.size(1) * 2 > x.size(1) + 1 else x
        return x

    same_as_eager(model)


def test_a_decision_that_every_admissible_size_takes_alike():
    even = Dim("T", min=2, max=2)
    same_as_eager(
        lambda x: x if x.shape[1] % 2 else x + 1, (1, 2, 8), dynamic={0: N, 1: even}, sizes=[(3, 2)]
    )


@pytest.mark.parametrize(
    "decide",
    [
        lambda x: x if x.shape[0] == 1 else x * 2,
        lambda x: x if x.shape[1] > 5 else x * 2,
        lambda x: x if x.shape[1] % 2 == 0 else x * 2,
        lambda x: x * sum(1 for _ in range(x.shape[1])),
        lambda x: x * int(x.shape[1] * 0.5),
    ],
)
def test_decisions_that_differ_are_refused(decide):
    with pytest.raises(UnsupportedError, match=r"test_sizes.py:\d+: the code decides on"):
        oarlock.capture(decide, (torch.randn(1, 4, 8),), dynamic={"x": {0: N, 1: T}})


def test_a_table_narrows_the_range():
    table = torch.randn(16, 8)
    program = oarlock.capture(
        lambda x: x + table[: x.shape[1]], (torch.randn(1, 4, 8),), dynamic={"x": {0: "N", 1: "T"}}
    )
    assert program.dims["T"].bounds() == (1, 16)
    assert "T is in [1, 16]" in program.meta["narrowed"][0]
    with pytest.raises(oarlock.errors.InputError, match=r"dim T is in \[1, 16\]"):
        oarlock.evaluate(program, np.zeros((1, 17, 8), "f4"))


def test_a_limit_in_the_code_narrows_a_range_without_end():
    def model(x):
        return x * 2 if x.shape[1] <= 32 else x.cumsum(1)

    with pytest.warns(UserWarning, match=r"test_sizes.py:\d+: T is in \[1, 32\]: above it"):
        program = same_as_eager(model, dynamic={0: "N", 1: "T"}, sizes=[(1, 5), (2, 32)])
    with pytest.raises(oarlock.errors.InputError, match=r"dim T is in \[1, 32\]"):
        oarlock.evaluate(program, np.zeros((1, 33, 8), "f4"))
    with pytest.raises(UnsupportedError, match="does not hold for every size"):
        same_as_eager(model, dynamic={0: "N", 1: Dim("T", max=64)})


def test_a_decision_is_tried_at_the_few_sizes_that_decide_otherwise():
    def causal(x):
        causal = bool(x.shape[1] > 1)
        return torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=causal)

    same_as_eager(causal, dynamic={0: "N", 1: "T"}, sizes=[(1, 1), (3, 1), (2, 4)])


def padded_by_parity(x):
    """The padding of TensorFlow: at either side, by what the size leaves over."""
    for _ in range(3):
        over = x.shape[2] % 2
        x = torch.nn.functional.pad(x, (1, 1, over, 1 - over))
        x = torch.nn.functional.avg_pool2d(x, 3, 2) if over == 0 else x[:, :, ::2, ::2]
    return x


def test_decisions_on_parity_hold_for_multiples():
    x = torch.randn(1, 2, 64, 64)
    program = oarlock.capture(
        padded_by_parity, (x,), dynamic={"x": {0: "N", 2: 64 * Dim("H"), 3: 64 * Dim("W")}}
    )
    x = torch.randn(3, 2, 128, 192)
    got = oarlock.evaluate(program, x.numpy())
    np.testing.assert_allclose(got, padded_by_parity(x).numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(UnsupportedError, match=r"decides on .*a multiple, such as 32 \* Dim"):
        oarlock.capture(padded_by_parity, (x,), dynamic={"x": {0: "N", 2: "H", 3: "W"}})


def test_a_truth_about_a_size_as_an_argument():
    def causal(x):
        y = torch.nn.functional.avg_pool1d(x.transpose(1, 2), 3).transpose(1, 2)
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(y, y, y, is_causal=y.shape[1] > 1)

    sizes = [(1, 3), (3, 5), (2, 6), (1, 40)]
    same_as_eager(causal, (1, 30, 8), dynamic={0: "N", 1: "T"}, sizes=sizes)


def test_small_sizes_that_decide_otherwise_are_given_up():
    def model(x):
        return x if x.shape[1] // 2 > 20 else x * 2

    program = oarlock.capture(model, (torch.randn(1, 44, 8),), dynamic={"x": {0: "N", 1: "T"}})
    assert program.dims["T"].bounds() == (42, None)
    with pytest.raises(oarlock.errors.InputError, match=r"dim T is in \[42, inf\]"):
        oarlock.evaluate(program, np.zeros((1, 41, 8), "f4"))
    with pytest.raises(UnsupportedError, match="the code decides on T < 50"):
        oarlock.capture(
            lambda x: x if x.shape[1] < 50 else x * 2,
            (torch.randn(1, 44, 8),), dynamic={"x": {1: Dim("T", max=99)}},
        )  # fmt: skip


def test_a_decision_on_a_remainder_is_tried_in_every_class():
    def padded(x):
        more = (4 - x.shape[1] % 4) % 4
        return torch.nn.functional.pad(x, (0, 0, 0, more)) if more > 0 else x

    dynamic = {0: "N", 1: "T"}
    same_as_eager(padded, dynamic=dynamic, sizes=[(1, 4), (3, 5), (2, 8), (1, 1)])
    with pytest.raises(UnsupportedError, match=r"Mod.*eager gives something else"):
        same_as_eager(lambda x: x * 2 if x.shape[1] % 4 > 0 else x, dynamic=dynamic)


def test_a_limit_on_a_padded_size_narrows_too():
    def model(x):
        return x * 2 if x.shape[1] - x.shape[1] % 4 + 4 <= 32 else x

    with pytest.warns(UserWarning, match=r"T is in \[1, 31\]"):
        same_as_eager(model, dynamic={0: "N", 1: "T"}, sizes=[(1, 4), (2, 31)])


def test_a_plain_number_of_a_size_is_refused_with_advice():
    with pytest.raises(UnsupportedError, match=r"test_sizes.py:\d+: .*as a plain number.*n // 2"):
        oarlock.capture(
            lambda x: x[:, : int(x.shape[1] * 0.5)], (torch.randn(1, 4),), dynamic={"x": {1: "T"}}
        )


def test_a_loop_over_a_size_is_one_problem():
    with pytest.raises(UnsupportedError, match="as a plain number") as error:
        oarlock.capture(
            lambda x: sum(x[:, i] * x.shape[1] for i in range(x.shape[1])) + x[:, 0],
            (torch.randn(1, 4),), dynamic={"x": {0: "N", 1: "T"}},
        )  # fmt: skip
    assert len(error.value.problems) == 1


def test_a_size_that_gives_something_else_is_refused():
    def model(x):
        return x * 2 if x.shape[1] == 1 else x

    with pytest.raises(UnsupportedError, match=r"test_sizes.py:\d+: .*with N=3, T=1 eager gives"):
        oarlock.capture(model, (torch.randn(1, 4, 8),), dynamic={"x": {0: "N", 1: "T"}})


def test_slices_from_the_end():
    same_as_eager(lambda x: x[:, -3:].sum(1), dynamic={0: "N", 1: "T"}, sizes=[(1, 2), (2, 5)])
    same_as_eager(lambda x: x[:, :-1], dynamic={0: "N", 1: "T"}, sizes=[(1, 2), (2, 5)])


def test_a_table_read_from_its_end_narrows_the_range():
    table = torch.randn(16, 8)

    def model(x):
        return x + table[max(0, table.shape[0] - x.shape[1]) :]

    program = same_as_eager(model, dynamic={0: "N", 1: "T"})
    assert program.dims["T"].bounds() == (1, 16)


def test_bounds_of_slices_that_are_tensors():
    def model(x):
        half = torch.tensor(min(x.shape[1], 6)) // 2
        return x[:, half : half + 1] * half

    same_as_eager(model)


def test_a_dim_that_comes_in_multiples_alone():
    def model(x):
        return x.reshape(x.shape[0], x.shape[1] // 4, 4).sum(-1)

    x = torch.randn(1, 8)
    program = oarlock.capture(model, (x,), dynamic={"x": {0: "N", 1: 4 * Dim("K")}})
    for shape in ((1, 8), (3, 20)):
        x = torch.randn(shape)
        assert torch.allclose(torch.from_numpy(oarlock.evaluate(program, x.numpy())), model(x))
    with pytest.raises(InputError, match="axis 1 is 9"):
        oarlock.evaluate(program, torch.randn(1, 9).numpy())


def test_a_decision_without_effect():
    def encoder(x, is_causal=False):
        y = torch.nn.functional.avg_pool2d(x, 4).flatten(2).transpose(1, 2)
        is_causal = y.shape[1] > 1 and is_causal
        return torch.nn.functional.scaled_dot_product_attention(y, y, y, is_causal=is_causal)

    x = torch.randn(1, 8, 8, 8)
    dynamic = {"x": {0: "N", 2: "H", 3: "W"}}
    program = oarlock.capture(encoder, (x,), dynamic=dynamic)
    for height, width in ((4, 4), (5, 7), (4, 12), (16, 20)):
        x = torch.randn(3, 8, height, width)
        got = oarlock.evaluate(program, x.numpy())
        np.testing.assert_allclose(got, encoder(x).numpy(), rtol=1e-5, atol=1e-6)


def test_a_decision_with_an_effect_on_few_values_is_refused():
    tables = torch.randn(40), torch.randn(40)

    def model(x):
        table = tables[0] if x.shape[1] * x.shape[2] > 90 else tables[1]
        return x.sum() + table

    with pytest.raises(UnsupportedError, match=r"test_sizes.py:\d+: the code decides on .* > 90"):
        oarlock.capture(model, (torch.randn(1, 8, 8),), dynamic={"x": {1: "H", 2: "W"}})
