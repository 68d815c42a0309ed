"""All that keeps a function from being captured, each with its line, its reason and a rewrite."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from oarlock.capture.tape.effort import Spent
from oarlock.errors import UnsupportedError

MOST = 12  # captures to look for further ones


def every(
    name: str, first: UnsupportedError, capture: Callable[[frozenset[str]], Any],
    unconverted: Iterable[str] = (),
) -> UnsupportedError:  # fmt: skip
    """``first``, or an error that lists it and what comes after it.

    Args: capture: captures again, passing over known refusals by their texts; unconverted: what
        could not be converted of the functions that are called.
    """
    found = [*dict.fromkeys([*unconverted, *texts(first)])]
    for _ in range(MOST):
        try:
            capture(frozenset(found))
        except UnsupportedError as refusal:
            more = [text for text in texts(refusal) if text not in found]
            if not more:
                break
            found += more
        except (
            Exception,
            Spent,
        ):  # what comes after a construct that was passed over may miss its results
            break
        else:
            break
    shown = {text.partition(": ")[0]: text for text in reversed(found)}  # the first of each line
    if len(shown) < 2:
        return first
    listed = [text for text in found if text in shown.values()]
    return UnsupportedError(f"{name}: {len(listed)} things cannot be converted:", listed)


def texts(refusal: UnsupportedError) -> list[str]:
    """The single refusals in an error."""
    return list(refusal.problems) or [str(refusal)]


def is_known(refusal: UnsupportedError, known: frozenset[str]) -> bool:
    """It has been reported already."""
    return bool(known) and known.issuperset(texts(refusal))
