"""no_grad, detach, autograd.grad, backward, custom functions, checkpoint, torch.func, hooks."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.constructs.case import case, net, r, t

POS, NEG = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0)


@case(POS, NEG)
def no_grad_block(x):
    with torch.no_grad():
        k = x.sum()
    return x * k if k > 0 else x


@case(POS, NEG)
def no_grad_decorator(x):
    @torch.no_grad()
    def norm(v):
        return v / v.sum() if v.sum() > 0 else v

    return x * norm(x)


@case(POS, NEG)
def enable_grad_inside_no_grad(x):
    with torch.no_grad():
        a = x * 2
        with torch.enable_grad():
            b = x * 3 if x.sum() > 0 else x
    return a + b


@case(POS, NEG)
def set_grad_enabled(x):
    with torch.set_grad_enabled(False):
        a = x.exp()
    if torch.is_grad_enabled() and x.sum() > 0:
        return a * x
    return a + x


@case(POS, NEG)
def inference_mode(x):
    with torch.inference_mode():
        k = float(x.sum())
    return x * k if k > 0 else x


@case(POS, NEG)
def detach(x):
    y = x.detach() * x
    return y if y.sum() > 20 else y + x.detach()


@case((POS, t(3)), (POS, t(0)))
def detach_in_loop(x, n):
    h = torch.zeros(3)
    for i in range(n):
        h = (h + x).tanh()
        if i == 1:
            h = h.detach()
    return h


@case(POS, NEG)
def requires_grad_flag(x):
    if x.requires_grad and x.sum() > 0:
        return x * 2
    return x + 1


@case(POS, NEG, POS / 9, double=True)
def autograd_grad_inside(x):
    x = x.detach().requires_grad_() if not x.requires_grad else x
    y = (x**3).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    if g.sum() > 10:
        return g * x
    return g


@case(POS, NEG, grad=False)
def requires_grad_on_fresh(x):
    w = torch.ones(3, requires_grad=True)
    loss = (w * x).sum() ** 2
    loss.backward()
    return w.grad if loss > 1 else w


@case(POS, NEG)
def backward_inside(x):
    w = x.detach().clone().requires_grad_()
    for _ in range(3):
        loss = ((w - 1) ** 2).sum()
        (g,) = torch.autograd.grad(loss, w)
        w = (w - 0.1 * g).detach().requires_grad_()
    return w.detach() * x if x.sum() > 0 else x


class Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, limit):
        ctx.save_for_backward(x)
        ctx.limit = limit
        return x.clamp(-limit, limit)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x.abs() <= ctx.limit) * 2, None


@case(POS, NEG)
def custom_function(x):
    y = Clip.apply(x, 2.0)
    return y * 3 if y.sum() > 0 else y


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


@case((POS * 1.3, t(2)), (NEG * 0.7, t(0)))
def custom_function_in_loop(x, n):
    i = 0
    while i < n:
        x = Straight.apply(x * 1.2)
        i += 1
    return x


@case(POS, NEG)
def checkpointed(x):
    def f(v):
        return torch.sin(v) * v

    y = checkpoint(f, x, use_reentrant=False)
    return y if y.sum() > 0 else y * 2


@case(r(2, 4).abs(), -r(2, 4).abs())
class CheckpointedModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net(4, 4)

    def forward(self, x):
        if x.sum() > 0:
            return checkpoint(self.net, x, use_reentrant=False)
        return self.net(x)


@case(POS, NEG)
def func_grad(x):
    g = torch.func.grad(lambda v: (v**3).sum())(x)
    return g if x.sum() > 0 else -g


@case(POS, NEG)
def func_vmap(x):
    f = torch.func.vmap(lambda v: v * 2 + 1)
    return f(x) if x.sum() > 0 else x


@case(POS, NEG)
def func_jacrev(x):
    j = torch.func.jacrev(lambda v: v * v.sum())(x)
    return j.sum(0) if x.sum() > 0 else j[0]


@case(POS, NEG)
def tensor_hook(x):
    y = x * 2
    if y.requires_grad:
        y.register_hook(lambda g: g * 10)
    return y if x.sum() > 0 else y + 1


@case(POS, NEG)
def tensor_hook_in_branch(x):
    y = x * 2
    if x.sum() > 0 and y.requires_grad:
        y.register_hook(lambda g: g.clamp(max=0.7))
    return y * y


@case(POS, NEG, double=True)
def where_gradient(x):
    y = torch.where(x > 0, x * x, x.exp())
    if y.sum() > 5:
        return y.sqrt()
    return y


@case(POS, NEG)
def gradient_not_of_condition(x):
    gate = x.sum()
    y = x * gate if gate > 0 else x
    return y


@case((POS, NEG), (NEG, POS))
def unused_input(x, y):
    if x.sum() > 0:
        return x * 2
    return y * 3


@case((r(3), r(3), t(4)), (r(3), r(3), t(0)), double=True)
def loop_gradient_two_inputs(x, w, n):
    h = x
    for i in range(n):
        h = torch.tanh(h * w + i * 0.1)
    return h


@case((POS, t(5)), (POS, t(0)))
def running_product(x, n):
    out = []
    p = torch.ones(3)
    for _ in range(n):
        p = p * x
        if p.sum() > 200:
            break
        out.append(p.sum())
    out.append(p.sum())
    return torch.stack(out)


@case(POS, NEG)
def retain_grad(x):
    y = x * 2
    if y.requires_grad:
        y.retain_grad()
    return y * y if x.sum() > 0 else y


@case(r(4), r(4))
class InnerOptimisation(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(4))

    def forward(self, x):
        z = torch.zeros(4, requires_grad=True)
        for _ in range(2):
            loss = ((z * self.w - x) ** 2).sum()
            (g,) = torch.autograd.grad(loss, z, create_graph=True)
            z = z - 0.1 * g
        return z if z.sum() > 0 else -z


@case(r(4, 3), r(4, 3), factory=True, grad=False)
def training_step():
    torch.manual_seed(0)
    model = net(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x):
        loss = (model(x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@case(r(4, 3), r(4, 3), 100 * r(4, 3), factory=True, grad=False)
def training_step_skips_bad_loss():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    skipped = []

    def step(x):
        optimizer.zero_grad(set_to_none=True)
        loss = (model(x) ** 2).mean()
        if loss > 50:
            skipped.append(loss.detach())
            return loss.detach()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        return loss.detach()

    return step


@case(r(4, 3), r(4, 3))
def autocast_block(x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = x @ x.t()
    return y.float() if y.sum() > 0 else y


@case(POS, NEG)
def stop_gradient_branch(x):
    scale = x.detach().abs().max()
    return x / scale if scale > 2.5 else x
