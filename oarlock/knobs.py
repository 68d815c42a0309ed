"""Every environment variable that Oarlock reads, typed, declared once.

``oarlock knobs`` prints this table.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from oarlock.errors import UnknownName, UserError


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("", "0", "false", "no", "off"):
        return False
    raise ValueError("expected 0 or 1")


def _check(text: str) -> str:
    if text not in ("first", "all", "off"):
        raise ValueError("expected first, all or off")
    return text


@dataclass(frozen=True)
class Knob:
    """An environment variable: its name, how its text becomes a value, its default."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    doc: str

    @property
    def value(self) -> Any:
        """The parsed value, or the default when unset.  Raises: UserError when it does not parse."""
        text = os.environ.get(self.name)
        if text is None or text == "":
            return self.default
        try:
            return self.parse(text)
        except ValueError as error:
            raise UserError(f"{self.name}={text!r}: {error}") from error


KNOBS: dict[str, Knob] = {}


def knob(name: str, parse: Callable[[str], Any], default: Any, doc: str) -> Knob:
    """Declare an environment variable."""
    KNOBS[name] = Knob(name, parse, default, doc)
    return KNOBS[name]


def get(name: str) -> Any:
    """The value of knob ``name``."""
    if name not in KNOBS:
        raise UnknownName(f"no knob {name!r}; `oarlock knobs` lists them: {', '.join(KNOBS)}")
    return KNOBS[name].value


CC = knob("OARLOCK_CC", str, None, "C compiler command; overrides $CC, clang, gcc and ziglang")
CACHE_DIR = knob("OARLOCK_CACHE_DIR", str, None, "folder of compiled engines; made private (0700)")
CACHE_BYTES = knob("OARLOCK_CACHE_BYTES", int, 2 << 30, "bound of the engine cache, bytes")
THREADS = knob("OARLOCK_THREADS", int, None, "threads of a predictor; default: the cores granted")
TARGET = knob("OARLOCK_TARGET", str, None, "target of a predictor; default: this machine's CPU")
KEEP_C = knob("OARLOCK_KEEP_C", _flag, False, "keep generated C beside compiled engines")
VERIFY = knob("OARLOCK_VERIFY", _flag, False, "check the program after every pass")
CFLAGS = knob("OARLOCK_CFLAGS", str, "", "flags for the C compiler, after our own")
LEAST_WORK = knob(
    "OARLOCK_LEAST_WORK", int, 200_000, "multiplications a static call must make to be compiled"
)
CHECK = knob(
    "OARLOCK_CHECK", _check, "first", "static calls compared with eager: first, all or off"
)
