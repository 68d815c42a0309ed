"""Clips attached to optimizers: the same as clipping by hand before each step."""

from __future__ import annotations

import copy
import io
import math
import pickle

import pytest

torch = pytest.importorskip("torch")
import torch.distributed as dist  # noqa: E402
from torch import nn  # noqa: E402
from torch.distributed.optim import ZeroRedundancyOptimizer  # noqa: E402

import oarlock  # noqa: E402
from oarlock.clip import (  # noqa: E402
    ClipGradAdaptive,
    ClipGradByGlobalNorm,
    ClipGradByNorm,
    ClipGradByValue,
)
from oarlock.errors import NonFiniteGradient, UnsupportedError, UserError  # noqa: E402

CLIPS = [
    ClipGradByValue(0.01),
    ClipGradByNorm(0.1),
    ClipGradByGlobalNorm(0.1),
    ClipGradAdaptive(0.01),
]
each_clip = pytest.mark.parametrize("clip", CLIPS, ids=lambda c: type(c).__name__)


def sgd(p, **kw):
    return torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, **kw)


def adamw(p, **kw):
    return torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, **kw)


OPTIMIZERS = {
    "sgd": sgd,
    "sgd_foreach": lambda p: sgd(p, foreach=True),
    "sgd_fused": lambda p: sgd(p, fused=True),
    "adamw": lambda p: adamw(p, foreach=False),
    "adamw_foreach": lambda p: adamw(p, foreach=True),
    "adamw_fused": lambda p: adamw(p, fused=True),
    "adam_amsgrad": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "rprop": torch.optim.Rprop,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adamax": torch.optim.Adamax,
    "asgd": torch.optim.ASGD,
}


def model_and_data():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    return model, torch.randn(6, 4) * 5, torch.randn(6, 2) * 5


def loss_of(model, x, y):
    return (model(x) - y).square().mean()


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))


def by_hand(make, clip, steps=3):
    model, x, y = model_and_data()
    optimizer = make(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        clip(model.parameters())
        optimizer.step()
    return model


@each_clip
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_steps_equal_clipping_by_hand(make, clip):
    expected = by_hand(make, clip)
    for with_closure in (False, True):
        model, x, y = model_and_data()
        optimizer = make(model.parameters())

        def closure(model=model, optimizer=optimizer, x=x, y=y):
            optimizer.zero_grad()
            loss = loss_of(model, x, y)
            loss.backward()
            return loss

        with clip.attach(optimizer) as handle:
            for _ in range(3):
                loss = optimizer.step(closure) if with_closure else closure()
                assert loss is not None
                if not with_closure:
                    optimizer.step()
        assert same(model, expected)
        assert handle.last_norm == clip.last_norm


def test_sparse_adam():
    def run(attach):
        torch.manual_seed(0)
        table = nn.Embedding(5, 3, sparse=True)
        optimizer = torch.optim.SparseAdam(table.parameters(), lr=0.1)
        clip = ClipGradByGlobalNorm(0.1)
        handle = clip.attach(optimizer) if attach else None
        for _ in range(3):
            optimizer.zero_grad()
            table(torch.tensor([1, 1, 3])).square().sum().backward()
            if not attach:
                clip(table.parameters())
            optimizer.step()
        assert handle is None or handle.last_norm > 0.1
        return table

    assert same(run(True), run(False))


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_sees_clipped_gradients_only(search):
    def run(attach):
        model, x, y = model_and_data()
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5, line_search_fn=search)
        clip, norms = ClipGradByGlobalNorm(0.5), []

        def closure():
            optimizer.zero_grad()
            loss = loss_of(model, x, y)
            loss.backward()
            if not attach:
                norms.append(float(clip(model.parameters())))
            return loss

        if attach:
            clip.attach(optimizer)
        for _ in range(2):
            optimizer.step(closure)
        assert attach or len(norms) > 4
        return model

    assert same(run(True), run(False))


def test_closure_as_keyword_and_its_result():
    model, x, y = model_and_data()
    optimizer = sgd(model.parameters())
    ClipGradByNorm(0.1).attach(optimizer)

    def closure():
        loss = loss_of(model, x, y)
        loss.backward()
        return loss

    assert optimizer.step(closure=closure).item() > 0
    assert all(p.grad.norm() < 0.1001 for p in model.parameters())


def test_param_groups():
    def run(attach):
        model, x, y = model_and_data()
        optimizer = torch.optim.SGD(
            [
                {"params": model[0].named_parameters(), "lr": 0.5},
                {"params": model[2].named_parameters(), "need_clip": False},
            ],
            lr=0.1,
        )
        model[0].bias.need_clip = False
        clip = ClipGradByGlobalNorm(0.1)
        handle = clip.attach(optimizer) if attach else None
        loss_of(model, x, y).backward()
        if not attach:
            clip([model[0].weight])
        else:
            expected = model[0].weight.grad.norm()
        optimizer.step()
        if handle:
            assert torch.allclose(handle.last_norm, expected, rtol=1e-6, atol=0)
        return model

    assert same(run(True), run(False))


def test_two_are_an_error_until_one_is_removed():
    optimizer = sgd(nn.Linear(2, 2).parameters())
    clip, other = ClipGradByNorm(1.0), ClipGradByValue(1.0)
    handle = clip.attach(optimizer)
    for again in (clip, other):
        with pytest.raises(
            UserError, match=r"SGD already has ClipGradByNorm\(clip_norm=1.0\) attached"
        ):
            again.attach(optimizer)
    assert repr(handle) == "<ClipGradByNorm(clip_norm=1.0), attached to SGD>"
    handle.remove()
    handle.remove()
    assert repr(handle) == "<ClipGradByNorm(clip_norm=1.0), removed>"
    with other.attach(optimizer) as second:
        handle.remove()
        assert second.is_attached and not handle.is_attached
    clip.attach(optimizer)
    clip.attach(sgd(nn.Linear(2, 2).parameters()))


def test_removed_clips_do_nothing():
    model, x, y = model_and_data()
    plain = copy.deepcopy(model)
    for net in (model, plain):
        optimizer = sgd(net.parameters())
        if net is model:
            with ClipGradByValue(1e-6).attach(optimizer):
                pass
        loss_of(net, x, y).backward()
        optimizer.step()
    assert same(model, plain)


def test_what_cannot_be_attached():
    clip = ClipGradByNorm(1.0)
    model = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"expected a torch.optim.Optimizer, got Linear"):
        clip.attach(model)

    class Wrapper(torch.optim.Optimizer):
        def __init__(self, inner):
            self.inner = inner
            self.param_groups = inner.param_groups

        def step(self, closure=None):
            return self.inner.step(closure)

    with pytest.raises(UnsupportedError, match="attach to the optimizer that it wraps"):
        clip.attach(Wrapper(sgd(model.parameters())))
    with pytest.raises(UnsupportedError, match="differentiable=True"):
        clip.attach(torch.optim.SGD(model.parameters(), lr=0.1, differentiable=True))


def test_a_step_that_calls_that_of_its_base_clips_once():
    class Noted(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    sgd(nn.Linear(1, 1).parameters())
    model, x, y = model_and_data()
    optimizer = Noted(model.parameters(), lr=0.1)
    handle = ClipGradByGlobalNorm(0.1).attach(optimizer)
    for fails in (False, True, False):
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        if fails:
            with pytest.raises(ZeroDivisionError):
                optimizer.step(lambda: 1 / 0)
            continue
        optimizer.step()
        assert torch.allclose(handle.last_norm, norm, rtol=1e-6, atol=0) and norm > 0.2


def test_learning_rate_schedules_and_accumulation():
    def run(attach):
        model, x, y = model_and_data()
        optimizer = adamw(model.parameters())
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        clip = ClipGradByGlobalNorm(0.1)
        if attach:
            clip.attach(optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            for part in range(3):
                loss_of(model, x[part::3], y[part::3]).backward()
            if not attach:
                clip(model.parameters())
            optimizer.step()
            schedule.step()
        return model

    assert same(run(True), run(False))


@each_clip
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("unscaled", [False, True])
def test_scaled_gradients_are_clipped_as_unscaled(clip, make, fused, unscaled):
    """A scale that is a power of two changes no bit of what is computed."""
    expected = by_hand(lambda p: make(p, fused=fused), clip)
    model, x, y = model_and_data()
    optimizer = make(model.parameters(), fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    handle = clip.attach(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        scaler.scale(loss).backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm() / 2**10
        if unscaled:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        if not isinstance(clip, ClipGradByValue):
            assert torch.allclose(handle.last_norm, norm, rtol=1e-6, atol=0)
    assert same(model, expected)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_skips_raises_nothing(fused):
    model, x, y = model_and_data()
    before = copy.deepcopy(model)
    optimizer = sgd(model.parameters(), fused=fused)
    ClipGradByGlobalNorm(1.0, error_if_nonfinite=True).attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(loss_of(model, x * math.inf, y)).backward()
    scaler.step(optimizer)
    scaler.update()
    assert same(model, before) and scaler.get_scale() == 2.0**9


def test_error_names_parameters_of_the_optimizer():
    model, x, y = model_and_data()
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    ClipGradByNorm(1.0, error_if_nonfinite=True).attach(optimizer)
    before = copy.deepcopy(model)
    loss_of(model, x, y).backward()
    model[2].weight.grad[0, 0] = math.nan
    with pytest.raises(
        NonFiniteGradient, match=r"'2.weight' \(group 0, index 2, float32\[2, 8\]\)"
    ):
        optimizer.step()
    assert same(model, before)


def test_checkpoints():
    model, x, y = model_and_data()
    optimizer = adamw(model.parameters())
    handle = ClipGradByGlobalNorm(0.1).attach(optimizer)

    def step(model, optimizer):
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        optimizer.step()

    step(model, optimizer)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = model_and_data()[0]
    resumed = adamw(other.parameters())
    ClipGradByGlobalNorm(0.1).attach(resumed)
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    step(model, optimizer)
    step(other, resumed)
    assert same(model, other) and handle.is_attached
    assert "need_clip" not in saved["optimizer"]["param_groups"][0]


def test_copies_of_an_optimizer_carry_no_clip():
    optimizer = sgd(nn.Linear(2, 2).parameters())
    clip = ClipGradByNorm(1.0)
    clip.attach(optimizer)
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert clip.attach(twin).is_attached


def test_an_attached_optimizer_is_freed():
    import gc
    import weakref

    optimizer = sgd(nn.Linear(2, 2).parameters())
    handle = ClipGradByNorm(1.0).attach(optimizer)
    optimizer.step()
    alive = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert alive() is None and not handle.is_attached and "removed" in repr(handle)


def test_last_norm_of_handle_and_clip():
    clip = ClipGradByNorm(1.0)
    first, second = nn.Linear(2, 2), nn.Linear(2, 2).double()
    handles = []
    for model in (first, second):
        optimizer = sgd(model.parameters())
        handle = clip.attach(optimizer)
        assert handle.last_norm is None
        dtype = model.weight.dtype
        model(torch.ones(1, 2, dtype=dtype)).sum().backward()
        optimizer.step()
        assert handle.last_norm.dtype is dtype and torch.equal(handle.last_norm, clip.last_norm)
        handles.append(handle)
    assert handles[0].last_norm.dtype is torch.float32


def test_zero_redundancy_optimizer(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        clip = ClipGradByGlobalNorm(0.1)
        expected = by_hand(adamw, clip)
        model, x, y = model_and_data()
        optimizer = ZeroRedundancyOptimizer(
            model.parameters(), torch.optim.AdamW, lr=0.1, weight_decay=0.1
        )
        clip.attach(optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            optimizer.step()
        assert same(model, expected)
        early = ZeroRedundancyOptimizer(
            model.parameters(), torch.optim.SGD, overlap_with_ddp=True, lr=0.1
        )
        with pytest.raises(UnsupportedError, match="overlap_with_ddp"):
            clip.attach(early)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("backend", ["replay", "auto"])
def test_what_static_steps_leave_out_may_change(backend):
    def made():
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 3)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        oarlock.clip.ClipGradByValue(0.01).attach(optimizer)

        def step(x):
            net(x).pow(2).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

        return net, optimizer, step

    (net, optimizer, step), (twin, other, eager) = made(), made()
    static = oarlock.to_static(step, backend=backend)
    for i in range(6):
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(i))
        static(x), eager(x)
        for a, b in zip(net.parameters(), twin.parameters()):
            torch.testing.assert_close(a, b)
        for model, o in ((net, optimizer), (twin, other)):
            if i == 2:
                model.bias.need_clip = False
            if i == 4:
                o.param_groups[0]["need_clip"] = False
