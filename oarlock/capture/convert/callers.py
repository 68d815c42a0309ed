"""``attrgetter``, ``itemgetter`` and ``methodcaller`` of the module operator, converted."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

from oarlock.capture.convert.sequences import item


def _reader(function: Any) -> Callable[[Any], Any]:
    from oarlock.capture.convert.attributes import read_attribute

    names = function.__reduce__()[1]

    def read(owner: Any) -> Any:
        return _one_or_all([functools.reduce(read_attribute, n.split("."), owner) for n in names])

    return read


def _picker(function: Any) -> Callable[[Any], Any]:
    keys = function.__reduce__()[1]
    return lambda owner: _one_or_all([item(owner, key) for key in keys])


def _one_or_all(found: list[Any]) -> Any:
    return found[0] if len(found) == 1 else tuple(found)


def _caller(function: Any) -> Callable[[Any], Any]:
    from oarlock.capture.convert.attributes import read_attribute
    from oarlock.capture.convert.calls import call

    make, args = function.__reduce__()
    options = getattr(make, "keywords", {})
    name, *rest = (*getattr(make, "args", ()), *args)
    return lambda owner: call(read_attribute(owner, name))(*rest, **options)


CALLERS: dict[type, Callable[[Any], Callable[[Any], Any]]] = {
    operator.attrgetter: _reader,
    operator.itemgetter: _picker,
    operator.methodcaller: _caller,
}
