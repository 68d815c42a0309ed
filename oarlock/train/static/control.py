"""Branches and loops on values of a program; on ordinary values they are plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from oarlock.capture.convert.state import State, Undefined
from oarlock.capture.convert.truth import is_run_time, truth
from oarlock.capture.tape.active import active
from oarlock.capture.tape.forks import ForkNeeded
from oarlock.capture.tape.tracer import user_line
from oarlock.errors import ArgumentError, ArgumentTypeError

Fn = Callable[[], Any]


def cond(pred: Any, true_fn: Fn | None = None, false_fn: Fn | None = None) -> Any:
    """What ``true_fn()`` or ``false_fn()`` returns; both give the same structure.

    Args: pred: one truth value; a missing function returns None.
    """
    _check_functions("cond", true_fn, false_fn)
    _check_test("cond: pred", pred)
    cell: list[Any] = [Undefined("the result of cond")]
    taken = [fn if fn is not None else _nothing for fn in (true_fn, false_fn)]
    if not _is_recorded(pred):
        return taken[0]() if pred else taken[1]()
    then, orelse = (lambda: _put(cell, 0, taken[0]())), (lambda: _put(cell, 0, taken[1]()))
    with _refusing():
        active().if_(pred, then, orelse, _state(cell, "cond"))
    return cell[0]


def while_loop(
    cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Sequence[Any]
) -> list[Any]:
    """``while cond(*loop_vars): loop_vars = body(*loop_vars)``; the last values.

    Args: loop_vars: at least one; ``body`` returns as many, a single one also by itself.
    """
    _check_functions("while_loop", cond, body)
    if not isinstance(loop_vars, (list, tuple)) or not loop_vars:
        raise ArgumentError(f"while_loop: loop_vars: expected a list of values, got {loop_vars!r}")
    cell = list(loop_vars)

    def test() -> Any:
        found = cond(*cell)
        _check_test("while_loop: cond", found)
        return found

    def step() -> None:
        found = body(*cell)
        new = list(found) if isinstance(found, (list, tuple)) else [found]
        if len(new) != len(cell):
            raise ArgumentError(
                f"{user_line(3)}: while_loop: body returned {len(new)} values for {len(cell)} loop_vars"
            )
        cell[:] = new

    tracer = active()
    if tracer is None or not (any(map(_is_recorded, cell)) or _is_recorded(test())):
        while test():
            step()
        return cell
    go = [_go(test())]  # as in to_static: what the test computes is recorded where it runs

    def round_() -> None:
        step()
        go[0] = _go(test())

    with _refusing():
        tracer.while_(lambda: go[0], round_, _state(cell, "loop_vars").with_cell("go on", go))
    return cell


def case(pred_fn_pairs: Sequence[tuple[Any, Fn]], default: Fn | None = None) -> Any:
    """The first function whose predicate holds, else ``default``, else the last one."""
    pairs = list(pred_fn_pairs) if isinstance(pred_fn_pairs, (list, tuple)) else None
    if not pairs or not all(isinstance(p, tuple) and len(p) == 2 for p in pairs):
        raise ArgumentTypeError("case: pred_fn_pairs: expected a list of (predicate, function)")
    _check_functions("case", *(fn for _, fn in pairs), default)
    if default is None:
        default = pairs.pop()[1]
    result: Fn = default
    for pred, fn in reversed(pairs):
        result = _chosen(pred, fn, result)
    return result()


def switch_case(
    branch_index: Any,
    branch_fns: Mapping[int, Fn] | Sequence[Fn] | Sequence[tuple[int, Fn]],
    default: Fn | None = None,
) -> Any:
    """The function of ``branch_index``, else ``default``, else that of the largest index."""
    if isinstance(branch_fns, Mapping):
        pairs = list(branch_fns.items())
    else:
        pairs = [x if isinstance(x, tuple) else (i, x) for i, x in enumerate(branch_fns)]
    if not pairs or not all(type(i) is int for i, _ in pairs):
        raise ArgumentTypeError("switch_case: branch_fns: expected functions, by int index")
    _check_functions("switch_case", *(fn for _, fn in pairs), default)
    if len({i for i, _ in pairs}) != len(pairs):
        raise ArgumentError("switch_case: branch_fns: an index occurs twice")
    pairs.sort(key=lambda pair: pair[0])
    if default is None:
        default = pairs[-1][1]
    return case([(branch_index == i, fn) for i, fn in pairs], default)


@contextmanager
def _refusing() -> Iterator[None]:
    """What can't be joined is refused: a program under a guard is recorded once.

    Raises: UnsupportedError.
    """
    try:
        yield
    except ForkNeeded as need:
        raise need.refusal from None


def _chosen(pred: Any, fn: Fn, other: Fn) -> Fn:
    return lambda: cond(pred, fn, other)


def _go(test: Any) -> Any:
    return truth(test) if is_run_time(test) else bool(test)


def _nothing() -> None:
    return None


def _put(cell: list[Any], at: int, value: Any) -> None:
    cell[at] = value


def _state(cell: list[Any], what: str) -> State:
    where = user_line(3)
    names = tuple(f"{what}[{i}]" for i in range(len(cell))) if len(cell) > 1 else (what,)
    return State(
        names,
        lambda: tuple(cell),
        lambda values: cell.__setitem__(slice(None), values),
        (where.file, where.line),
    )


def _is_recorded(x: Any) -> bool:
    tracer = active()
    if tracer is None:
        return False
    if isinstance(x, (list, tuple)):
        return any(map(_is_recorded, x))
    from oarlock.capture.torch_private import is_fake

    return is_fake(x) if isinstance(x, Tensor) else tracer.is_symbolic(x)


def _check_functions(what: str, *functions: Any) -> None:
    for fn in functions:
        if fn is not None and not callable(fn):
            raise ArgumentTypeError(f"{what}: expected a function, got {type(fn).__name__}")


def _check_test(what: str, test: Any) -> None:
    if isinstance(test, Tensor) and test.numel() != 1:
        raise ArgumentError(f"{what}: expected one truth value, got shape {list(test.shape)}")
