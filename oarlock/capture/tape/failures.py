"""Functions that raise as data decide what a ``try`` of a caller catches.

They are found while tracing: then the trace begins again, and they give an ``Outcome`` in place of
raising where the caller can ask for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import CodeType
from typing import Any

from oarlock.capture.convert.build import OPERATORS
from oarlock.capture.convert.convert import BLOCKS, FAILING
from oarlock.capture.convert.handlers import Steering, handling


class Failing(Steering):
    """The converted code of functions that raise below decisions on data, found while tracing."""

    def __init__(self, codes: frozenset[CodeType]) -> None:
        super().__init__(", ".join(sorted(code.co_name for code in codes)))
        self.codes = codes


class Failures:
    """``codes``: of the functions that give an ``Outcome`` where their callers ask for it."""

    def __init__(self, codes: frozenset[CodeType]) -> None:
        self.codes = codes

    def look_at(self, error: BaseException, handlers: list[handling]) -> None:
        """``error``, which one way of a decision raises, reaches ``handlers``.

        Raises: Failing with the functions between them that are not known to fail.
        """
        known = [h for h in handlers if h.frame is not None]
        found = frozenset(filter(_may_fail, _between(error, known[-1]) if known else ()))
        found -= self.codes
        if found:
            raise Failing(found)


def _may_fail(code: CodeType) -> bool:
    is_ours = OPERATORS in code.co_freevars and id(code) not in BLOCKS
    return is_ours and code not in FAILING and not code.co_flags & 0x20


def _between(error: BaseException, handler: handling) -> Iterator[CodeType]:
    """The code that runs from where an error is raised out to where it is caught."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code
        trace = trace.tb_next
    frame: Any = sys._getframe(1)
    while frame is not None and frame is not handler.frame:
        yield frame.f_code
        frame = frame.f_back
