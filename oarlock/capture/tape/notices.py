"""Warnings and logs that the code gives: given by each call of the run, as its prints are."""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from types import FrameType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from oarlock.capture.tape.lines import is_library, user_line
from oarlock.capture.tape.nodes import Print, Where
from oarlock.capture.torch_private import is_dispatching
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

_LEVELS = {
    "debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "warn": logging.WARNING,
    "error": logging.ERROR, "exception": logging.ERROR, "critical": logging.CRITICAL, "log": None,
}  # fmt: skip
_OF_LOGGERS: dict[Any, str] = {getattr(logging.Logger, name): name for name in _LEVELS}
_OF_MODULE: dict[Any, str] = {getattr(logging, name): name for name in _LEVELS}
_HARMLESS = ("flush", "isatty", "fileno", "readable", "writable", "seekable")
_WRITERS = ("_csv", "_queue", "_hashlib")  # what C keeps, and nobody can put back
_OURS = str(Path(__file__).parents[2])
_TOLD: list[list[tuple[str, type[Warning]]]] = []  # by runs that are compared with eager
_WARNED: list[list[Any]] = []  # beside them, by eager


@contextmanager
def hushed() -> Iterator[list[Any]]:
    """What runs inside prints nothing, logs nothing, and its warnings are kept.

    Gives a list that tells at the end what was told: a stream, log records, warnings.
    """
    told: list[Any] = []
    streams = io.StringIO(), io.StringIO()
    me, handle = threading.get_ident(), logging.Logger.callHandlers

    def unheard(logger: logging.Logger, record: logging.LogRecord) -> None:
        if threading.get_ident() != me:
            handle(logger, record)
        else:
            told.append(record)

    logging.Logger.callHandlers = unheard  # type: ignore[method-assign]
    try:
        with (
            redirect_stdout(streams[0]),
            redirect_stderr(streams[1]),
            warnings.catch_warnings(record=True) as found,
        ):
            yield told
            told += [s for s in streams if s.getvalue()]
            told += found
    finally:
        logging.Logger.callHandlers = handle  # type: ignore[method-assign]
        for warned in _WARNED[-1:]:
            warned += found


@contextmanager
def heard_once() -> Iterator[None]:
    """Warnings that eager has given inside are given, but for those that a tape has given."""
    _TOLD.append([])
    _WARNED.append([])
    try:
        yield
    finally:
        given, kept = _TOLD.pop(), _WARNED.pop()
        for one in {(str(x.message), x.category, x.filename, x.lineno): x for x in kept}.values():
            if (str(one.message), one.category) not in given:
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
        if function is open:
            return self.opened
        owner = getattr(function, "__self__", None)
        if isinstance(owner, io.IOBase) or type(owner).__module__ in _WRITERS:
            return self.of_stream(owner, function)
        if isinstance(function, type) and issubclass(function, io.IOBase):
            return partial(self.made, function)
        if type(function) is FunctionType and function in _OF_MODULE:
            return partial(self.log, logging.root, _OF_MODULE[function])
        if type(function) is MethodType and function.__func__ in _OF_LOGGERS:
            return partial(self.log, function.__self__, _OF_LOGGERS[function.__func__])
        return None

    def made(self, kind: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """A stream that the code makes is its own."""
        found = kind(*args, **options)
        self.tracer.journal.create(found)
        return found

    def opened(self, file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if set(mode) & set("wax+"):
            self.refuse("a file is written")
        return self.made(open, file, mode, *args, **options)

    def is_outer(self, stream: Any) -> bool:
        is_stream = isinstance(stream, io.IOBase) or type(stream).__module__ in _WRITERS
        return is_stream and id(stream) not in self.tracer.journal.frames[0].born

    def of_stream(self, stream: Any, method: Any) -> Callable[..., Any] | None:
        name = method.__name__
        if not self.is_outer(stream) or name in _HARMLESS:
            return None
        if name not in ("write", "writelines"):
            self.refuse(f"{name} of a stream from outside")
        return partial(self.write, stream, name)

    def write(self, stream: Any, name: str, text: Any) -> None:
        self.tell(Written(stream, name), (text,), {})

    def print_(self, args: tuple, options: dict[str, Any]) -> None:
        """``print``, to a stream of the code at once."""
        stream = options.pop("file", None)
        if stream is None or stream is sys.stdout:
            self.tell(print, args, options)
        elif id(stream) not in self.tracer.journal.frames[0].born:
            self.tell(Printed(stream), args, options)
        elif any(map(self.tracer.is_symbolic, args)):
            self.refuse("what is known at run time only is printed to a stream that the code makes")
        else:
            print(*args, **options, file=stream)

    def refuse(self, what: str) -> None:
        raise UnsupportedError(
            f"{self.tracer.where()}: {what}; do it outside of the function, or in one that "
            f"not_to_static leaves out"
        )

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
            level, args = args[0], args[1:]
        if not call(logger.isEnabledFor)(level):
            return
        if name == "exception" and "exc_info" not in options:
            options["exc_info"] = True
        if options.get("exc_info") is True:
            options["exc_info"] = sys.exc_info()[1]
        where = user_line()
        for _ in range(options.pop("stacklevel", 1) - 1):
            where = where.caller or where
        self.tell(Logged(logger, level, where), args, options)

    def tell(self, function: Any, args: tuple, options: dict[str, Any]) -> None:
        tracer = self.tracer
        tracer.block.nodes.append(
            Print(tracer.note(args), tracer.note(options), user_line(), function)
        )


class Written:
    """Writes to a stream; where eager has run beside, it has written already."""

    what = "what is written to a stream"

    def __init__(self, stream: Any, name: str) -> None:
        self.stream, self.name = _known(stream), name

    def __call__(self, *args: Any) -> None:
        if not is_dispatching() and (not _TOLD or isinstance(self.stream, str)):
            getattr(_stream(self.stream), self.name)(*args)


class Printed:
    """Prints to a stream, likewise."""

    what = "print"

    def __init__(self, stream: Any) -> None:
        self.stream = _known(stream)

    def __call__(self, *args: Any, **options: Any) -> None:
        if not is_dispatching() and (not _TOLD or isinstance(self.stream, str)):
            print(*args, **options, file=_stream(self.stream))


def _known(stream: Any) -> Any:
    """The name of a stream of ``sys``, which is another where it is redirected."""
    return next((n for n in ("stdout", "stderr") if getattr(sys, n) is stream), stream)


def _stream(known: Any) -> Any:
    return getattr(sys, known) if isinstance(known, str) else known


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
