"""Clips as objects, and called with parameters."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import re
from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import oarlock  # noqa: E402
from oarlock.clip import (  # noqa: E402
    ClipGradAdaptive,
    ClipGradByGlobalNorm,
    ClipGradByNorm,
    ClipGradByValue,
)
from oarlock.errors import NonFiniteGradient, UnsupportedError, UserError  # noqa: E402
from tests.train import clipping  # noqa: E402
from tests.train.clipping import bound, double, many, parameter  # noqa: E402

CLIPS = {
    "value": (ClipGradByValue(0.3), lambda g, p: clipping.by_value(g, p, -0.3, 0.3)),
    "value_one_sided": (
        ClipGradByValue(0.5, -0.1),
        lambda g, p: clipping.by_value(g, p, -0.1, 0.5),
    ),
    "value_shifted": (ClipGradByValue(0.5, 0.2), lambda g, p: clipping.by_value(g, p, 0.2, 0.5)),
    "norm": (ClipGradByNorm(1.5), lambda g, p: clipping.by_norm(g, p, 1.5)),
    "global": (ClipGradByGlobalNorm(2.0), lambda g, p: clipping.by_global_norm(g, p, 2.0)),
    "adaptive": (ClipGradAdaptive(0.1), lambda g, p: clipping.adaptive(g, p, 0.1)),
    "adaptive_eps": (ClipGradAdaptive(0.5, 2.0), lambda g, p: clipping.adaptive(g, p, 0.5, 2.0)),
}
NORM_CLIPS = [ClipGradByNorm(1.5), ClipGradByGlobalNorm(2.0), ClipGradAdaptive(0.1)]
ALL = [clip for clip, _ in CLIPS.values()]
by_type = pytest.mark.parametrize("clip", ALL, ids=CLIPS)


def check(params, clip, expected, accumulate=torch.float32):
    grads = [double(p.grad) for p in params]
    total = math.sqrt(sum(np.sum(np.abs(g) ** 2) for g in grads))
    count = sum(g.size for g in grads)
    wanted = expected(grads, [double(p) for p in params])
    norm = clip(params)
    for p, w in zip(params, wanted):
        rtol = bound(p.dtype, count, accumulate)
        np.testing.assert_allclose(double(p.grad), w, rtol=rtol, atol=rtol * 1e-6)
    if isinstance(clip, ClipGradByValue):
        assert norm is None and clip.last_norm is None
        return
    assert norm.dtype is accumulate and norm.ndim == 0
    assert abs(float(norm) - total) <= (count / 2 + 2) * clipping.EPS[accumulate] * total
    assert torch.equal(norm, clip.last_norm)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("clip, expected", CLIPS.values(), ids=CLIPS)
def test_values(clip, expected, dtype, scale):
    check(many(dtype, scale), clip, expected, dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("clip, expected", CLIPS.values(), ids=CLIPS)
def test_narrow_types_add_in_fp32(clip, expected, dtype):
    check([p for p in many(dtype) if p.ndim or "value" not in str(clip)], clip, expected)


def test_fp16_norm_beyond_its_range():
    param = parameter(4096, dtype=torch.float16, scale=100.0)
    big = torch.full_like(param.grad, 6e4)
    param.grad = big.clone()
    norm = ClipGradByGlobalNorm(64.0)(param)
    assert math.isclose(float(norm), float(big[0]) * 64, rel_tol=4096 * 2**-24)
    assert torch.equal(param.grad, torch.ones_like(param.grad))


@pytest.mark.parametrize("clip, expected", CLIPS.values(), ids=CLIPS)
def test_mixed_types(clip, expected):
    kinds = [torch.float32, torch.bfloat16, torch.float16, torch.float32]
    check([parameter(3, 5 + i, dtype=d) for i, d in enumerate(kinds)], clip, expected)
    kinds = [torch.float32, torch.float64]
    check(
        [parameter(3, 5 + i, dtype=d) for i, d in enumerate(kinds)], clip, expected, torch.float64
    )


@pytest.mark.parametrize("clip", NORM_CLIPS, ids=str)
def test_small_gradients_are_left_as_they_are(clip):
    params = many(scale=1e-4)
    for p in params:
        p.data.add_(1)
    before = [p.grad.clone() for p in params]
    clip(params)
    assert all(torch.equal(p.grad, g) for p, g in zip(params, before))


def test_exactly_the_norm_is_not_scaled():
    param = nn.Parameter(torch.zeros(2))
    param.grad = torch.tensor([3.0, 4.0])
    for clip in (ClipGradByNorm(5.0), ClipGradByGlobalNorm(5.0)):
        assert float(clip(param)) == 5.0
        assert param.grad.tolist() == [3.0, 4.0]


@by_type
def test_zero_gradients_stay_zero(clip):
    param = nn.Parameter(torch.zeros(3, 2))
    param.grad = torch.zeros(3, 2)
    clip(param)
    low = clip.min if isinstance(clip, ClipGradByValue) else 0.0
    assert torch.equal(param.grad, torch.zeros(3, 2).clamp(min=low))


def test_no_gradient_and_no_parameter():
    silent = parameter(3, grad=False)
    for clip in ALL:
        assert not clip([silent]) and silent.grad is None
        with pytest.warns(UserWarning, match="no parameters to clip"):
            clip(iter([]))


def test_forms_of_parameters():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    forms = [
        lambda: model.parameters(),
        lambda: list(model.parameters()),
        lambda: model.named_parameters(),
        lambda: dict(model.named_parameters()).items(),
        lambda: [{"params": list(model[0].parameters())}, {"params": list(model[1].parameters())}],
        lambda: torch.optim.SGD(model.parameters()).param_groups,
        lambda: [*model.parameters(), *model.parameters()],
    ]
    results = []
    for form in forms:
        torch.manual_seed(0)
        model.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        results.append((float(ClipGradByGlobalNorm(0.1)(form())), model[0].weight.grad.clone()))
    assert all(norm == results[0][0] for norm, _ in results)
    assert all(torch.equal(grad, results[0][1]) for _, grad in results)
    with pytest.raises(TypeError, match=r"got a module; pass module.parameters\(\)"):
        ClipGradByNorm(1.0)(model)
    with pytest.raises(TypeError, match=r"use clip.attach\(optimizer\)"):
        ClipGradByNorm(1.0)(torch.optim.SGD(model.parameters()))
    with pytest.raises(TypeError, match=r"parameter 1: expected a tensor or a .* got int"):
        ClipGradByNorm(1.0)([model[0].weight, 3])
    with pytest.raises(TypeError, match="expected parameters, got float"):
        ClipGradByNorm(1.0)(2.0)


@by_type
def test_need_clip(clip):
    free, group_free, mine = (parameter(4, 3, scale=9.0, seed=i) for i in range(3))
    alone = copy.deepcopy(mine)
    alone.grad = mine.grad.clone()
    free.need_clip = False
    kept = free.grad.clone(), group_free.grad.clone()
    groups = [{"params": [free, mine]}, {"params": [group_free], "need_clip": False}]
    norm = clip(groups)
    assert torch.equal(free.grad, kept[0]) and torch.equal(group_free.grad, kept[1])
    assert norm == clip([alone]) and torch.equal(mine.grad, alone.grad)


@pytest.mark.parametrize("clip", NORM_CLIPS, ids=str)
def test_complex(clip):
    torch.manual_seed(0)
    param = nn.Parameter(torch.randn(4, 3, dtype=torch.complex64))
    flat = nn.Parameter(torch.randn(5, dtype=torch.complex64))
    param.grad = torch.randn(3, 4, dtype=torch.complex64).T.conj()  # conjugated lazily, strided
    flat.grad = torch.randn(5, dtype=torch.complex64)
    expected = next(e for c, e in CLIPS.values() if c is clip or c == clip)
    grads = [double(p.grad.resolve_conj()) for p in (param, flat)]
    wanted = expected(grads, [double(param), double(flat)])
    clip([param, flat])
    for p, w in zip((param, flat), wanted):
        np.testing.assert_allclose(double(p.grad), w, rtol=bound(torch.float32, 34) * 2)


def test_values_of_complex_numbers_are_refused():
    param = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    param.grad = torch.ones(2, dtype=torch.complex64)
    with pytest.raises(UnsupportedError, match="complex numbers have no order"):
        ClipGradByValue(1.0)(param)


def sparse_parameter():
    table = nn.Embedding(6, 3, sparse=True)
    with torch.no_grad():
        table.weight.copy_(torch.arange(18.0).view(6, 3) / 9)
    rows = torch.tensor([1, 4, 1, 1])
    (table(rows) * torch.arange(12.0).view(4, 3)).sum().backward()
    return table.weight


@pytest.mark.parametrize("name", ["value", "norm", "global", "adaptive"])
def test_sparse_gradients_are_coalesced(name):
    clip, expected = CLIPS[name]
    param, other = sparse_parameter(), parameter(4)
    assert not param.grad.is_coalesced()
    grads = [double(param.grad), double(other.grad)]
    wanted = expected(grads, [double(param), double(other)])
    clip([param, other])
    assert param.grad.is_sparse and param.grad.is_coalesced()
    for p, w in zip((param, other), wanted):
        np.testing.assert_allclose(double(p.grad), w, rtol=bound(torch.float32, 22))


def test_values_of_csr_gradients_are_clipped_where_stored():
    param = nn.Parameter(torch.zeros(3, 3).to_sparse_csr())
    param.grad = torch.tensor([[0.0, 3, 0], [0, 0, 4], [0, 0, 0]]).to_sparse_csr()
    assert float(ClipGradByGlobalNorm(1.0)(param)) == 5.0
    np.testing.assert_allclose(
        double(param.grad), [[0, 0.6, 0], [0, 0, 0.8], [0, 0, 0]], rtol=bound(torch.float32, 2)
    )
    with pytest.raises(UnsupportedError, match="no units along the first"):
        ClipGradAdaptive(0.1)(param)


def test_gradient_views_are_written_in_place():
    param = nn.Parameter(torch.zeros(3, 2))
    whole = torch.full((2, 6), 10.0)
    param.grad = whole[:, ::2].T
    ClipGradByValue(1.0)(param)
    assert whole[:, ::2].eq(1).all() and whole[:, 1::2].eq(10).all()


def test_values_beyond_a_narrow_type():
    param = parameter(3, dtype=torch.float16)
    param.grad = torch.tensor([6e4, -6e4, 1.0], dtype=torch.float16)
    ClipGradByValue(1e6)(param)
    assert param.grad.tolist() == [60000.0, -60000.0, 1.0]


def test_nan_and_infinity_follow_arithmetic_unless_refused():
    param = nn.Parameter(torch.zeros(3))
    param.grad = torch.tensor([1.0, math.inf, 1.0])
    assert float(ClipGradByGlobalNorm(1.0)(param)) == math.inf
    assert param.grad.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    "kind", [ClipGradByValue, ClipGradByNorm, ClipGradByGlobalNorm, ClipGradAdaptive]
)
def test_error_names_the_first_bad_parameter(kind):
    clip = kind(1.0, error_if_nonfinite=True)
    good, bad = parameter(4, scale=50.0), parameter(2, 3)
    bad.grad[1, 2], bad.grad[0, 1] = math.nan, -math.inf
    before = good.grad.clone(), bad.grad.clone()
    text = (
        "gradient of 'fc.weight' (group 0, index 1, float32[2, 3]): 1 NaN and 1 infinite of 6 "
        "values; no gradient was changed; skip this step, or find the cause with "
        "torch.autograd.set_detect_anomaly(True)"
    )
    with pytest.raises(NonFiniteGradient, match=f"^{re.escape(text)}$"):
        clip([("fc.bias", good), ("fc.weight", bad), ("x", bad)])
    assert torch.equal(good.grad, before[0])
    np.testing.assert_array_equal(bad.grad, before[1])
    with pytest.raises(RuntimeError, match=r"gradient of parameter \(group 1, index 0, float32"):
        clip([{"params": [good]}, {"params": [bad]}])
    bad.need_clip = False
    assert torch.isfinite(clip([good, bad])) and torch.isfinite(clip.last_norm)


def test_overflow_of_the_total_is_told_apart():
    params = [parameter(1), parameter(1)]
    for p in params:
        p.grad = torch.tensor([1.7e19])
    with pytest.raises(NonFiniteGradient, match="norm of 2 finite gradients overflows"):
        ClipGradByGlobalNorm(1.0, error_if_nonfinite=True)(params)


class NoRead(TorchDispatchMode):
    """Refuses what makes the host wait."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket not in (
            torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.equal
        ), func  # fmt: skip
        return func(*args, **(kwargs or {}))


@by_type
def test_no_host_synchronisation(clip):
    params = [*many(), parameter(3, dtype=torch.float64), parameter(3, dtype=torch.bfloat16)]
    with NoRead():
        clip(params)
    with pytest.raises(AssertionError), NoRead():
        dataclasses.replace(clip, error_if_nonfinite=True)(params)


@by_type
def test_small_immutable_objects(clip):
    name = dataclasses.fields(clip)[-1].name
    with pytest.raises(AttributeError):
        setattr(clip, name, 7.0)
    clip(parameter(3))
    for twin in (copy.copy(clip), copy.deepcopy(clip), pickle.loads(pickle.dumps(clip))):
        assert twin == clip and hash(twin) == hash(clip) and type(twin) is type(clip)
        assert twin.last_norm is None
    assert eval(repr(clip)) == clip
    assert clip != dataclasses.replace(clip, error_if_nonfinite=True)


def test_last_norm_is_a_tensor_of_its_own():
    clip, param = ClipGradByNorm(1.0), parameter(3)
    assert clip.last_norm is None
    first = clip(param)
    kept = clip.last_norm
    param.grad = torch.full((3,), 9.0)
    clip(param)
    assert torch.equal(kept, first) and not torch.equal(clip.last_norm, first)


BAD = [
    (lambda x: ClipGradByNorm(x), "ClipGradByNorm: clip_norm"),
    (lambda x: ClipGradByGlobalNorm(x), "ClipGradByGlobalNorm: clip_norm"),
    (lambda x: ClipGradAdaptive(x), "ClipGradAdaptive: clip_factor"),
    (lambda x: ClipGradAdaptive(0.1, x), "ClipGradAdaptive: eps"),
    (lambda x: ClipGradByValue(x), "ClipGradByValue: max"),
]


@pytest.mark.parametrize("make, where", BAD, ids=[w for _, w in BAD])
def test_bad_arguments(make, where):
    for value in (0, 0.0, -1, -math.inf, math.inf, math.nan, 1e39, 10**400):
        with pytest.raises(ValueError, match=f"{where}: expected ") as caught:
            make(value)
        assert isinstance(caught.value, UserError)
    for value in (True, "1", [1.0], torch.tensor(1.0), 1j, np.array([1.0])):
        with pytest.raises(TypeError, match=f"{where}: expected a number, got ") as caught:
            make(value)
        assert isinstance(caught.value, UserError)
    for value in (1, np.float32(1), np.int64(1), Fraction(1)):
        assert make(value) == make(1.0) and type(dataclasses.astuple(make(value))[-1]) is float


def test_bad_pairs():
    with pytest.raises(ValueError, match=r"expected min <= max, got min=2.0, max=1.0"):
        ClipGradByValue(1, 2)
    with pytest.raises(ValueError, match=r"max: expected > 0 when min is left out, got 0.0"):
        ClipGradByValue(0)
    assert ClipGradByValue(-1, -2).max == -1.0 and ClipGradByValue(0, 0).min == 0.0
    assert ClipGradByValue(2) == ClipGradByValue(max=2.0, min=-2.0)
    for value in (math.nan, math.inf, True, torch.tensor(-1.0)):
        with pytest.raises((TypeError, ValueError), match="ClipGradByValue: min: expected"):
            ClipGradByValue(1.0, value)
    with pytest.raises(ValueError, match=r"at least 1.18e-38"):
        ClipGradByNorm(1e-40)
    with pytest.raises(ValueError, match=r"clip_factor \* eps"):
        ClipGradAdaptive(1e-20, 1e-20)
    with pytest.raises(TypeError, match="error_if_nonfinite: expected a bool, got 1"):
        ClipGradByNorm(1.0, error_if_nonfinite=1)
    with pytest.raises(TypeError):
        ClipGradByNorm(1.0, True)


def test_units_of_layers():
    """One step along each unit's own bound, whatever the other units do."""
    layers = [nn.Linear(5, 3), nn.Conv1d(2, 3, 3), nn.Conv2d(2, 3, 3), nn.Conv3d(2, 3, 3)]
    for layer in layers:
        with torch.no_grad():
            for p in layer.parameters():
                p.fill_(1.0)
        weight, bias = layer.weight, layer.bias
        weight.grad, bias.grad = torch.zeros_like(weight), torch.zeros_like(bias)
        weight.grad[1], bias.grad[1] = 100.0, 100.0
        weight.grad[2] = 1e-3
        ClipGradAdaptive(0.5)(layer.parameters())
        unit = weight[0].numel()
        rtol = bound(torch.float32, unit)
        np.testing.assert_allclose(weight.grad[1].norm(), 0.5 * math.sqrt(unit), rtol=rtol)
        assert torch.equal(weight.grad[2], torch.full_like(weight.grad[2], 1e-3))
        assert weight.grad[0].eq(0).all()
        np.testing.assert_allclose(bias.grad.norm(), 0.5 * math.sqrt(3), rtol=rtol)


def test_exported():
    assert oarlock.clip.ClipGradByNorm is ClipGradByNorm and "clip" in dir(oarlock)
