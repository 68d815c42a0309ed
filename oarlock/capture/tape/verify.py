"""The first call of a tape against eager: outputs, updates of tensors and objects, errors."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from oarlock.capture.slots import attributes_of
from oarlock.capture.tape import gradients
from oarlock.capture.tape.active import plainly
from oarlock.capture.tape.arguments import is_record
from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.chance import fingerprint, shared, states
from oarlock.capture.tape.copies import History, copied, kept_by, refill, tensors_of
from oarlock.capture.tape.hooks import reached_by_hooks, reached_from
from oarlock.capture.tape.journal import content
from oarlock.capture.tape.nodes import leaves
from oarlock.capture.tape.notices import heard_once, hushed
from oarlock.capture.tape.optimizers import Held, optimizers_of
from oarlock.capture.tape.roundings import Otherwise
from oarlock.capture.tape.runtime import Respecialise
from oarlock.capture.tape.snapshots import Snapshot
from oarlock.capture.tape.sources import Source, modules_below, state_sources
from oarlock.capture.torch_private import has_saved_hooks, without_saved_hooks
from oarlock.errors import DivergenceError, OarlockError, UnsupportedError

SAMPLES = (2, 2, 4, 8)  # of other roundings of eager's values; more while they do too little
_DEPTH = 6
_SIDES = 2  # of the exact value, on which eager's and another may be


class Rejected(Exception):
    """What a compiled executor did is not what eager does; everything was put back."""


class Before:
    """What a call may change outside of its arguments, put back after eager has run."""

    def __init__(self, tape: Tape, fn: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        read = [x for x in map(_read, (s for _, s in tape.inputs)) if x is not None]
        reached = reached_by_hooks([*read, *tensors_of((args, kwargs))], modules_below([fn]))
        beside = [x for x in reached if isinstance(x, torch.optim.Optimizer)]
        self.held = [Held(x) for x in optimizers_of([fn, *args, *kwargs.values(), *beside])]
        kept = reached_from([list(s.values()) for one in self.held for s in one.state.values()])
        reached += kept
        read += [x for x in reached if isinstance(x, torch.Tensor)]
        inner = [x for x in reached if not isinstance(x, (torch.Tensor, torch.optim.Optimizer))]
        known = {id(x) for x in tape.objects}
        objects = [*tape.objects, *(x for x in inner if id(x) not in known)]
        objects = [x for x in objects if not isinstance(x, logging.Logger)]  # they keep levels
        self.kept = kept_by((args, kwargs), read, objects)
        self.tensors = [x for x in self.kept.values() if isinstance(x, torch.Tensor)]
        every = (*tape.objects, *leaves((args, kwargs)))
        own = {id(x): x for x in every if isinstance(x, torch.Generator)}
        self.chance = {id(x): x for x in (*shared(), *tape.objects)}.values()
        self.held_before = Snapshot(self.tensors, objects, own.values(), self.chance)

    def now(self) -> list[tuple[str, Any]]:
        """Copies of what there is now."""
        found: list[tuple[str, Any]] = [("draws", torch.get_rng_state())]
        found += [("draws", own.get_state()) for own, _ in self.held_before.generators]
        found += [("draws", fingerprint(state)) for _, state in states(self.chance)]
        for i, x in enumerate(self.tensors):
            found.append((f"tensor {i}", x.detach().clone()))
            found.append((f"requires_grad of tensor {i}", x.requires_grad))
            grad = x.grad if x.is_leaf else None
            found.append((f"gradient {i}", None if grad is None else grad.detach().clone()))
        for obj, _ in self.held_before.objects:
            if not isinstance(obj, torch.nn.Module):
                found.append((type(obj).__name__, _frozen(content(obj))))
        return found

    def restore(self) -> None:
        for one in self.held:
            one.close()
        self.held_before.restore()


def _read(source: Source) -> torch.Tensor | None:
    if source.base is None:
        return None
    found = source.value()
    return found if isinstance(found, torch.Tensor) else None


def verified(
    tape: Tape, fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any],
    run: Callable[[tuple, dict[str, Any]], Any],
) -> Any:  # fmt: skip
    """What ``run`` gives; it is tried on copies first where arguments have gradients that go on
    outside, which must not be followed, and where hooks count what a call saves.

    Raises: DivergenceError when eager does something else; Rejected where the tape was compiled.
    """
    is_seen = has_saved_hooks()
    with heard_once():
        with without_saved_hooks():
            result, error, is_trial = _tried(tape, fn, args, kwargs, run, is_seen)
        tape.is_verified = True
        if is_trial:
            return run(args, kwargs)
    if error is not None:
        raise error
    return result


@contextlib.contextmanager
def undone(tape: Tape, fn: Any, args: tuple, kwargs: dict[str, Any]) -> Iterator[None]:
    """Around a run of ``tape``: what it has done when a check fails is put back.

    Raises: Respecialise; UnsupportedError where gradients go on through a view that was updated.
    """
    before = Before(tape, fn, args, kwargs)
    given = [(x, x.detach().clone(), History(x)) for x in tensors_of((args, kwargs))]
    try:
        yield
    except Respecialise as failed:
        before.restore()
        for x, data, history in given:
            history.restore()
            refill(x, data)
        if before.held_before.is_lost or any(history.is_lost for *_, history in given):
            raise UnsupportedError(
                f"{failed}: does not hold for this call, which has updated a view whose gradients go "
                f"on; give the function an argument of its own for what it decides on"
            ) from None
        raise


def rehearsed(
    tape: Tape, fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any],
    run: Callable[[tuple, dict[str, Any]], Any],
) -> None:  # fmt: skip
    """``verified``, with everything put back that the two calls have done."""
    before = Before(tape, fn, args, kwargs)
    held = state_sources([fn]).values()  # more than a tape that ends in an error reads
    state = [x for x, _ in held if not torch.nn.parameter.is_lazy(x)]
    given = [(x, x.detach().clone()) for x in [*tensors_of((args, kwargs)), *state]]
    try:
        with without_saved_hooks():
            _tried(tape, fn, args, kwargs, run, True)
    finally:
        before.restore()
        with torch.no_grad():
            for x, data in given:
                refill(x, data)
    tape.is_verified = True


def _tried(
    tape: Tape, fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any],
    run: Callable[[tuple, dict[str, Any]], Any], is_seen: bool,
) -> tuple[Any, Exception | None, bool]:  # fmt: skip
    """What ``run`` gives, and whether it was put back and has to run again."""
    before = Before(tape, fn, args, kwargs)
    given = [(x, x.detach().clone()) for x in tensors_of((args, kwargs))]
    copies = copied((args, kwargs), before.kept)
    with plainly():
        want = _outcome(lambda: fn(*copies[0], **copies[1]))
    is_differentiable = gradients.is_differentiable(
        tape, fn, [*before.tensors, *tensors_of(copies)]
    )
    slopes = _slopes(before, want[0], copies) if is_differentiable else None
    wanted = [("result", _frozen(want[0])), *before.now(), ("arguments", _frozen(copies))]
    before.restore()
    is_compiled = tape.executor is not None
    is_inner = is_seen or any(x.requires_grad and not x.is_leaf for x, _ in given)

    def checked(slack: Slack | None) -> tuple[Any, Exception | None]:
        used = copied((args, kwargs), before.kept) if is_inner else (args, kwargs)
        got = _outcome(lambda: run(*used), is_quiet=is_inner)
        if type(want[1]) is not type(got[1]):
            if isinstance(got[1], OarlockError):
                raise got[1]
            raise _divergence(tape, "outcome", _told(want[1]), _told(got[1])) from got[1]
        found = [_frozen(got[0]), *(x for _, x in before.now()), _frozen(used)]
        for i, ((name, a), b) in enumerate(zip(wanted, found)):
            _compare(tape, name, a, b, None if slack is None else slack.values[i])
        if slopes is not None:
            _compare_slopes(tape, slopes, _slopes(before, got[0], used), slack)
        return got

    def back() -> None:
        before.restore()
        with torch.no_grad():
            for x, data in given:
                refill(x, data)

    if not is_compiled:
        got = checked(None)
    else:
        slack = Slack([x for _, x in wanted], [] if slopes is None else slopes[1])
        again = partial(copied, (args, kwargs), before.kept)
        got = _accepted(checked, back, slack, partial(_sample, slack, before, fn, again))
        if want[1] is not None:
            back()
            raise Rejected(f"eager raises {want[1]!r}")
    if is_inner:
        back()
    return *got, is_inner


def _told(error: Exception | None) -> str:
    return "no error" if error is None else repr(error)


def _slopes(before: Before, result: Any, given: tuple[tuple, dict]) -> tuple[list[bool], Any]:
    """Which results need gradients, and those of what the call was given."""
    found = [x for x in tensors_of(((result,), {})) if x.is_floating_point() or x.is_complex()]
    return [x.requires_grad for x in found], gradients.gradients(
        found, [*before.tensors, *tensors_of(given)]
    )


def _compare_slopes(
    tape: Tape, want: tuple[list[bool], Any], got: tuple[list[bool], Any], slack: Slack | None
) -> None:
    if want[0] != got[0]:
        why = f"eager gives {want[0]}, the static function {got[0]}"
        raise _divergence(tape, "requires_grad of the results", why)
    more = None if slack is None else slack.slopes
    why = gradients.difference(want[1], got[1], gradients.coarsest(tape), more)
    if why:
        raise _divergence(tape, "gradients", why)


class Slack:
    """How far what eager gives moves when its numbers and operations are rounded otherwise: such as
    updates by Adam where the true gradient is zero, of the size of the learning rate and any sign, or
    gradients of units that switch at zero."""

    def __init__(self, wanted: list[Any], slopes: Any) -> None:
        self.wanted = [list(_leaves(x)) for x in wanted]
        self.slopes_wanted = slopes
        self.values: list[list[float]] = [[0.0] * len(row) for row in self.wanted]
        self.slopes, self.count = 0.0, 0  # of samples

    def add(self, found: list[Any], slopes: Any) -> None:
        """Another sample; one of another form tells nothing, and keeps the bound that there was."""
        for row, bounds, x in zip(self.wanted, self.values, found):
            others = list(_leaves(x))
            for i, (a, b) in enumerate(zip(row, others)):
                if type(a) is float and type(b) is float:
                    a, b = torch.tensor(a), torch.tensor(b)
                if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
                    bounds[i] = max(bounds[i], _SIDES * _distance(a, b))
        self.slopes = max(self.slopes, _SIDES * gradients.change(self.slopes_wanted, slopes))


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    if a.shape != b.shape or a.numel() == 0 or a.is_sparse or a.dtype != b.dtype:
        return 0.0
    return float((b - a).detach().abs().nan_to_num().max()) if a.is_floating_point() else 0.0


def _accepted(
    checked: Callable[[Slack], Any], back: Callable[[], None], slack: Slack,
    sample: Callable[[int], None],
) -> Any:  # fmt: skip
    """What the compiled call gives, where it is as near to eager's as other roundings are.

    Raises: Rejected, after it was put back.
    """
    rejected = None
    for count in SAMPLES:
        sample(count)
        try:
            return checked(slack)
        except DivergenceError as error:
            back()
            rejected = error
        except Exception as error:
            back()
            raise Rejected(str(error)) from error
    raise Rejected(str(rejected)) from rejected


def _sample(
    slack: Slack, before: Before, fn: Callable[..., Any], copies: Callable[[], tuple[tuple, dict]],
    count: int,
) -> None:  # fmt: skip
    """Runs eager ``count`` more times; ``before`` is put back."""
    for _ in range(count):
        given, otherwise = copies(), Otherwise(slack.count)
        with torch.no_grad():
            for x in {id(x): x for x in (*before.tensors, *tensors_of(given))}.values():
                otherwise.move(x.detach())
        with otherwise, plainly():
            result, error = _outcome(partial(fn, *given[0], **given[1]))
            moved = _slopes(before, result, given)[1] if slack.slopes_wanted else []
        slack.count += 1
        if error is None:
            slack.add([_frozen(result), *(x for _, x in before.now()), _frozen(given)], moved)
        before.restore()


def _outcome(run: Callable[[], Any], is_quiet: bool = True) -> tuple[Any, Exception | None]:
    with hushed() if is_quiet else contextlib.nullcontext():
        try:
            return run(), None
        except Exception as error:
            return None, error


def _frozen(x: Any, depth: int = _DEPTH) -> Any:
    """Copies of the tensors in ``x``, in order, with plain values beside them."""
    if isinstance(x, torch.Tensor):
        return x.detach().clone()
    if isinstance(x, (bool, int, float, complex, str, bytes, type(None))) or not depth:
        return x
    if isinstance(x, dict):
        return {k: _frozen(v, depth - 1) for k, v in x.items()} if len(x) < 10_000 else None
    if isinstance(x, set):
        return sorted(map(repr, x))
    if isinstance(x, (list, tuple, deque)):
        return [_frozen(v, depth - 1) for v in x]
    return _frozen(attributes_of(x), depth - 1) if is_record(x) else None


def _leaves(x: Any) -> Iterator[Any]:
    if isinstance(x, dict):
        for k in x:
            if k != "__builtins__":
                yield from _leaves(x[k])
    elif isinstance(x, list):
        for item in x:
            yield from _leaves(item)
    else:
        yield x


def _compare(tape: Tape, name: str, want: Any, got: Any, slack: list[float] | None = None) -> None:
    wanted, found = list(_leaves(want)), list(_leaves(got))
    if len(wanted) != len(found):
        why = f"eager gives {len(wanted)} values, the static function {len(found)}"
        raise _divergence(tape, name, why)
    bounds = itertools.repeat(None) if slack is None else slack
    for a, b, more in zip(wanted, found, bounds):
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            why = _difference(tape, a, b, more)
        elif isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
            why = (
                "" if _scalar(a) == _scalar(b) else f"eager gives {a!r}, the static function {b!r}"
            )
        elif more is not None and type(a) is float and type(b) is float:
            why = _difference(tape, torch.tensor(a), torch.tensor(b), more)
        else:
            why = "" if _same(a, b) else f"eager gives {a!r}, the static function {b!r}"
        if why:
            raise _divergence(tape, name, why)


def _same(a: Any, b: Any) -> bool:
    plain = (bool, int, float, complex, str, bytes, type(None))
    if not (isinstance(a, plain) and isinstance(b, plain)):
        return True
    return a == b or (a != a and b != b)


def _scalar(x: Any) -> Any:
    return x.item() if isinstance(x, torch.Tensor) and x.numel() == 1 else x


def _difference(tape: Tape, a: torch.Tensor, b: torch.Tensor, slack: float | None) -> str:
    """``slack``: see ``Slack``; without, sums over threads may come in another order."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return (
            f"eager gives {a.dtype} {list(a.shape)}, the static function {b.dtype} {list(b.shape)}"
        )
    if a.is_sparse or a.is_meta or a.numel() == 0 or torch.equal(a, b):
        return ""
    if not (a.is_floating_point() or a.is_complex()):
        return "other integers"
    finite = a[torch.isfinite(a)].abs()
    scale = float(finite.max()) if finite.numel() else 0.0
    coarse = gradients.coarsest(tape) if slack is None else 0.0
    bound = gradients.bound_of(a.dtype, scale, coarse, slack)
    if torch.allclose(a, b, rtol=0, atol=bound, equal_nan=True):
        return ""
    return f"max abs error {float((a - b).abs().nan_to_num().max()):.3e}"


def _divergence(tape: Tape, name: str, *why: str) -> DivergenceError:
    return DivergenceError(
        f"{tape.name}: the static function does not do what eager does on this call: {name}: "
        f"{'; '.join(why)}; please report it, and leave the function out with not_to_static until then"
    )
