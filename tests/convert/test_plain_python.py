"""Without a tracer, converted code does exactly what the original does."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from oarlock.capture.convert import convert
from tests.convert.programs import PROGRAMS


def outcome(fn: Any, args: tuple) -> tuple[Any, ...]:
    """What a call gives or raises, and what it leaves in its arguments, as text."""
    args = copy.deepcopy(args)
    try:
        result: Any = fn(*args)
    except Exception as error:
        result = (type(error), error.args, type(error.__cause__))
        result = (NameError,) if isinstance(error, NameError) else result
    return repr(result), repr(args)


@pytest.mark.parametrize("fn, inputs", PROGRAMS, ids=[p[0].__name__ for p in PROGRAMS])
def test_same_as_python(fn, inputs):
    converted = convert(fn)
    for args in inputs:
        assert outcome(converted, args) == outcome(fn, args), args
