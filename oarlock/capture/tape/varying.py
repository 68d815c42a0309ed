"""Which sizes and numbers differ from call to call, as far as the calls of a function have shown."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.tape.emit import uses
from oarlock.capture.tape.nodes import Call, Val, leaves
from oarlock.capture.tape.queries import assumption
from oarlock.capture.tape.sources import Key, key_of

if TYPE_CHECKING:
    from oarlock.capture.tape.capturing import Tape

Pairs = dict[Key, tuple[Any, Any]]  # two values of each: one of an earlier call, and one of now
_OF_OWNERS: weakref.WeakKeyDictionary[Any, Pairs] = weakref.WeakKeyDictionary()


@dataclass
class Plan:
    """How to capture a call: ``choices`` of what is read at each call, the most general one first.

    ``near``: the tapes that differ in sizes and numbers only, with which ones; ``refused``: sets
    with which the code, in the state that it is in, was refused; some choice ``has_skipped``.
    """

    choices: list[Pairs]
    near: list[tuple[Tape, Pairs]]
    refused: set[frozenset[Key]] = field(default_factory=set)
    has_skipped: bool = False

    def served(self, made: Tape) -> list[Tape]:
        """The tapes that ``made`` serves for as well."""
        free = made.symbolic.keys()
        return [t for t, pairs in self.near if free >= pairs.keys() | t.symbolic.keys()]


@dataclass
class Varying:
    """What the calls of a function, and of other methods of its owner, have shown to differ."""

    pairs: Pairs = field(default_factory=dict)

    @staticmethod
    def of(owner: Any) -> Varying:
        """That of a method shares with the others of ``owner`` which sizes and numbers differ."""
        if owner is None:
            return Varying()
        try:
            return Varying(_OF_OWNERS.setdefault(owner, {}))
        except TypeError:  # no weak references, or no hash
            return Varying()

    def plan(self, tapes: list[Tape], args: tuple, kwargs: dict[str, Any], named: Pairs) -> Plan:
        """For a call that none of ``tapes`` serves; ``named``: what input_spec leaves free."""
        found = [differing(tape, args, kwargs) for tape in tapes]
        near = [(tape, pairs) for tape, (pairs, is_all) in zip(tapes, found) if is_all]
        known = dict(self.pairs)
        for tape, (pairs, _) in reversed([*zip(tapes, found)]):
            known |= tape.symbolic | pairs
        free = {key: pair for tape in tapes for key, pair in tape.symbolic.items()} | named
        wanted, refused = [known | named, free, {} | named], set()
        if near:
            tape, pairs = min(near, key=lambda pair: sum(key[2] < 0 for key in pair[1]))
            sizes = {key: pair for key, pair in pairs.items() if key[2] >= 0}
            mine, refused = tape.symbolic | pairs | named, set(tape.refused)
            wanted = [known | mine, mine, tape.symbolic | sizes | named, *wanted[1:]]
        choices, has_skipped = _left(wanted, named, refused)
        self.pairs |= {key: pair for pairs, _ in found for key, pair in pairs.items()}
        return Plan(choices, near, refused, has_skipped)


def _left(
    wanted: list[Pairs], named: Pairs, refused: set[frozenset[Key]]
) -> tuple[list[Pairs], bool]:
    """``wanted``, each set once, without those that hold one of ``refused``; whether there were any."""
    choices: list[Pairs] = []
    has_skipped = False
    for pairs in wanted:
        if any(bad <= pairs.keys() for bad in refused) and pairs.keys() != named.keys():
            has_skipped = True
        elif not any(pairs.keys() == other.keys() for other in choices):
            choices.append(pairs)
    return choices, has_skipped


def differing(tape: Tape, args: tuple, kwargs: dict[str, Any]) -> tuple[Pairs, bool]:
    """The sizes and numbers in which a call differs from those ``tape`` serves; that is all."""
    found: Pairs = {}
    is_all = True
    for guard in tape.guards.failing(args, kwargs):
        try:
            now = None if guard.key is None else tape.guards.now(guard, args, kwargs)
        except (AttributeError, LookupError, TypeError):  # another structure
            now = None
        if guard.key is not None and type(now) is type(guard.value):
            found[guard.key] = (guard.value, now)
        else:
            is_all = False
    return found, is_all


def blamed(tape: Tape, reason: str) -> set[Key]:
    """The sizes and numbers that a check of ``tape`` depends on, which has failed for ``reason``."""
    makers, inputs = {}, {val.id: (val, source) for val, source in tape.inputs}
    todo: list[tuple[int, int | None]] = []  # values, with the axis where only a size of it counts
    for node in tape.root.walk():
        makers |= {val.id: node for val in _made(node)}
        if assumption(node) == reason:
            todo += [(val, None) for val in uses(node)]
    free, done, found = set(tape.symbolic), set(), set()
    while todo:
        val, axis = todo.pop()
        node = makers.get(val)
        if val in inputs:
            given, source = inputs[val]
            axes = [axis] if axis is not None else [-1, *given.dims]
            found |= {key_of(source, one) for one in axes}
        elif not isinstance(node, Call) or not isinstance(node.outs, Val) or _is_list(node.outs):
            return free  # what loops and decisions give, and lists that they fill
        elif val not in done:
            done.add(val)
            axis = node.args[1] if node.func is torch.Tensor.size else None
            todo += [(used, axis) for used in uses(node)]
    return found & free or free


def _made(node: Any) -> Iterator[Val]:
    for name in ("outs", "params"):
        yield from (val for val in leaves(getattr(node, name, None)) if isinstance(val, Val))


def _is_list(val: Val) -> bool:
    return isinstance(val.sample, list)
