"""``torch.autograd.Function`` classes of the user: whatever their context holds, wherever they stand."""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from tests.constructs.case import case, r, t

POS, NEG = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0)


class Pair(Function):
    @staticmethod
    def forward(x, y, scale=2.0):
        return x * y * scale, x + y

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, y, scale = inputs
        ctx.save_for_backward(x, y)
        ctx.scale = scale

    @staticmethod
    def backward(ctx, g, h):
        x, y = ctx.saved_tensors
        gx = g * y * ctx.scale + h if ctx.needs_input_grad[0] else None
        gy = g * x * ctx.scale + h if ctx.needs_input_grad[1] else None
        return gx, gy, None


@case((POS, NEG), (NEG, NEG), double=True)
def setup_context(x, y):
    a, b = Pair.apply(x, y)
    return a - b if a.sum() > 0 else b


@case(POS, NEG)
def setup_context_in_branch_without_gradient(x):
    if x.sum() > 0:
        return Pair.apply(x, torch.ones(3), 3.0)[0]
    return x


class Double(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, g):
        return g * 2


@case(POS, NEG)
def marks_dirty(x):
    y = x * 1
    z = Double.apply(y)
    if z.sum() > 0:
        z = Double.apply(z)
    return z, y


class Largest(Function):
    @staticmethod
    def forward(ctx, x):
        value, place = x.max(0)
        ctx.mark_non_differentiable(place)
        ctx.save_for_backward(place)
        ctx.shape = x.shape
        return value, place

    @staticmethod
    def backward(ctx, g, _):
        (place,) = ctx.saved_tensors
        return torch.zeros(ctx.shape).index_fill(0, place, 1.0) * g


@case(POS, NEG, t(3.0, 5.0, 1.0, 0.0))
def marks_not_differentiable(x):
    value, place = Largest.apply(x)
    return value * 2 if place > 0 else value


class Two(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return x * 2, x * 3

    @staticmethod
    def backward(ctx, g, h):
        if g is None:
            return h * 30
        if h is None:
            return g * 20
        return g * 2 + h * 3


@case((POS, t(0)), (NEG, t(1)), (POS, t(2)))
def gradients_that_are_none(x, n):
    a, b = Two.apply(x)
    if n == 0:
        return a
    if n == 1:
        return b
    return a + b


class Once(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x**2


@case(POS, NEG)
def differentiable_once(x):
    y = Once.apply(x)
    return y if y.sum() > 0 else -y


@case(POS, NEG, double=True)
def differentiable_once_twice(x):
    y = Once.apply(x)
    return y if y.sum() > 0 else -y


class Exp(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


@case((POS, t(2)), (NEG, t(1)), (NEG, t(0)), double=True)
def saved_output_in_loop(x, n):
    for _ in range(n):
        x = Exp.apply(x) * 0.1
    return x


class Decides(Function):
    @staticmethod
    def forward(ctx, x):
        if x.sum() > 0:
            ctx.factor = 2.0
            y = x * 2
        else:
            ctx.factor = -1.0
            y = -x
        ctx.save_for_backward(x)
        ctx.trips = int(x.abs().max())
        return y

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        for _ in range(ctx.trips):
            g = g + 0.5
        return g * ctx.factor if x.max() > 1.5 else g


@case(POS, NEG, t(-3.0, 1.0, 0.0))
def decides_on_data(x):
    return Decides.apply(x * 1.0) + 1


class Affine(Function):
    @staticmethod
    def forward(ctx, x, weight, bias=None):
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        y = x @ weight.t()
        return y + bias if bias is not None else y

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        gx = gw = gb = None
        if ctx.needs_input_grad[0]:
            gx = g @ weight
        if ctx.needs_input_grad[1]:
            gw = g.t() @ x
        if ctx.has_bias and ctx.needs_input_grad[2]:
            gb = g.sum(0)
        return gx, gw, gb


@case(r(2, 3), -r(4, 3).abs(), r(2, 3).abs(), double=True)
class AffineModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.5, 1.5, 2.5], [1.0, 0.25, 3.0]]))
        self.bias = nn.Parameter(torch.tensor([0.1, -0.1]))

    def apply_one(self, x, bias):
        return Affine.apply(x, self.weight, bias)

    def forward(self, x):
        y = self.apply_one(x, self.bias)
        if y.sum() > 0:
            return y
        return self.apply_one(x, None)


class Scaled(Function):
    @staticmethod
    def forward(ctx, x, k):
        ctx.k, ctx.rows, ctx.kept = k, x.shape[0], [x, x.mean(0)]
        return x.mean(0)

    @staticmethod
    def backward(ctx, g):
        x, mean = ctx.kept
        return (g * ctx.k / ctx.rows).expand(ctx.rows, -1) * (x > mean), None


@case((r(2, 3), t(2)), (r(4, 3), t(3)), (r(5, 3), t(1)))
def context_holds_sizes_and_numbers(x, n):
    y = Scaled.apply(x, int(n))
    return y * 2 if y.sum() > 0 else y


class Recomputed(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin() * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            inner = x.detach().requires_grad_()
            out = inner.sin() * inner
        return torch.autograd.grad(out, inner, g)[0]


@case(POS, NEG)
def recomputes(x):
    y = Recomputed.apply(x)
    return y if y.sum() > 0 else y * 2


class Refusing(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if x.sum() < 0:
            raise RuntimeError("no gradient here")
        return g


@case(POS, NEG)
def backward_raises(x):
    return Refusing.apply(x * 2)


class Reversed(Function):
    @staticmethod
    def forward(ctx, x, rate):
        ctx.rate = rate
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -ctx.rate * g, None


def reverse(x, rate):
    return Reversed.apply(x, rate)


@case((POS, 0.5), (NEG, 0.5), (POS, 0.25))
def number_argument_in_helper(x, rate):
    return reverse(x, rate) * 2 if x.sum() > 0 else reverse(x, rate * 2)


class Same(Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 3


@case(POS, NEG)
def gives_back_its_input(x):
    y = Same.apply(x)
    return y if x.sum() > 0 else y + 1


@case((r(3), t(3)), (r(3), t(0)))
def hook_with_loop_value(x, n):
    y, k = x * 1, 1.0
    for i in range(n):
        y = y * 2
        k = k + i
        if y.requires_grad:
            y.register_hook(lambda g, k=k: g * k)
    return y


@case(r(4, 3), r(4, 3), -r(4, 3).abs(), factory=True, grad=False)
def training_step_through_function():
    torch.manual_seed(1)
    layer = nn.Linear(3, 3)

    def step(x):
        layer.zero_grad()
        y = Decides.apply(layer(x))
        loss = (Exp.apply(y * 0.1) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for p in layer.parameters():
                p -= 0.1 * p.grad
        return loss.detach()

    return step


SIZES = ((r(2)), (r(4)), (r(5)), (r(1)))


@case(*SIZES)
def checkpoint_of_sizes(x):
    def f(v):
        return v.sum() / v.shape[0] + torch.arange(v.shape[0])

    y = checkpoint(f, x, use_reentrant=False)
    return y * y.shape[0]


@case(*SIZES)
def grad_of_sizes(x):
    y = torch.func.grad(lambda v: (v**2).sum() / v.shape[0])(x)
    return y * y.shape[0] + torch.zeros(y.shape[0])


@case(r(2, 3), r(4, 3), r(5, 3))
def vmap_of_sizes(x):
    y = torch.vmap(lambda v: v.sum() * v.shape[0])(x)
    return y * y.shape[0]


@case(*SIZES)
def jacobian_of_sizes(x):
    y = torch.func.jacrev(lambda v: v**2)(x)
    return y.sum() * y.shape[0] * y.shape[1]


@case(*SIZES)
def hook_of_sizes(x):
    h = x * 1
    if h.requires_grad:
        h.register_hook(lambda g: g * g.shape[0])
    return h * 2
