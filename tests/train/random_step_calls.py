"""Calls of random training steps, static beside eager, with changes by eager code between them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch

from oarlock.errors import OarlockError
from tests.constructs.case import module_of
from tests.train.random_steps import StepWriter, batch

STEPS = 6
ROUNDINGS = 256  # of the largest value of a tensor, in each step
MOVED = 32  # times what eager moves when its numbers are moved by a rounding


class Run:
    """One of the twins.  Args: moves: a seed for moving its numbers by a rounding."""

    def __init__(self, seed: int, static: Callable[..., Any], twin: str, moves: int | None = None):
        self.writer = StepWriter(seed)
        module = module_of(f"steps/{twin}{seed}.py", self.writer.source)
        self.net, self.optimizers, self.schedule, self.average, self.eager = module.made(seed)
        self.step = static(self.eager)
        self.draw, self.values = random.Random(seed), torch.Generator().manual_seed(seed)
        self.noise = None if moves is None else torch.Generator().manual_seed(moves)

    def moved(self) -> None:
        """Every number by about a rounding."""
        with torch.no_grad():
            for x in self.state() if self.noise is not None else []:
                if x.is_floating_point():
                    eps = torch.finfo(x.dtype).eps
                    sign = torch.randint(0, 3, x.shape, generator=self.noise) - 1
                    x.mul_(1 + eps * sign.to(x.dtype))

    def state(self) -> list[torch.Tensor]:
        states = [x for o in self.optimizers for s in o.state.values() for x in s.values()]
        held = [*self.net.parameters(), *self.net.buffers(), *self.average]
        return [*held, *(x for x in states if isinstance(x, torch.Tensor))]

    def call(self) -> Any:
        draw = self.draw
        given = batch(self.writer, draw, self.values, draw.choice([4, 4, 4, 4, 7]))
        named = {"scale": draw.choice([0.5, 1.0, 2.0])} if draw.random() < 0.3 else {}
        run = self.eager if draw.random() < 0.15 else self.step
        torch.manual_seed(draw.randint(0, 99))
        self.moved()
        result = run(*given, **named)
        if self.schedule is not None and not self.writer.tests["inside"]:
            self.schedule.step()
        return result, given[0].grad

    def between(self) -> None:
        """What eager code does between two calls, now and then."""
        if self.draw.random() < 0.5:
            return
        net, optimizer, draw = self.net, self.draw.choice(self.optimizers), self.draw
        group = draw.choice(optimizer.param_groups)
        parameter = draw.choice(list(net.parameters()))
        change = draw.choice(
            [
                lambda: group.update(lr=group["lr"] * 0.5), lambda: parameter.data.mul_(0.9),
                lambda: setattr(parameter, "data", parameter.data.clone() * 1.1),
                lambda: parameter.requires_grad_(not parameter.requires_grad),
                lambda: net.eval(), lambda: net.train(), lambda: net.seen.zero_(),
                lambda: net.load_state_dict({k: v * 0.9 if v.is_floating_point() else v for k, v in net.state_dict().items()}),
                lambda: optimizer.load_state_dict(optimizer.state_dict()),
                lambda: [x.mul_(0.5) for s in optimizer.state.values() for x in s.values() if isinstance(x, torch.Tensor) and x.is_floating_point() and x.dim()],
                lambda: setattr(parameter, "grad", torch.ones_like(parameter)),
                lambda: optimizer.zero_grad(), lambda: group.update(weight_decay=0.05),
                lambda: group.update({k: 0.7 for k in ("momentum",) if group.get(k)}),
                lambda: group.update({k: (0.8, 0.9) for k in ("betas",) if k in group}),
                lambda: setattr(net, "seen", torch.ones_like(net.seen)), lambda: optimizer.state.clear(),
                lambda: setattr(net.out, "bias", torch.nn.Parameter(torch.ones_like(net.out.bias))),
                lambda: setattr(net, "calls", 0), lambda: [m.__dict__.update(p=0.5) for m in net.modules() if isinstance(m, torch.nn.Dropout)],
                lambda: [m.__dict__.update(momentum=0.3) for m in net.modules() if hasattr(m, "running_mean")],
            ]
        )  # fmt: skip
        with torch.no_grad():
            change()


def looked(run: Run, result: Any) -> list[Any]:
    """Copies of all there is after a call."""
    grads = [p.grad for p in run.net.parameters()]
    needs = [p.requires_grad for p in run.net.parameters()]
    rates = [g["lr"] for o in run.optimizers for g in o.param_groups]
    state = run.state()
    flat = [*_flat(result), *state, *grads, *needs, *rates, run.net.calls, torch.get_rng_state()]
    return [x.detach().clone() if isinstance(x, torch.Tensor) else x for x in flat]


def _flat(x: Any) -> list[Any]:
    return [v for item in x for v in _flat(item)] if isinstance(x, tuple) else [x]


def outcomes(
    seed: int, static: Callable[..., Any], twin: str, moves: int | None = None
) -> tuple[list[list[Any]], Run, Exception | None]:
    """What there is after each call; the refusal that ends them."""
    run, found = Run(seed, static, twin, moves), []
    for _ in range(STEPS):
        try:
            result: Any = run.call()
        except OarlockError as refusal:
            return found, run, refusal
        except Exception as error:
            result = f"{type(error).__name__}: {error}"[:60]
        found.append(looked(run, result))
        run.between()
    return found, run, None


def differences(seed: int, static: Callable[..., Any]) -> tuple[list[str], Run, Exception | None]:
    """Where static calls differ from eager ones by more than roundings do."""
    want, _, failed = outcomes(seed, lambda f: f, "eager")
    assert failed is None
    moved = [outcomes(seed, lambda f: f, "moved", k)[0] for k in range(2)]
    got, run, refusal = outcomes(seed, static, "static")
    dtype = getattr(torch, run.writer.dtype)
    coarse = 2.0**45 if run.writer.tests["autocast"] else 1.0  # of bfloat16 beside float64
    for n, (a, b) in enumerate(zip(want, got)):
        if len(a) != len(b):
            return [f"call {n}: {len(b)} values, not {len(a)}: {b[0]} for {a[0]}"], run, refusal
        others = [m[n] if len(m[n]) == len(a) else a for m in moved]
        found = [
            f"call {n}, value {i} of {len(a)}: {why}"
            for i, (x, y, *z) in enumerate(zip(a, b, *others))
            if (why := _difference(*_typed(x, y, dtype), z, (n + 1) * coarse))
        ]
        if found:
            return found, run, refusal
    return [], run, refusal


def _typed(want: Any, got: Any, dtype: torch.dtype) -> tuple[Any, Any]:
    """Numbers that a step gives, in the type that it computes in."""
    if isinstance(want, float) and isinstance(got, (float, torch.Tensor)):
        return torch.tensor(want, dtype=dtype), torch.tensor(float(got), dtype=dtype)
    return want, got


def _difference(want: Any, got: Any, moved: list[Any], steps: float) -> str:
    if not isinstance(want, torch.Tensor) or not isinstance(got, torch.Tensor):
        return "" if type(want) is type(got) and want == got else f"{got!r} for {want!r}"
    if want.shape != got.shape or want.dtype != got.dtype:
        return f"{got.dtype}{list(got.shape)} for {want.dtype}{list(want.shape)}"
    if not want.is_floating_point():
        same = torch.equal(want, got) or any(not torch.equal(want, m) for m in moved)
        return "" if same else "other integers"
    eps = torch.finfo(want.dtype).eps
    scale = float(want.abs().nan_to_num().amax()) if want.numel() else 0.0
    others = [torch.tensor(m, dtype=want.dtype) if isinstance(m, float) else m for m in moved]
    fitting = [m for m in others if isinstance(m, torch.Tensor) and m.shape == want.shape]
    slack = max([float((m - want).abs().nan_to_num().max()) for m in fitting if m.numel()] or [0.0])
    bound = ROUNDINGS * steps * eps * max(scale, 1.0) + MOVED * slack
    if torch.allclose(got, want, rtol=0, atol=bound, equal_nan=True):
        return ""
    return f"off by {float((got - want).abs().nan_to_num().max()):.3e}, allowed {bound:.3e}"
