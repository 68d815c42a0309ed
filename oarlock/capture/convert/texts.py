"""Texts with run-time values in them: ``str``, ``format``, ``%`` and ``join``."""

from __future__ import annotations

import functools
import itertools
import re
import string
from collections.abc import Iterable
from typing import Any

from oarlock.capture.convert.iterating import list_
from oarlock.capture.convert.numeric import float_, int_
from oarlock.capture.convert.sequences import is_run_time_sequence
from oarlock.capture.convert.spelling import spelled
from oarlock.capture.convert.state import Text, parts_of
from oarlock.capture.convert.tracing import tracer
from oarlock.capture.convert.truth import (
    is_run_time,
    own,
)


def str_(*args: Any, **options: Any) -> Any:
    if len(args) == 1 and (is_run_time(args[0]) or isinstance(args[0], Text)):
        return args[0] if isinstance(args[0], Text) else Text.of(((args[0], "s", ""),))
    found = spelled(args[0]) if len(args) == 1 and not options else None
    return str(*args, **options) if found is None else found


def repr_(value: Any) -> str:
    if isinstance(value, Text):
        return value.changed(repr)
    found = spelled(value, "r")
    return repr(value) if found is None else found


def chr_(code: Any) -> str:
    return tracer().texts.made(chr, code) if is_run_time(code) else chr(code)


def ord_(letter: Any) -> Any:
    if isinstance(letter, Text) and tracer() is not None:
        return tracer().number(ord, (letter,), ord("a"), True)
    return ord(letter)


def format_(value: Any, spec: str = "") -> str:
    if is_run_time(value):
        return Text.of(((value, "", spec),))
    method = own(value, "__format__")
    if method is not None:
        return method(value, spec)
    found = spelled(value) if not spec else None
    return format(value, spec) if found is None else found


def format_text(text: str, *args: Any, **names: Any) -> str:
    """``text.format(...)`` of run-time values."""
    if not any(map(_is_put_in, (*args, *names.values()))):
        return text.format(*args, **names)
    parts: list[Any] = []
    place = itertools.count()
    formatter = string.Formatter()
    for literal, field, spec, conversion in formatter.parse(text):
        if literal:
            parts.append(literal)
        if field is not None:
            name = str(next(place)) if field == "" else field
            value, _ = formatter.get_field(name, args, names)
            spec = (spec or "").format(*args, **names)
            parts += _field(value, conversion or "", spec)
    return Text.of(tuple(parts))


def _is_put_in(x: Any) -> bool:
    """A value of the run, or one whose class spells it in Python."""
    return is_run_time(x) or isinstance(x, Text) or any(own(x, name) for name in _SPELLING)


def _field(value: Any, conversion: str, spec: str) -> tuple[Any, ...]:
    if is_run_time(value) or isinstance(value, Text):
        return ((value, conversion, spec),)
    if conversion:
        value = (
            repr_(value)
            if conversion == "r"
            else str_(value)
            if conversion == "s"
            else ascii(value)
        )
    return parts_of(format_(value, spec))


_SPELLING = ("__format__", "__str__", "__repr__")


def percent_parts(text: str, rest: list[Any]) -> tuple[Any, ...]:
    """The parts of ``text % rest``, whose values are taken from it; ``%s`` and ``%r`` as conversions,
    numbers as formats."""
    parts: list[Any] = []
    end = 0
    for found in re.finditer(r"%(?P<flags>[-+ #0]*[\d]*(?:\.\d+)?)(?P<kind>[sdrifgeEGxXo%])", text):
        parts.append(text[end : found.start()])
        end = found.end()
        if found["kind"] == "%":
            parts.append("%")
            continue
        kind, flags = found["kind"], found["flags"]
        if kind in "sr":
            value = rest.pop(0)
            found_text = None if flags or is_run_time(value) else spelled(value, kind.strip("s"))
            one = (value, kind, flags and f">{flags}")
            parts.append(one if found_text is None else (found_text, "", ""))
        else:
            value = rest.pop(0)
            whole = int_(value) if kind in "di" else float_(value) if kind in "fgeEG" else value
            parts.append((whole, "", flags + ("d" if kind == "i" else kind)))
    return tuple(p for p in (*parts, text[end:]) if p != "")


def join_text(separator: str, items: Iterable[Any]) -> str:
    active = tracer()
    if active is not None and active.is_choice(items):
        return active.each(items, functools.partial(join_text, separator))
    if is_run_time_sequence(items):
        return tracer().texts.made(str.join, separator, list_(items))
    found = list(items)
    if not any(isinstance(x, Text) or is_run_time(x) for x in (separator, *found)):
        return separator.join(found)
    parts: list[Any] = []
    for i, x in enumerate(found):
        parts += parts_of(separator) if i and separator else ()
        parts += parts_of(x)
    return Text.of(tuple(parts))
