"""Static modules and functions inside of eager training loops: one autograd function."""

from __future__ import annotations

import copy
import gc
import io
import weakref
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import oarlock  # noqa: E402
from oarlock.capture.to_static import StaticFunction  # noqa: E402
from tests.train.test_step import Sequences, Transformer, assert_close, batches  # noqa: E402

EPS = 2.0**-23


def twins(make: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    """A static model and an equal eager one."""
    torch.manual_seed(0)
    static = oarlock.to_static(make())
    torch.manual_seed(0)
    return static, make()


def report(static: Any) -> str:
    return getattr(static, "forward", static).report()


def is_compiled(static: Any) -> bool:
    return "backward" in report(static) and "replayed" not in report(static)


def loop(model: nn.Module, given: list[Any], loss_of: Any, steps: int) -> Any:
    """Losses, gradients of the last step, what is left in the model."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for i in range(steps):
        torch.manual_seed(i)
        x, y = given[i % len(given)]
        loss = loss_of(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += [loss.detach(), torch.rand(1)]
    grads = [p.grad for p in model.parameters()]
    return [*losses, *grads, *model.parameters(), *model.buffers()]


def check(
    make: Callable[[], nn.Module], given: list[Any], loss_of: Any = F.cross_entropy, steps: int = 5
) -> Any:
    static, eager = twins(make)
    assert_close(loop(static, given, loss_of, steps), loop(eager, given, loss_of, steps), steps)
    assert is_compiled(static), report(static)
    assert len(static.forward.tapes) == 1 and len(static.forward.tapes[0].executor.steps) == 1
    (step,) = static.forward.tapes[0].executor.steps.values()
    return step


def mlp(dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 3))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, stride=2, groups=2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3),
    )  # fmt: skip


def test_mlp_with_dropout():
    check(lambda: mlp(0.3), batches(8, 6))


def test_convolutions_and_batch_norm():
    check(convolutional, batches(4, 3, 8, 8))


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
def test_recurrent_layers(layer):
    step = check(
        lambda: Sequences(layer, num_layers=2, dropout=0.3, batch_first=True), batches(4, 7, 5)
    )
    names = [n.name for n in step.joint.backward.graph.nodes]
    assert sum(name.endswith("_scan_grad") for name in names) == 2


class Looped(nn.Module):
    """A hand-written loop over a cell of torch's."""

    def __init__(self, cell: type) -> None:
        super().__init__()
        self.cell, self.out = cell(5, 8), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        state = None
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.out(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell])
def test_loops_over_cells(cell):
    check(lambda: Looped(cell), batches(4, 3, 5), steps=3)


def test_attention_layer_norm_embedding():
    torch.manual_seed(3)
    tokens = [(torch.randint(20, (4, 6)), torch.randint(3, (4,))) for _ in range(2)]
    check(Transformer, tokens)


def saved_by_eager(run: Callable[[], Any], model: nn.Module, *given: torch.Tensor) -> int:
    """Bytes that autograd saves beside the parameters and arguments, each storage once."""
    found: dict[int, int] = {}

    def note(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        found[storage._cdata] = storage.nbytes()
        alive.append(storage)
        return x

    alive: list[Any] = []
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        result = run()
    for x in (*model.parameters(), *model.buffers(), *given, result):
        found.pop(x.untyped_storage()._cdata, None)
    return sum(found.values())


@pytest.mark.parametrize("make", [mlp, convolutional])
def test_saves_at_most_what_eager_saves(make):
    x, _ = batches(16, 6)[0] if make is mlp else batches(16, 3, 8, 8)[0]
    static, eager = twins(make)
    static(x)
    (step,) = static.forward.tapes[0].executor.steps.values()
    slack = 64 * step.joint.saved  # places are aligned
    assert step.saved_bytes <= saved_by_eager(lambda: eager(x), eager, x) + slack


def gradients(call: Any, inputs: list[Any], *args: Any, **options: Any) -> Any:
    return torch.autograd.grad(call(*args).square().sum(), inputs, **options)


def function(x: Any, w: Any, b: Any) -> Any:
    return torch.tanh(x @ w + b)


def leaf(*shape: int, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return torch.randn(shape, requires_grad=True)


@pytest.mark.parametrize("needs", range(1, 8))
def test_every_subset_of_inputs(needs):
    given = [leaf(4, 5, seed=1), leaf(5, 3, seed=2), leaf(3, seed=3)]
    for i, x in enumerate(given):
        x.requires_grad_(bool(needs >> i & 1))
    static = oarlock.to_static(function)
    wanted = [x for x in given if x.requires_grad]
    want = gradients(function, wanted, *given)
    assert_close(gradients(static, wanted, *given), want, 1)
    assert_close(gradients(static, wanted, *given), want, 1)
    assert is_compiled(static)
    (step,) = static.tapes[0].executor.steps.values()
    assert len(step.joint.backward.graph.outputs) == len(wanted)


def test_a_new_subset_is_a_new_specialisation():
    static, w, b = oarlock.to_static(function), leaf(5, 3, seed=2), leaf(3, seed=3)
    x = torch.randn(4, 5)
    for _ in range(2):
        gradients(static, [w, b], x, w, b)
        b.requires_grad_(False)
        gradients(static, [w], x, w, b)
        b.requires_grad_(True)
    assert len(static.tapes) == 2 and is_compiled(static)


def test_a_frozen_layer():
    static, eager = twins(mlp)
    (x, y), *_ = batches(8, 6)
    for model in (static, eager):
        model[0].weight.requires_grad_(False)
        F.cross_entropy(model(x), y).backward()
        assert model[0].weight.grad is None
    grads = [[p.grad for p in m.parameters() if p.requires_grad] for m in (static, eager)]
    assert_close(*grads, 1)
    assert is_compiled(static)


def test_several_results_of_which_some_get_gradients():
    def heads(x: Any) -> Any:
        y = torch.sin(x)
        return {"a": y * 2, "b": (y * x, y.argmax(-1)), "c": x.detach() * 3, "d": None}

    static, x = oarlock.to_static(heads), leaf(4, 5)
    for name in ("a", "b", "both"):
        want, got = heads(x), static(x)
        assert got["b"][1].equal(want["b"][1]) and not got["b"][1].requires_grad
        assert not got["c"].requires_grad and got["d"] is None and got["a"].requires_grad
        sums = [
            r["a"].sum()
            if name == "a"
            else r["b"][0].sum() + (r["a"].sum() if name == "both" else 0)
            for r in (want, got)
        ]
        grads = [torch.autograd.grad(s, x)[0] for s in sums]
        assert_close(grads[1:], grads[:1], 1)
    assert is_compiled(static)


def test_results_with_graphs_of_their_own_are_replayed():
    """In eager each can be asked for its gradient, and its graph freed, without the others."""
    static, x = oarlock.to_static(lambda x: (x.sin(), x.exp())), leaf(4)
    for _ in range(2):
        a, b = static(x)
        a.sum().backward()
        b.sum().backward()
    assert "gradients have nothing in common" in report(static)


def test_results_that_share_memory_are_replayed():
    def views(x: Any) -> Any:
        y = x * 2
        return y, y[0]

    static, x = oarlock.to_static(views), leaf(4, 5)
    y, row = static(x)
    with torch.no_grad():
        y.zero_()
    assert not row.any() and "share memory" in report(static)


def test_a_result_that_is_a_view_of_an_argument_is_replayed():
    static, x = oarlock.to_static(lambda x: (x.t(), x * 2)), leaf(4, 5)
    assert static(x)[0].data_ptr() == x.data_ptr()
    assert "view of x" in report(static)


class Cache:
    """What libraries return beside a loss."""

    def __init__(self) -> None:
        self.layers: list[Any] = []
        self.name = "cache"


def test_results_in_objects():
    def call(x: Any) -> Any:
        cache = Cache()
        inner = Cache()
        y = x.sin()
        inner.layers.append(y.exp())
        cache.layers += [y * 2, inner]
        return y + 1, cache

    static, x = oarlock.to_static(call), leaf(3)
    found = [static(x) for _ in range(2)]
    for y, cache in found:
        assert type(cache) is Cache and cache.name == "cache" and type(cache.layers[1]) is Cache
        total = y.sum() + cache.layers[1].layers[0].sum()
        (grad,) = torch.autograd.grad(total, x, retain_graph=True)
        assert_close([grad], [x.cos() * (1 + x.sin().exp())], 1)
        (slope,) = torch.autograd.grad(cache.layers[0].square().sum(), x, create_graph=True)
        assert_close([slope], [8 * x.sin() * x.cos()], 1)
    assert found[0][1] is not found[1][1] and found[0][1].layers is not found[1][1].layers
    assert is_compiled(static)


def test_an_object_that_was_there_before_stays_itself():
    kept = Cache()
    kept.layers.append(torch.ones(3))
    static, x = oarlock.to_static(lambda x: (x * kept.layers[0], kept)), leaf(3)
    assert all(static(x)[1] is kept for _ in range(2))


def test_a_parameter_among_the_results():
    model = nn.Linear(3, 2)
    static = oarlock.to_static(lambda x: (model(x), model.weight))
    y, weight = static(torch.ones(1, 3))
    assert weight is model.weight
    (y.sum() + weight.sum()).backward()
    torch.testing.assert_close(model.weight.grad, torch.full((2, 3), 2.0))
    assert is_compiled(static)


def test_modes_and_no_grad(monkeypatch):
    monkeypatch.setattr(StaticFunction, "race", lambda *_: None)
    static, eager = twins(lambda: nn.Sequential(mlp(0.5), nn.BatchNorm1d(3)))
    (x, y), *_ = batches(8, 6)
    for i in range(6):
        found = []
        for model in (static, eager):
            torch.manual_seed(i)
            model.train(i % 2 == 0)
            with torch.set_grad_enabled(i % 3 != 2):
                loss = F.cross_entropy(model(x), y)
            if loss.requires_grad:
                model.zero_grad()
                loss.backward()
            found.append([loss.detach(), *model.buffers(), *(p.grad for p in model.parameters())])
        assert_close(*found, 1)
    assert "replayed" not in report(static), report(static)


def test_backward_twice_and_accumulation():
    static, eager = twins(mlp)
    (x, y), *_ = batches(8, 6)
    for model in (static, eager):
        for _ in range(2):
            loss = F.cross_entropy(model(x), y)
            loss.backward(retain_graph=True)
            loss.backward()
            with pytest.raises(RuntimeError, match="backward through the graph a second time"):
                loss.backward()
    grads = [[p.grad for p in m.parameters()] for m in (static, eager)]
    assert_close(*grads, 4)
    assert is_compiled(static)


def test_what_saves_nothing_can_run_backward_again():
    x = leaf(3)
    static = oarlock.to_static(lambda x: x + 1)
    for call in (static, static, static.fn):
        y = call(x).sum()
        y.backward()
        y.backward()
    assert x.grad.tolist() == [6.0] * 3 and is_compiled(static)


def test_several_calls_are_alive_at_once():
    static, eager = twins(lambda: mlp(0.3))
    given = batches(8, 6)
    for model in (static, eager):
        torch.manual_seed(5)
        losses = [F.cross_entropy(model(x), y) for x, y in (*given, *given)]
        for loss in losses[::2]:
            loss.backward()
        torch.stack(losses[1::2]).sum().backward()
    grads = [[p.grad for p in m.parameters()] for m in (static, eager)]
    assert_close(*grads, len(losses))


def test_two_calls_in_one_graph():
    """The second is of the first's result: an argument with a history."""
    static = oarlock.to_static(function)
    x, w, b = leaf(4, 5, seed=1), leaf(5, 5, seed=2), leaf(5, seed=3)
    for _ in range(3):
        want = gradients(lambda: function(function(x, w, b), w, b), [x, w, b])
        got = gradients(lambda: static(static(x, w, b), w, b), [x, w, b])
        assert_close(got, want, 1)
    assert is_compiled(static)


def test_hooks_of_parameters_run():
    static, eager = twins(mlp)
    (x, y), *_ = batches(8, 6)
    found: list[Any] = []
    for model in (static, eager):
        seen: list[str] = []
        model[0].weight.register_hook(lambda g, seen=seen: (seen.append("hook"), g * 2)[1])
        model[3].bias.register_post_accumulate_grad_hook(lambda p, seen=seen: seen.append("after"))
        for _ in range(2):
            F.cross_entropy(model(x), y).backward()
        found.append((sorted(seen), [p.grad for p in model.parameters()]))
    assert found[0][0] == found[1][0] == ["after"] * 2 + ["hook"] * 2
    assert_close(found[0][1], found[1][1], 2)
    assert is_compiled(static)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_around_a_static_module(reentrant):
    """Hooks count what a call saves, in the first call too, which captures and compares."""
    static, eager = twins(lambda: mlp(0.3))
    for model in (static, eager):
        torch.manual_seed(0)
        for seed in range(3):
            x = leaf(8, 6, seed=seed)
            checkpoint(model, x * 2, use_reentrant=reentrant).square().sum().backward()
    assert_close([p.grad for p in static.parameters()], [p.grad for p in eager.parameters()], 9)
    assert "replayed" not in report(static)


def test_saved_values_can_move():
    static, eager = twins(mlp)
    (x, y), *_ = batches(8, 6)
    for model in (static, eager):
        for _ in range(2):
            with torch.autograd.graph.save_on_cpu():
                loss = F.cross_entropy(model(x), y)
            loss.backward()
    assert_close([p.grad for p in static.parameters()], [p.grad for p in eager.parameters()], 2)


def test_replaced_parameters():
    static, eager = twins(mlp)
    (x, y), *_ = batches(8, 6)
    for model in (static, eager):
        for scale in (1.0, 0.5, 2.0):
            F.cross_entropy(model(x), y).backward()
            new = {k: v * scale for k, v in model.state_dict().items()}
            model.load_state_dict(new, assign=True)
        model[0].weight = nn.Parameter(model[0].weight.detach() * 2)
        F.cross_entropy(model(x), y).backward()
    assert_close([p.grad for p in static.parameters()], [p.grad for p in eager.parameters()], 1)
    assert is_compiled(static)


def test_copies_have_parameters_of_their_own():
    static, _ = twins(mlp)
    (x, y), *_ = batches(8, 6)
    F.cross_entropy(static(x), y).backward()
    grads = [p.grad.clone() for p in static.parameters()]
    buffer = io.BytesIO()
    torch.save(static, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(static), torch.load(buffer, weights_only=False)):
        other.zero_grad()
        F.cross_entropy(other(x), y).backward()
        assert_close([p.grad for p in other.parameters()], grads, 1)
        assert is_compiled(other)
    assert_close([p.grad for p in static.parameters()], grads, 1)


def test_a_changed_parameter_is_an_error_as_in_eager():
    for model in twins(mlp):
        (x, y), *_ = batches(8, 6)
        for name in ("3.weight", "0.weight"):
            for _ in range(2):
                loss = F.cross_entropy(model(x), y)
                with torch.no_grad():
                    model.get_parameter(name).add_(0.1)
                if name == "0.weight":  # no gradient reads it: that of x is not asked for
                    loss.backward()
                    continue
                with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                    loss.backward()


def test_a_changed_result_is_an_error_where_backward_reads_it():
    for call in (exp, oarlock.to_static(exp)):
        for _ in range(2):
            y = call(leaf(3))
            y.add_(1)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                y.sum().backward()
    for call in (double, oarlock.to_static(double)):
        x = leaf(3)
        for _ in range(2):
            y = call(x)
            y.add_(1)
            y.sum().backward()
        assert x.grad.tolist() == [4.0] * 3


def exp(x: Any) -> Any:
    return torch.exp(x)


def double(x: Any) -> Any:
    return x * 2


def test_double_backward():
    static = oarlock.to_static(function)
    x, w, b = leaf(4, 5, seed=1), leaf(5, 3, seed=2), leaf(3, seed=3)
    for _ in range(2):
        found = []
        for call in (static, function):
            (slope,) = gradients(call, [x], x, w, b, create_graph=True)
            penalty = (slope.norm(dim=1) - 1).square().sum()
            found.append(torch.autograd.grad(penalty, [x, w, b]))
        assert_close(*found, 1)
    assert is_compiled(static)


def test_third_derivatives():
    static, x = oarlock.to_static(lambda x: torch.sin(x) * x), leaf(5)
    static(x)
    found = []
    for call in (static, static.fn):
        y = call(x)
        for _ in range(3):
            (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        found.append(y)
    assert_close(found[:1], found[1:], 1)


def test_double_backward_with_an_argument_that_depends_on_a_parameter():
    """The gradient of the weight must not go through the argument's history."""
    model = nn.Linear(4, 4)
    static = oarlock.to_static(lambda x: torch.tanh(model(x)))
    found = []
    for call in (static, static, static.fn):
        x = model.weight * 2
        slopes = torch.autograd.grad(call(x).sum(), [x, model.weight], create_graph=True)
        total = sum(s.square().sum() for s in slopes)
        found.append([*slopes, *torch.autograd.grad(total, list(model.parameters()))])
    assert_close(found[1], found[2], 1)


def test_double_backward_with_dropout_and_batch_norm():
    static, eager = twins(lambda: nn.Sequential(mlp(0.5), nn.BatchNorm1d(3), nn.Tanh()))
    x = leaf(8, 6)
    for i in range(2):
        found = []
        for model in (static, eager):
            torch.manual_seed(i)
            y = model(x)
            torch.rand(1)
            (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
            grads = torch.autograd.grad(
                slope.square().sum(), list(model.parameters()), allow_unused=True
            )
            found.append([torch.rand(1), *(g for g in grads if g is not None), *model.buffers()])
        assert_close(*found, 4)
    assert is_compiled(static)


def test_double_backward_after_a_change_is_refused():
    x = leaf(4)
    static = oarlock.to_static(lambda x, y: x * x + y)
    for _ in range(2):
        y = torch.ones(4)
        z = static(x, y)
        y.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            torch.autograd.grad(z.sum(), x, create_graph=True)


def test_results_that_depend_on_state():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(3))
            self.register_buffer("count", torch.ones(()))

        def forward(self, x: Any) -> Any:
            self.count += 1
            return (x * self.w * self.count.clone()).exp()

    static, eager = twins(Scaled)
    for model in (static, eager):
        for _ in range(3):
            model(torch.full((3,), 0.1)).sum().backward()
    assert_close([static.w.grad, static.count], [eager.w.grad, eager.count], 3)
    if is_compiled(static):
        y = static(torch.full((3,), 0.1))
        with pytest.raises(RuntimeError, match="backend='replay'"):
            torch.autograd.grad(y.sum(), static.w, create_graph=True)


def test_batched_gradients():
    static = oarlock.to_static(function)
    x, w, b = leaf(4, 5, seed=1), leaf(5, 3, seed=2), leaf(3, seed=3)
    static(x, w, b)
    basis = torch.eye(12).view(12, 4, 3)
    found = [
        torch.autograd.grad(call(x, w, b), [x, w], basis, is_grads_batched=True)
        for call in (static, function)
    ]
    assert_close(*found, 1)


def test_transforms_see_the_tape():
    static, x = oarlock.to_static(lambda x: torch.sin(x).sum()), leaf(5)
    static(x), static(x)
    assert_close([torch.func.grad(static)(x)], [torch.cos(x)], 1)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.detach(), torch.ones(5))
        tangent = torch.autograd.forward_ad.unpack_dual(static(dual)).tangent
    assert_close([tangent], [torch.cos(x.detach()).sum()], 1)


def test_saved_values_are_freed():
    static, _ = twins(mlp)
    (x, y), *_ = batches(8, 6)
    static(x)
    x = x.clone()
    loss = F.cross_entropy(static(x), y)
    gone = weakref.ref(x)
    del x
    loss.backward()
    gc.collect()
    assert gone() is None, "the graph that was used up keeps its arguments"


def test_gradients_are_not_copied():
    static, _ = twins(mlp)
    (x, y), *_ = batches(8, 6)
    static(x)
    given: list[int] = []
    static[0].weight.register_hook(lambda g: given.append(g.data_ptr()))
    F.cross_entropy(static(x), y).backward()
    assert static[0].weight.grad.data_ptr() == given[0]


def test_another_batch_size():
    static, eager = twins(mlp)
    for n in (8, 3, 8, 5):
        (x, y), *_ = batches(n, 6)
        for model in (static, eager):
            model.zero_grad()
            F.cross_entropy(model(x), y).backward()
        assert_close([p.grad for p in static.parameters()], [p.grad for p in eager.parameters()], 1)
    assert is_compiled(static)


def test_strided_arguments_and_tangents():
    static, w, b = oarlock.to_static(function), leaf(5, 3, seed=2), leaf(3, seed=3)
    x = leaf(5, 4, seed=1)
    for _ in range(2):
        found = [
            torch.autograd.grad(call(x.t(), w, b).t().expand(2, 3, 4), [x, w], torch.ones(2, 3, 4))
            for call in (static, function)
        ]
        assert_close(*found, 1)
    assert is_compiled(static)


def test_a_static_loss():
    static = oarlock.to_static(lambda x, y: F.cross_entropy(x, y) + 0.1 * x.square().mean())
    model = mlp()
    for x, y in batches(8, 6):
        want = torch.autograd.grad(static.fn(model(x), y), list(model.parameters()))
        assert_close(torch.autograd.grad(static(model(x), y), list(model.parameters())), want, 1)
    assert is_compiled(static)


def errors_against_double(make: Callable[[], nn.Module], x: Any) -> list[list[float]]:
    """Errors of results and gradients under bf16 autocast: static, eager."""
    static, eager = twins(make)
    _, exact = twins(make)
    want = exact.double()(x.double())
    slopes = torch.autograd.grad(want.square().mean(), list(exact.parameters()))
    found = []
    for model in (static, static, eager):
        with torch.autocast("cpu", torch.bfloat16):
            y = model(x)
        assert y.dtype is torch.bfloat16
        grads = torch.autograd.grad(y.float().square().mean(), list(model.parameters()))
        found.append(
            [
                float((a.detach().double() - b.detach()).abs().max())
                for a, b in zip((y, *grads), (want, *slopes))
            ]
        )
    assert is_compiled(static)
    return [*found[1:], [float(b.detach().abs().max()) for b in (want, *slopes)]]


def test_bf16_autocast():
    """Input, weight, activation and result are rounded to 8 bits: four roundings of the largest."""
    torch.manual_seed(4)
    static, eager, scales = errors_against_double(mlp, torch.randn(32, 6))
    for a, b, scale in zip(static, eager, scales):
        assert a <= max(2 * b, 4 * 2.0**-8 * scale), (static, eager, scales)


def test_a_result_is_saved_once():
    """It is a reshape of what the backward pass reads."""
    static, x = oarlock.to_static(lambda x: torch.exp(x).reshape(2, 6).unsqueeze(0)), leaf(3, 4)
    for _ in range(2):
        y = static(x)
        assert y.shape == (1, 2, 6) and y._base is None
        y.sum().backward()
    assert_close([x.grad], [2 * torch.exp(x.detach())], 1)
    (step,) = static.tapes[0].executor.steps.values()
    assert step.saved_bytes == 0
    y = static(x)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_control_flow_stays_replayed():
    static, x = oarlock.to_static(lambda x: x * 2 if x.sum() > 0 else x * 3), leaf(3)
    static(x).sum().backward()
    assert "replayed: control flow" in report(static)


def test_wrong_gradients_are_rejected(monkeypatch, caplog):
    from oarlock.train.differentiable import BackwardRunner

    right = BackwardRunner.__call__
    monkeypatch.setattr(
        BackwardRunner, "__call__", lambda self, *given: [g * 1.01 for g in right(self, *given)]
    )
    static, eager = twins(mlp)
    (x, y), *_ = batches(8, 6)
    for model in (static, eager):
        F.cross_entropy(model(x), y).backward()
    assert_close([p.grad for p in static.parameters()], [p.grad for p in eager.parameters()], 1)
    assert "gradients" in report(static) and "replayed" in caplog.text


def test_wrong_gradients_inside_of_a_larger_model_are_rejected(monkeypatch):
    """The argument has a history: the check runs on copies."""
    from oarlock.train.differentiable import BackwardRunner

    right = BackwardRunner.__call__
    monkeypatch.setattr(
        BackwardRunner, "__call__", lambda self, *given: [g * 1.01 for g in right(self, *given)]
    )
    static, w, b = oarlock.to_static(function), leaf(5, 3, seed=2), leaf(3, seed=3)
    x = leaf(4, 5) * 2
    static(x, w, b)
    assert "gradients" in report(static)
