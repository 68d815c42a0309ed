"""Digests of a program in memory; those of weights that cannot change are computed once."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping

import numpy as np

from oarlock.ir.archive import Archive, weights_digest
from oarlock.ir.graph import Program

MAX_KNOWN = 16
_Key = tuple[tuple[str, int], ...]
_known: dict[_Key, tuple[list[weakref.ref[np.ndarray]], str]] = {}


def digests(source: Program | Archive) -> tuple[str, str]:
    """Of the text, of the weights; an archive's are those that it states."""
    if isinstance(source, Archive):
        return source.text_digest, source.weights_digest
    return hashlib.sha256(str(source).encode()).hexdigest(), _weights(source.params)


def _weights(params: Mapping[str, np.ndarray]) -> str:
    if not all(map(_is_frozen, params.values())):
        return weights_digest(params)
    key = tuple((name, id(array)) for name, array in params.items())
    references, digest = _known.get(key, ([], ""))
    alive = [r() for r in references]
    if not digest or any(a is not b for a, b in zip(alive, params.values())):
        digest = weights_digest(params)
        _known[key] = [weakref.ref(a) for a in params.values()], digest
        while len(_known) > MAX_KNOWN:
            _known.pop(next(iter(_known)))
    return digest


def _is_frozen(array: np.ndarray) -> bool:
    """Neither the array nor one that it is a view of can be written; such as a mapped file."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return False
        owner = owner.base
    return True
