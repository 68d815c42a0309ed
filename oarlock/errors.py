"""One exception tree.

::

    OarlockError
    +-- UserError            the caller can fix it
    |   +-- TypeMismatch     an op does not accept these types
    |   +-- InvalidProgram   a program breaks a rule of the IR
    |   +-- ParseError       program text that does not parse
    |   +-- InvalidModel     a model file that is damaged, truncated, oversized or hostile
    |   +-- UnsupportedError something that cannot be captured, exported or compiled; all of it
    |   +-- DivergenceError  two executions that should agree do not
    |   +-- InputError       an input of a predictor, executor or evaluator is wrong
    |   +-- ModelError       the model's own assertion failed, or its own code raised
    |   +-- UnknownName      no op, pass, knob or target of this name
    |   +-- BuildError       a target cannot take this program
    |   +-- ArgumentError    an argument has a wrong value; a ValueError too
    |   +-- ArgumentTypeError an argument has a wrong type; a TypeError too
    |   +-- NonFiniteGradient a gradient to clip is NaN or infinite; a RuntimeError too, as torch's
    +-- CompilerBug          we must fix it; carries the IR around the fault
    +-- ToolError            a compiler or another tool failed; command, exit code, last lines
"""

from __future__ import annotations

from collections.abc import Sequence


class OarlockError(Exception):
    """Root of every error raised on purpose."""


class UserError(OarlockError):
    """The caller can fix it."""


class TypeMismatch(UserError):
    """An op does not accept these types or attributes."""


class InvalidProgram(UserError):
    """A program breaks a rule of the IR."""


class ParseError(UserError):
    """Program text that does not parse."""


class InvalidModel(UserError):
    """A model file that is damaged, truncated, oversized or hostile."""


class UnsupportedError(UserError):
    """Something cannot go further; ``problems`` lists all of it, one line each.

    ``sites``: lines of containers that, followed in another way, may let it.
    """

    sites: frozenset[tuple[str, int]] = frozenset()

    def __init__(self, headline: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([headline, *(f"  {problem}" for problem in self.problems)]))


class DivergenceError(UserError):
    """Two executions that should agree do not; the message names the first node that differs."""


class InputError(UserError):
    """A wrong input; ``input`` is its name."""

    def __init__(self, message: str, input: str | None = None) -> None:
        self.input = input
        super().__init__(message)


class ModelError(UserError):
    """What the captured code raises: ``kind`` is the class of its exception, ``reason`` its text."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind, self.reason = kind, reason
        super().__init__(f"{kind}: {reason}" if reason else kind)


class UnknownName(UserError):
    """No op, pass, knob or target of this name."""


class BuildError(UserError):
    """A target cannot take this program."""


class ArgumentError(UserError, ValueError):
    """An argument has a wrong value."""


class ArgumentTypeError(UserError, TypeError):
    """An argument has a wrong type."""


class NonFiniteGradient(UserError, RuntimeError):
    """A gradient to clip is NaN or infinite."""


class CompilerBug(OarlockError):
    """A fault of the compiler; ``window`` is the IR around it."""

    def __init__(self, message: str, window: str = "") -> None:
        self.window = window
        super().__init__(f"{message}\n{window}" if window else message)


class ToolError(OarlockError):
    """A compiler or another tool failed.

    Args: command: as run; exit_code: None when it could not start; tail: its last lines.
    """

    def __init__(
        self,
        message: str,
        command: Sequence[str] = (),
        exit_code: int | None = None,
        tail: str = "",
    ) -> None:
        self.command, self.exit_code, self.tail = tuple(command), exit_code, tail
        parts = [message]
        if command:
            parts.append(f"  command: {' '.join(command)}")
        if exit_code is not None:
            parts.append(f"  exit code: {exit_code}")
        if tail:
            parts.append(tail)
        super().__init__("\n".join(parts))
