"""What arguments, parameters, modules, optimizers and the modes around a call become between calls.

Each case is a generator of what its calls give: ``case(static)``, with ``static(f)`` or ``f`` itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

Static = Callable[[Any], Any]
Case = Callable[[Static], Iterator[Any]]
CASES: dict[str, Case] = {}


def case(make: Case) -> Case:
    CASES[make.__name__] = make
    return make


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def mix(x: torch.Tensor) -> torch.Tensor:
    return (x * x + x.sin()).sum(-1)


def slope(y: torch.Tensor, *given: torch.Tensor) -> list[Any]:
    """``y`` and the gradients that its backward leaves."""
    if y.requires_grad:
        y.sum().backward()
    return [y.detach(), *(None if x.grad is None else x.grad.clone() for x in given)]


# ---- arguments


@case
def needs_gradient(static):
    f = static(mix)
    for needs in (False, True, False, True, True):
        x = numbers(4, 3).requires_grad_(needs)
        yield f(x).requires_grad, slope(f(x), x)


@case
def leaf_or_not(static):
    f = static(mix)
    for times in (0, 1, 2, 0):
        leaf = numbers(4, 3).requires_grad_()
        x = leaf
        for _ in range(times):
            x = x * 2
        yield slope(f(x), leaf)


@case
def hook_of_an_argument(static):
    f = static(mix)
    for k in (0, 2, 3, 0):
        x = numbers(4, 3).requires_grad_()
        if k:
            x.register_hook(lambda g, k=k: g * k)
        yield slope(f(x), x)


@case
def hook_after_accumulation(static):
    f, seen = static(mix), []
    for k in (0, 1, 1, 0):
        x = numbers(4, 3).requires_grad_()
        if k:
            x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.sum().item()))
        yield slope(f(x), x), list(seen)


@case
def hook_that_drops_the_gradient(static):
    w = nn.Parameter(numbers(3))

    def step(x):
        (x * w).sum().backward()
        return None if w.grad is None else w.grad * 2

    f = static(step)
    for k in range(5):
        if k == 2:
            handle = w.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
        if k == 4:
            handle.remove()
        yield f(numbers(4, 3, seed=k)), w.grad is None


@case
def gradient_of_an_argument(static):
    f = static(lambda x: x * 2 if x.grad is None else x * x.grad)
    for k in (0, 1, 2, 0):
        x = numbers(3).requires_grad_()
        x.grad = torch.ones(3) * k if k else None
        yield slope(f(x), x)


@case
def gradients_add_up(static):
    w = nn.Parameter(numbers(3))

    def step(x):
        (x * w).sin().sum().backward()
        return w.grad.clone()

    f = static(step)
    for k in range(6):
        if k in (2, 5):
            w.grad = None
        if k == 3:
            w.grad = torch.zeros(3)
        if k == 4:
            w.grad = torch.ones(6)[::2]
        yield f(numbers(4, 3, seed=k)), w.grad.stride()


@case
def gradient_is_kept_by_somebody(static):
    w = nn.Parameter(numbers(3))

    def step(x):
        (x * w).sum().backward()
        return w.grad

    f, kept = static(step), []
    for k in range(4):
        kept.append(f(numbers(2, 3, seed=k)))
        yield [g.clone() for g in kept], [g is w.grad for g in kept]


@case
def strides(static):
    f = static(lambda x: (x.reshape(-1) * 2, x + 1, x.is_contiguous(), x.stride(0), mix(x)))
    whole = numbers(8, 8)
    for x in (
        numbers(4, 4), numbers(4, 4).t(), whole[2:6, 2:6], whole[::2, ::2], numbers(1, 4).expand(4, 4),
        numbers(4, 1).expand(4, 4), numbers(4, 4),
    ):  # fmt: skip
        for needs in (False, True):
            x = x.detach().requires_grad_(needs)
            found = f(x)
            yield found[:4], found[1].stride(), slope(found[4], x)


@case
def memory_format(static):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4))
    for p in net.parameters():
        p.data = numbers(*p.shape)
    f = static(net)
    for form in (torch.contiguous_format, torch.channels_last, torch.contiguous_format):
        x = numbers(2, 3, 6, 6).to(memory_format=form)
        y = f(x)
        yield y, y.is_contiguous(memory_format=form)
    net.to(memory_format=torch.channels_last)
    yield f(numbers(2, 3, 6, 6)), net[0].weight.stride()


@case
def view_of_strides(static):
    f = static(lambda x: x.view(-1) + 1)
    yield f(numbers(4, 4))
    try:
        yield f(numbers(4, 4).t())
    except RuntimeError as error:
        yield str(error)[:40]
    yield f(numbers(2, 8))


@case
def conjugate_and_negative(static):
    f = static(lambda x: (x * 2, x.is_conj(), x.is_neg(), torch.view_as_real(x.resolve_conj())))
    z = torch.complex(numbers(3), numbers(3, seed=1))
    for x in (z, z.conj(), z, z.conj().clone()):
        yield f(x)
    g = static(lambda x: (x + 1, x.is_neg()))
    yield g(z.imag), g(z.conj().imag), g(z.real)


@case
def arguments_that_are_one(static):
    def both(a, b):
        a.add_(1)
        return a + b, a is b

    f = static(both)
    for k in (0, 1, 0, 1):
        x, y = numbers(3), numbers(3, seed=1)
        yield f(x, x if k else y), x, y


@case
def arguments_that_overlap(static):
    def both(a, b):
        a.add_(1)
        b.mul_(2)
        return a + b

    f = static(both)
    for k in (0, 1, 2, 3, 0, 2):
        x = numbers(5)
        pairs = [
            (x[:3].clone(), x[2:].clone()),
            (x[:3], x[2:]),
            (x[:3], x[:3]),
            (x[:3], x[:3].view(3)),
        ]
        yield f(*pairs[k]), x


@case
def argument_that_is_a_parameter(static):
    w = nn.Parameter(numbers(3))
    f = static(lambda x: mix(x * w))
    for x in (numbers(3, seed=1), w, numbers(3, seed=1), w.detach(), w):
        w.grad = None
        yield slope(f(x), w)


@case
def argument_that_is_a_buffer_updated(static):
    b = numbers(3)

    def step(x):
        b.mul_(2)
        return x + b

    f = static(step)
    for x in (numbers(3, seed=1), b, b.view(3), numbers(3, seed=1), b):
        yield f(x), b.clone()


@case
def parameters_tied(static):
    one, two = nn.Linear(3, 3), nn.Linear(3, 3)
    for m, seed in ((one, 0), (two, 1)):
        m.weight.data, m.bias.data = numbers(3, 3, seed=seed), numbers(3, seed=seed)

    def step(x):
        y = two(one(x).tanh()).sum()
        y.backward()
        with torch.no_grad():
            for p in (one.weight, two.weight):
                p -= 0.1 * p.grad
                p.grad = None
        return y.detach()

    f, own = static(step), two.weight
    for k in range(6):
        if k == 2:
            two.weight = one.weight
            continue
        if k == 4:
            two.weight = own
        with contextlib.suppress(TypeError, AttributeError):
            yield f(numbers(4, 3, seed=k)), one.weight.detach().clone(), own.detach().clone()


@case
def tied_in_a_forward(static):
    one, two = nn.Linear(3, 3), nn.Linear(3, 3)
    for m, seed in ((one, 0), (two, 1)):
        m.weight.data, m.bias.data = numbers(3, 3, seed=seed), numbers(3, seed=seed)
    f, own = static(lambda x: two(one(x).tanh()).sum()), two.weight
    for k in range(6):
        two.weight = one.weight if k in (2, 3) else own
        if k == 5:
            two.weight = nn.Parameter(one.weight.detach())
        for p in (one.weight, two.weight):
            p.grad = None
        yield slope(f(numbers(4, 3)), one.weight, two.weight)


class Marked(torch.Tensor):
    """A subclass that tells its own name."""


class Doubled(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        found = super().__torch_function__(func, types, args, kwargs or {})
        return found * 2 if func is torch.Tensor.sin else found


@case
def subclass(static):
    f = static(lambda x: (x.sin() + 1, type(x).__name__))
    for kind in (None, nn.Parameter, None, Marked, Doubled, nn.Buffer, None):
        x = numbers(3)
        x = x if kind is None else (kind(x) if kind is nn.Parameter else x.as_subclass(kind))
        y, name = f(x)
        yield y.detach().as_subclass(torch.Tensor), name, isinstance(y, Marked), y.requires_grad


@case
def dtype(static):
    f = static(lambda x: (x * 2 + 1, x.sum(), x / 3, x.dtype))
    for kind in (
        torch.float32,
        torch.float64,
        torch.int64,
        torch.bfloat16,
        torch.bool,
        torch.float32,
    ):
        yield f(numbers(3).to(kind))


@case
def rank(static):
    f = static(lambda x: (x * 2).sum(-1))
    for shape in ((3,), (2, 3), (2, 2, 3), (1, 3), (0, 3), (3, 0), (3,)):
        yield f(numbers(*shape))


@case
def meta_and_layout(static):
    f = static(lambda x: x.to_dense() * 2 if x.is_sparse else x * 2)
    x = numbers(3, 3)
    for given in (x, x.to_sparse(), x, x.to("meta"), x.to_sparse_csr().to_dense(), x):
        y = f(given)
        yield (y.device.type, tuple(y.shape)) if y.is_meta else y


@case
def nested_arguments(static):
    f = static(lambda table, items: table["a"] * items[0] + len(items) + len(table))
    a, b = numbers(3), numbers(3, seed=1)
    for table, items in (
        ({"a": a}, [b]), ({"a": a, "b": b}, [b]), ({"a": a}, [b, a]), ({"a": a}, (b,)),
        ({"a": a}, [2.0]), ({"a": 2}, [b]), ({"a": a}, [a]), ({"a": b}, [b]),
    ):  # fmt: skip
        yield f(table, items)


# ---- what a call itself does to an argument or parameter


@case
def call_switches_the_gradient_of_an_argument(static):
    def switch(x):
        x.requires_grad_(True)
        return mix(x)

    f = static(switch)
    for needs in (False, True, False):
        x = numbers(4, 3).requires_grad_(needs)
        y = f(x)
        yield x.requires_grad, y.requires_grad, slope(y, x)


@case
def call_freezes_an_argument(static):
    def freeze(x):
        y = mix(x)
        x.requires_grad_(False)
        return y, mix(x)

    f = static(freeze)
    for needs in (True, False, True):
        x = numbers(4, 3).requires_grad_(needs)
        y, z = f(x)
        yield x.requires_grad, y.requires_grad, z.requires_grad


@case
def step_switches_the_gradient_of_an_argument(static):
    w = nn.Parameter(numbers(3))
    opt = torch.optim.SGD([w], lr=0.1)

    def step(x):
        x.requires_grad_(True)
        loss = (x * w).tanh().sum()
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss.detach(), x.grad

    f = static(step)
    for k in range(4):
        x = numbers(4, 3, seed=k)
        found = f(x)
        yield found, x.requires_grad, x.grad, w.detach().clone()


@case
def step_freezes_a_parameter(static):
    w, v = nn.Parameter(numbers(3)), nn.Parameter(numbers(3, seed=1))
    opt = torch.optim.SGD([w, v], lr=0.1)

    def step(x):
        loss = (x * w + v).tanh().sum()
        loss.backward()
        opt.step()
        opt.zero_grad()
        v.requires_grad_(False)
        return loss.detach()

    f = static(step)
    for k in range(5):
        if k == 3:
            v.requires_grad_(True)
        yield f(numbers(4, 3, seed=k)), v.requires_grad, w.detach().clone(), v.detach().clone()


@case
def call_detaches_in_place(static):
    def off(x):
        y = x * 2
        y.detach_()
        return y, y.requires_grad

    f = static(off)
    for needs in (True, False, True):
        yield f(numbers(3).requires_grad_(needs))


@case
def call_retains_a_gradient(static):
    def keep(x):
        y = x * 2
        y.retain_grad()
        mix(y).sum().backward()
        return y.grad, x.grad

    f = static(keep)
    for k in range(3):
        yield f(numbers(4, 3, seed=k).requires_grad_())


@case
def call_sets_a_gradient(static):
    def clear(x):
        x.grad = None
        mix(x).sum().backward()
        return x.grad.clone()

    f = static(clear)
    for k in range(4):
        x = numbers(4, 3, seed=k).requires_grad_()
        x.grad = torch.ones(4, 3) if k % 2 else None
        yield f(x), x.grad


@case
def call_resizes_an_argument(static):
    def more(x):
        x.unsqueeze_(0)
        return x + 1

    f = static(more)
    for k in range(3):
        x = numbers(3, seed=k)
        yield f(x), tuple(x.shape)


@case
def call_gives_an_argument_other_data(static):
    def other(x):
        x.data = x.data * 2
        return x + 1

    f = static(other)
    for k in range(3):
        x = numbers(3, seed=k)
        y = x
        yield f(x), y


# ---- modes around a call


def modes() -> dict[str, Callable[[], Any]]:
    return {
        "no_grad": torch.no_grad,
        "inference": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
        "autocast_half": lambda: torch.autocast("cpu", torch.float16),
        "autocast_no_cache": lambda: torch.autocast("cpu", torch.bfloat16, cache_enabled=False),
        "anomaly": lambda: torch.autograd.detect_anomaly(check_nan=True),
        "anomaly_no_nan": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
        "saved_hooks": lambda: torch.autograd.graph.saved_tensors_hooks(lambda x: x * 1, lambda x: x * 1),
        "saved_on_cpu": torch.autograd.graph.save_on_cpu,
        "no_multithreading": lambda: torch.autograd.set_multithreading_enabled(False),
        "device": lambda: torch.device("cpu"),
        "sdpa": lambda: nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH),
        "no_mkldnn": lambda: torch.backends.mkldnn.flags(enabled=False),
        "fork_rng": torch.random.fork_rng,
    }  # fmt: skip


@case
def mode_around(static):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    for i, p in enumerate(net.parameters()):
        p.data = numbers(*p.shape, seed=i)
    f = static(lambda x: net(x) + torch.ones(1))
    for name, mode in modes().items():
        for around in (contextlib.nullcontext, mode, mode, contextlib.nullcontext):
            net.zero_grad()
            x = numbers(4, 3).requires_grad_()
            with around():
                y = f(x)
            yield name, y.requires_grad, y.is_inference(), y.dtype, slope(y, x, net[0].weight)


@case
def mode_around_a_step(static):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    for i, p in enumerate(net.parameters()):
        p.data = numbers(*p.shape, seed=i)
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step(x):
        opt.zero_grad()
        loss = net(x).pow(2).mean()
        loss.backward()
        opt.step()
        return loss.detach()

    f = static(step)
    for name, mode in modes().items():
        if name in ("no_grad", "inference"):
            continue
        for around in (contextlib.nullcontext, mode, contextlib.nullcontext):
            with around():
                yield name, f(numbers(4, 3)), net[0].weight.detach().clone()


@case
def inference_tensors(static):
    f = static(lambda x: x * 2 + 1)
    with torch.inference_mode():
        inner = numbers(3)
    for x in (numbers(3), inner, numbers(3), inner):
        y = f(x)
        yield y.clone(), y.is_inference(), x.is_inference()
        with torch.inference_mode():
            y = f(x)
            yield y.clone(), y.is_inference()


@case
def default_dtype(static):
    f = static(lambda x: (x + torch.ones(3), torch.tensor([1.5]) * 2, torch.arange(3) / 2))
    for kind in (torch.float32, torch.float64, torch.float32, torch.bfloat16):
        torch.set_default_dtype(kind)
        try:
            yield f(torch.ones(3, dtype=torch.float32))
        finally:
            torch.set_default_dtype(torch.float32)


@case
def default_device(static):
    f = static(lambda x: (x.shape[0], torch.ones(3), torch.arange(2)))
    for name in ("cpu", "meta", "cpu"):
        with torch.device(name):
            found = f(numbers(3).to("cpu"))
        yield [x.device.type if isinstance(x, torch.Tensor) else x for x in found]


@case
def transforms_around(static):
    f = static(lambda x: (x * x).sin().sum())
    x = numbers(4, 3)
    yield f(x)
    yield torch.func.grad(f)(x)
    yield torch.func.vmap(f)(x)
    yield torch.func.vmap(torch.func.grad(f))(x)
    yield torch.func.jvp(f, (x,), (torch.ones_like(x),))
    yield torch.func.hessian(f)(x[0])
    yield f(x)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        yield torch.autograd.forward_ad.unpack_dual(f(dual)).tangent
    yield f(x)


@case
def transforms_with_parameters(static):
    net = nn.Linear(3, 2)
    net.weight.data, net.bias.data = numbers(2, 3), numbers(2)
    f = static(net)
    x = numbers(4, 3)
    yield f(x).detach()
    params = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    yield torch.func.functional_call(net, params, (x,))
    yield torch.func.vmap(lambda w: torch.func.functional_call(net, {**params, "weight": w}, (x,)))(
        numbers(5, 2, 3)
    )
    yield f(x).detach()


# ---- modules


def small() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    for i, p in enumerate(net.parameters()):
        p.data = numbers(*p.shape, seed=i)
    return net


@case
def module_is_changed(static):
    changes: list[Callable[[nn.Module], Any]] = [
        lambda m: None, lambda m: m.eval(), lambda m: m.train(), lambda m: m[1].eval(),
        lambda m: m.double(), lambda m: m.float(), lambda m: m.requires_grad_(False),
        lambda m: m[0].requires_grad_(True), lambda m: m.bfloat16(), lambda m: m.float(),
        lambda m: m.load_state_dict({k: v * 2 for k, v in m.state_dict().items()}),
        lambda m: m.load_state_dict({k: v / 2 for k, v in m.state_dict().items()}, assign=True),
        lambda m: parametrizations.weight_norm(m[0]),
        lambda m: parametrize.remove_parametrizations(m[0], "weight"),
        lambda m: parametrizations.orthogonal(m[3]),
        lambda m: parametrize.remove_parametrizations(m[3], "weight", leave_parametrized=False),
        lambda m: nn.utils.weight_norm(m[0]), lambda m: nn.utils.remove_weight_norm(m[0]),
        lambda m: parametrizations.spectral_norm(m[0]),
        lambda m: parametrize.remove_parametrizations(m[0], "weight"),
        lambda m: setattr(m[2], "p", 0.0), lambda m: setattr(m[1], "momentum", 0.5),
        lambda m: setattr(m, "2", nn.Identity()), lambda m: m.append(nn.Sigmoid()),
        lambda m: m[0].register_forward_hook(lambda m, a, y: y * 2),
        lambda m: m[0].register_full_backward_hook(lambda m, a, b: (a[0] * 2,)),
        lambda m: m.to_empty(device="cpu") and [nn.init.ones_(p) for p in m.parameters()] and None,
    ]  # fmt: skip
    net = small()
    f = static(lambda x: net(x.to(next(net.parameters()).dtype)).float())
    for i, change in enumerate(changes):
        change(net)
        torch.manual_seed(i)
        for x in (numbers(4, 3), numbers(4, 3, seed=1)):
            net.zero_grad()
            yield i, slope(f(x), *net.parameters()), [b.clone() for b in net.buffers()]


# ---- optimizers and steps


def stepped(make: Callable[[Any], torch.optim.Optimizer], static: Static, edits: list[Any]):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    for i, p in enumerate(net.parameters()):
        p.data = numbers(*p.shape, seed=i)
    box = {"opt": make(net.parameters())}

    def step(x):
        loss = net(x).pow(2).mean()
        loss.backward()
        box["opt"].step()
        box["opt"].zero_grad()
        return loss.detach()

    f = static(step)
    for edit in edits:
        edit(net, box)
        for k in range(2):
            yield f(numbers(4, 3, seed=k)), [p.detach().clone() for p in net.parameters()]


def edits() -> list[Any]:
    def groups(**new: Any) -> Any:
        return lambda net, box: box["opt"].param_groups[0].update(new)

    return [
        lambda net, box: None, groups(lr=0.5), groups(weight_decay=0.1), groups(lr=torch.tensor(0.2)),
        groups(lr=0.1), lambda net, box: net[0].weight.requires_grad_(False),
        lambda net, box: net[0].weight.requires_grad_(True),
        lambda net, box: box["opt"].load_state_dict(box["opt"].state_dict()),
        lambda net, box: box["opt"].state.clear(),
        lambda net, box: net[0].weight.data.mul_(2),
        lambda net, box: setattr(net[0].weight, "data", torch.ones(4, 3)),
        lambda net, box: setattr(net[0].weight, "grad", torch.ones(4, 3)),
        lambda net, box: [p.register_hook(lambda g: g * 2) for p in net[2].parameters()],
        lambda net, box: net.load_state_dict({k: v * 2 for k, v in net.state_dict().items()}),
        lambda net, box: box["opt"].param_groups[0]["params"].pop(),
        groups(maximize=True), groups(foreach=False), groups(foreach=None, maximize=False),
        lambda net, box: box["opt"].register_step_post_hook(
            lambda o, a, k: [p.data.mul_(0.9) for p in net[0].parameters()] and None
        ),
        lambda net, box: box.update(opt=torch.optim.SGD(net.parameters(), lr=0.1)),
        lambda net, box: box.update(opt=torch.optim.Adam(net.parameters(), lr=0.1)),
    ]  # fmt: skip


@case
def sgd_is_edited(static):
    yield from stepped(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), static, edits())


@case
def adam_is_edited(static):
    yield from stepped(lambda p: torch.optim.Adam(p, lr=0.1), static, edits())


@case
def adam_betas_are_edited(static):
    yield from stepped(
        lambda p: torch.optim.AdamW(p, lr=0.1), static,
        [
            lambda net, box: None,
            lambda net, box: box["opt"].param_groups[0].update(betas=(0.5, 0.9)),
            lambda net, box: box["opt"].param_groups[0].update(eps=0.1),
            lambda net, box: box["opt"].param_groups[0].update(amsgrad=False, lr=0.01),
        ],
    )  # fmt: skip


@case
def gradients_are_none_or_not(static):
    net = nn.Linear(3, 1)
    net.weight.data, net.bias.data = numbers(1, 3), numbers(1)
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.5)

    def step(x, clear):
        loss = net(x).pow(2).mean()
        loss.backward()
        opt.step()
        opt.zero_grad(set_to_none=clear)
        return loss.detach()

    f = static(step)
    for k, clear in enumerate((True, False, False, True, True, False)):
        yield f(numbers(4, 3, seed=k), clear), net.weight.grad, net.weight.detach().clone()
        if k == 3:
            net.weight.grad = torch.ones(1, 3)
