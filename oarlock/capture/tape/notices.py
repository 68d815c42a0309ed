"""Warnings and logs that the code gives: given by each call of the run, as its prints are."""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from types import FrameType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from oarlock.capture.tape.lines import is_library, user_line
from oarlock.capture.tape.nodes import Print, Where
from oarlock.capture.torch_private import is_dispatching

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

_LEVELS = {
    "debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "warn": logging.WARNING,
    "error": logging.ERROR, "exception": logging.ERROR, "critical": logging.CRITICAL, "log": None,
}  # fmt: skip
_OF_LOGGERS: dict[Any, str] = {getattr(logging.Logger, name): name for name in _LEVELS}
_OF_MODULE: dict[Any, str] = {getattr(logging, name): name for name in _LEVELS}
_OURS = str(Path(__file__).parents[2])
_TOLD: list[list[tuple[str, type[Warning]]]] = []  # by runs that are compared with eager


@contextmanager
def hushed(warned: list[Any] | None = None) -> Iterator[None]:
    """What runs inside prints nothing, logs nothing, and adds its warnings to ``warned``."""
    me, handle = threading.get_ident(), logging.Logger.callHandlers

    def unheard(logger: logging.Logger, record: logging.LogRecord) -> None:
        if threading.get_ident() != me:
            handle(logger, record)

    logging.Logger.callHandlers = unheard  # type: ignore[method-assign]
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as found:
            yield
    finally:
        logging.Logger.callHandlers = handle  # type: ignore[method-assign]
        if warned is not None:
            warned += found


@contextmanager
def heard_once() -> Iterator[list[Any]]:
    """Gives the warnings that are put into a list, but for those that a tape has given."""
    warned, given = [], []
    _TOLD.append(given)
    try:
        yield warned
    finally:
        _TOLD.pop()
        for one in warned:
            if (str(one.message), one.category) in given:
                given.remove((str(one.message), one.category))
            else:
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


class Notices:
    """What the tracer puts in place of the functions that give them."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.filters = list(warnings.filters)

    def override(self, function: Any) -> Callable[..., Any] | None:
        """In place of ``function``, or None."""
        if function is warnings.warn:
            return self.warn
        if type(function) is FunctionType and function in _OF_MODULE:
            return partial(self.log, logging.root, _OF_MODULE[function])
        if type(function) is MethodType and function.__func__ in _OF_LOGGERS:
            return partial(self.log, function.__self__, _OF_LOGGERS[function.__func__])
        return None

    def warn(
        self, message: Any, category: Any = None, stacklevel: int = 1, source: Any = None
    ) -> None:
        kind = type(message) if isinstance(message, Warning) else category or UserWarning
        if not self.is_suppressed(kind):
            self.tell(Warned(kind, user_line(), stacklevel, _globals()), (message,), {})

    def is_suppressed(self, kind: Any) -> bool:
        """The code itself has set that warnings of this kind are not given."""
        if warnings.filters == self.filters:
            return False
        found = (x[0] for x in warnings.filters if issubclass(kind, x[2]) and x[1] is None)
        return next(found, "default") == "ignore"

    def log(self, logger: logging.Logger, name: str, *args: Any, **options: Any) -> None:
        from oarlock.capture.convert.calls import call

        level = _LEVELS[name]
        if level is None:
            level, *args = args
        if not call(logger.isEnabledFor)(level):
            return
        if name == "exception" and "exc_info" not in options:
            options["exc_info"] = True
        if options.get("exc_info") is True:
            options["exc_info"] = sys.exc_info()[1]
        where = user_line()
        for _ in range(options.pop("stacklevel", 1) - 1):
            where = where.caller or where
        self.tell(Logged(logger, level, where), tuple(args), options)

    def tell(self, function: Any, args: tuple, options: dict[str, Any]) -> None:
        tracer = self.tracer
        tracer.block.nodes.append(
            Print(tracer.note(args), tracer.note(options), user_line(), function)
        )


class Logged:
    """Gives a log record of a line of the user's."""

    what = "a log"

    def __init__(self, logger: logging.Logger, level: int, where: Where) -> None:
        self.logger, self.level, self.where = logger, level, where

    def __call__(
        self, message: Any, *args: Any, exc_info: Any = None, extra: Any = None,
        stack_info: bool = False,
    ) -> None:  # fmt: skip
        if is_dispatching():
            return
        if isinstance(exc_info, BaseException):
            exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
        logger, where = self.logger, self.where
        record = logger.makeRecord(
            logger.name, self.level, where.file, where.line, message, args, exc_info or None,
            where.name, extra,
        )  # fmt: skip
        logger.handle(record)


class Warned:
    """Gives a warning of a line of the user's, or of a line that calls it."""

    what = "a warning"

    def __init__(
        self, kind: type[Warning], where: Where, level: int, names: dict[str, Any]
    ) -> None:
        self.kind, self.where, self.level, self.names = kind, where, level, names

    def __call__(self, message: Any) -> None:
        if is_dispatching():
            return
        for given in _TOLD:
            given.append((str(message), self.kind))
        where: Where | None = self.where
        level = self.level
        while level > 1 and where is not None:
            where, level = where.caller, level - 1
        file, line, names = (
            (where.file, where.line, self.names) if where is not None else _caller(level)
        )
        warnings.warn_explicit(
            message, self.kind, file, line, names.get("__name__") or "<unknown>",
            names.setdefault("__warningregistry__", {}),
        )  # fmt: skip


def _globals() -> dict[str, Any]:
    """The variables of the user's module whose code runs."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_library(frame.f_code.co_filename):
        frame = frame.f_back
    return {} if frame is None else frame.f_globals


def _caller(level: int) -> tuple[str, int, dict[str, Any]]:
    """The ``level``-th line outside of the static function."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (
        frame.f_code.co_filename.startswith(_OURS)
        or frame.f_code.co_filename.startswith("<oarlock")
    ):
        frame = frame.f_back
    while frame is not None and frame.f_back is not None and level > 1:
        frame, level = frame.f_back, level - 1
    return ("sys", 1, {}) if frame is None else (
        frame.f_code.co_filename, frame.f_lineno, frame.f_globals
    )  # fmt: skip
