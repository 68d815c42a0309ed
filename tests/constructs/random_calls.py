"""Random calls of ``random_states``: arguments, modes, state and aliases change between them.

A script is a list of steps drawn from a seed; ``outcomes`` runs it on static or on eager functions
and gives what can be observed after each step.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch

from oarlock.errors import OarlockError
from tests.constructs.case import module_of
from tests.constructs.observe import Observer, differences
from tests.constructs.random_states import text_of

GLOBALS = ("SCALE", "COUNTER", "TABLE", "CONFIG", "HISTORY", "remember")
Static = Callable[..., Any]


class World:
    """Two subjects of one class, how they are called, and what earlier calls gave."""

    def __init__(self, seed: int, static: Static, twin: str) -> None:
        self.module = module_of(f"states/{twin}{seed}.py", text_of(seed))
        self.static, self.draw = static, random.Random(seed)
        self.values = torch.Generator().manual_seed(seed)
        self.form = self.draw.choice(["module", "method", "class", "function", "inner"])
        if self.form == "class":
            self.module.Subject.forward = static(self.module.Subject.forward)
        self.subjects = [self.module.Subject(seed), self.module.Subject(seed + 1)]
        self.at = 0
        self.given: list[tuple[Any, ...]] = []
        self.results: list[torch.Tensor] = []
        self.calls = [self.prepared(s) for s in self.subjects]

    def prepared(self, subject: Any) -> Callable[..., Any]:
        if self.form == "module":
            return self.static(subject)
        if self.form == "method":
            return self.static(subject.forward)
        if self.form == "function":
            return self.static(lambda *args, **kwargs: subject(*args, **kwargs))
        if self.form == "inner":
            call = self.static(subject)
            return lambda x, *args, **kwargs: call(x + 0, *args, **kwargs)
        return subject

    @property
    def subject(self) -> Any:
        return self.subjects[self.at]

    # arguments

    def tensor(self, n: int, dtype: torch.dtype) -> torch.Tensor:
        x = torch.randn(n, 4, generator=self.values) * self.draw.choice([0.3, 1.0, 2.0])
        x = x.to(dtype)
        kind = self.draw.choice(
            ["plain"] * 6 + ["turned", "strided", "expanded", "result", "again"]
        )
        if kind == "turned":
            x = x.t().contiguous().t()
        elif kind == "strided":
            x = torch.stack([x, x], 1)[:, 0]
        elif kind == "expanded":
            x = x[:1].expand(n, 4)
        elif kind == "result":
            fitting = [r.detach() for r in self.results if r.shape == (n, 4) and r.dtype is dtype]
            x = self.draw.choice(fitting) if fitting else x
        elif kind == "again" and self.given:
            x = self.draw.choice(self.given)[0]
        if self.draw.random() < 0.3 and not x.requires_grad:
            x = x.detach().requires_grad_()
            if self.draw.random() < 0.3:
                x = x * 1
        return x

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        n = self.draw.choice([3, 3, 3, 4, 5, 6, 1])
        dtype = self.draw.choice([torch.float32] * 9 + [torch.float64])
        x = self.tensor(n, dtype)
        y = self.draw.choice([None, None, None, x, "view", "rows", "other", "other"])
        if y == "view":
            y = x[:]
        elif y == "rows":
            y = x.detach().flip(0)
        elif y == "other":
            y = self.tensor(x.shape[0], dtype)
        args, kwargs = [x], {}
        if y is not None or self.draw.random() < 0.3:
            args, kwargs = ([x, y], {}) if self.draw.random() < 0.6 else ([x], {"y": y})
        if self.draw.random() < 0.1:
            args, kwargs = [], {"y": y, "x": x}
        if self.draw.random() < 0.3:
            kwargs["scale"] = self.draw.choice([0.5, 0.25, 1, 2.0, True, torch.tensor(0.75)])
        if self.draw.random() < 0.2:
            kwargs["flag"] = self.draw.choice([True, False, 0, None])
        return tuple(args), kwargs

    def surroundings(self) -> Any:
        return self.draw.choice(
            [contextlib.nullcontext] * 9
            + [torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16), torch.inference_mode]
        )()

    # steps

    def call(self) -> Any:
        args, kwargs = self.arguments()
        self.given.append(args or (kwargs["x"],))
        around = self.surroundings()
        torch.manual_seed(self.draw.randint(0, 99))
        with around:
            result = self.calls[self.at](*args, **kwargs)
        found = list(tensors(result))
        self.results += [x for x in found if not x.is_inference()]
        self.backward(found)
        return [result, args, kwargs]

    def backward(self, found: list[torch.Tensor]) -> None:
        ends = [x for x in found if x.requires_grad and x.grad_fn is not None]
        if not ends or self.draw.random() < 0.3:
            return
        loss = sum((x * (i + 1)).double().sum() for i, x in enumerate(ends))
        loss.backward(retain_graph=self.draw.random() < 0.3)

    def mode(self) -> None:
        self.draw.choice(
            [self.subject.train, self.subject.eval, self.subject.drop.eval, self.subject.norm.eval]
        )()

    def needs(self) -> None:
        which = self.draw.choice(
            [self.subject.mix, self.subject.bias, *self.subject.lin.parameters()]
        )
        which.requires_grad_(not which.requires_grad)

    def gradients(self) -> None:
        for p in self.subject.parameters():
            p.grad = None if self.draw.random() < 0.7 else torch.ones_like(p)

    def update(self) -> None:
        with torch.no_grad():
            for p in self.subject.parameters():
                if p.grad is not None:
                    p -= 0.01 * p.grad.clamp(-1, 1)

    def attribute(self) -> None:
        s, draw = self.subject, self.draw
        name, value = draw.choice(
            [
                ("rate", draw.choice([0.5, 0.25, 1, 2.0])), ("flag", draw.random() < 0.5),
                ("mode", draw.choice(["low", "high"])), ("count", draw.randint(0, 5)),
                ("hidden", None), ("hidden", torch.ones(3, 4)), ("last", None), ("queue", []),
                ("queue", [torch.ones(4)]), ("cache", {3: torch.ones(4)}), ("seen", {}),
                ("level", torch.tensor(0.75)), ("total", torch.ones(4)), ("steps", torch.tensor(3)),
                ("pair", (torch.ones(4), torch.zeros(4))), ("factor", 3.0), ("order", ("high", "low")),
                ("state", self.module.State(torch.ones(4), 2)), ("hidden", s.total), ("more", 1),
                ("bias", torch.nn.Parameter(torch.ones(4))), ("lin", torch.nn.Linear(4, 4, bias=False)),
                ("act", torch.nn.Sigmoid()), ("drop", torch.nn.Identity()), ("mix", s.lin.weight),
            ]
        )  # fmt: skip
        setattr(s, name, value)

    def contents(self) -> None:
        s = self.subject
        self.draw.choice(
            [
                lambda: s.queue.append(torch.ones(4)), lambda: s.queue.clear(), lambda: s.cache.clear(),
                lambda: s.cache.update({4: torch.zeros(4)}), lambda: s.seen.update(high=3),
                lambda: s.recent.append(torch.tensor(1.0)), lambda: setattr(s.state, "n", 5),
                lambda: s.level.fill_(0.1), lambda: s.total.zero_(), lambda: s.mix.data.mul_(0.5),
                lambda: setattr(s.bias, "data", torch.zeros(4)), lambda: s.load_state_dict(s.state_dict()),
                lambda: s.load_state_dict(self.subjects[1 - self.at].state_dict(), strict=False),
                lambda: s.norm.reset_running_stats(), lambda: setattr(s.norm, "momentum", 0.3),
                lambda: setattr(s.drop, "p", 0.5),
            ]
        )()  # fmt: skip

    def globals_(self) -> None:
        m = self.module
        self.draw.choice(
            [
                lambda: setattr(m, "SCALE", self.draw.choice([1.5, 0.5, 2])),
                lambda: m.TABLE.update(a=torch.ones(4)), lambda: m.TABLE["b"].zero_(),
                lambda: m.TABLE.update(c=torch.ones(4)), lambda: m.TABLE.pop("c", None),
                lambda: m.CONFIG.update(scale=0.25), lambda: m.CONFIG.update(k=3),
                lambda: m.HISTORY.clear(), lambda: setattr(m, "COUNTER", 0),
                lambda: setattr(m, "HISTORY", [1]), lambda: setattr(m, "remember", m.made_counter()),
                lambda: setattr(m.Base, "factor", 1.25),
            ]
        )()  # fmt: skip

    def other(self) -> None:
        self.at = 1 - self.at

    def copied(self) -> None:
        """A copy takes the place of the subject."""
        if self.form in ("module", "class"):
            self.calls[self.at] = self.subjects[self.at] = copy.deepcopy(self.calls[self.at])
        else:
            self.subjects[self.at] = copy.deepcopy(self.subject)
            self.calls[self.at] = self.prepared(self.subject)

    def result(self) -> None:
        """What the caller does to what it was given."""
        plain = [x for x in self.results if not x.requires_grad and x.is_floating_point()]
        if plain:
            x = self.draw.choice(plain)
            with contextlib.suppress(RuntimeError):
                self.draw.choice([lambda: x.add_(1), lambda: x.zero_(), lambda: x.mul_(0.5)])()

    def argument(self) -> None:
        if self.given:
            with torch.no_grad(), contextlib.suppress(RuntimeError):
                self.draw.choice(self.given)[0].mul_(0.5)

    def typed(self) -> None:
        self.draw.choice([self.subject.double, self.subject.float, self.subject.float])()

    def step(self) -> Any:
        if self.draw.random() < 0.55:
            return self.call()
        changes = [self.mode, self.mode, self.needs, self.gradients, self.update, self.attribute]
        changes += [self.attribute, self.contents, self.contents, self.globals_, self.other]
        changes += [self.copied, self.result, self.argument, self.typed, self.update]
        return self.draw.choice(changes)()


def tensors(x: Any) -> Iterator[torch.Tensor]:
    if isinstance(x, torch.Tensor):
        yield x
    elif isinstance(x, (list, tuple, dict)):
        for v in x.values() if isinstance(x, dict) else x:
            yield from tensors(v)


def observed(world: World, found: Any, error: Any) -> dict[str, Any]:
    """What there is after a step, as plain data."""
    observer = Observer()
    seen = {
        "error": error, "found": observer.look(found, "found"),
        "subjects": [observer.look(s, f"subject {i}") for i, s in enumerate(world.subjects)],
        "globals": [observer.look(getattr(world.module, n), n) for n in GLOBALS],
        "given": observer.look(world.given, "given"), "results": observer.look(world.results, "results"),
        "draws": torch.get_rng_state().numpy().tobytes(),
    }  # fmt: skip
    owned = [p for s in world.subjects for p in s.parameters()]
    leaves = [*owned, *(x for x in tensors(world.given) if x.is_leaf)]
    seen["grads"] = [None if x.grad is None else x.grad.clone() for x in leaves]
    seen["strides"] = [x.stride() for x in [*tensors(found), *leaves]]
    return seen


def outcomes(seed: int, static: Static, twin: str, steps: int = 24) -> tuple[list[Any], Any]:
    """What each step leaves, and the refusal that ends them."""
    torch.manual_seed(seed)
    world, seen = World(seed, static, twin), []
    for _ in range(steps):
        found = error = None
        try:
            found = world.step()
        except OarlockError as refusal:
            return seen, refusal
        except Exception as e:
            error = f"{type(e).__name__}: {e}"[:60]
        seen.append(observed(world, found, error))
    return seen, None


def compared(seed: int, static: Static) -> tuple[list[str], Any]:
    """Where static functions differ from eager ones; the refusal that ended the comparison."""
    want, failed = outcomes(seed, lambda f: f, "eager")
    assert failed is None
    got, refusal = outcomes(seed, static, "static")
    for n, (a, b) in enumerate(zip(want, got)):
        found = differences(a, b, f"step {n}")
        if found:
            return found, refusal
    return [], refusal
