"""What stands for a value of the run in the hands of the code, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from oarlock.capture.convert.state import Text
from oarlock.capture.tape import runtime
from oarlock.capture.tape.ambience import ambient
from oarlock.capture.tape.choice import Choice, choice, val_of
from oarlock.capture.tape.higher import Higher
from oarlock.capture.tape.inputs import Inputs
from oarlock.capture.tape.join import Leaf, Many, stand_in
from oarlock.capture.tape.lines import NOWHERE, user_line
from oarlock.capture.tape.lists import Lists
from oarlock.capture.tape.merged import Merged
from oarlock.capture.tape.nodes import Block, Call, Val, Where, leaves, map_tree
from oarlock.capture.tape.numbers import Number, number_of
from oarlock.capture.tape.run_list import RunList
from oarlock.capture.tape.tables import RunTable, Tables
from oarlock.capture.tape.texts import Texts
from oarlock.capture.torch_private import is_fake


class Values(TorchFunctionMode):
    """The values of a trace: each has a fake tensor, a number or another stand-in."""

    root: Block
    block: Block
    vals: dict[int, tuple[torch.Tensor, Val]]
    bound_checks: set[tuple[int, int]]
    of_many: set[int]  # ids of values that are one of several objects
    inputs: Inputs
    lists: Lists
    tables: Tables
    texts: Texts
    merged: Merged
    higher: Higher
    home: Where

    @contextmanager
    def into(self, block: Block) -> Iterator[Block]:
        """Record into ``block``."""
        before, self.block = self.block, block
        try:
            yield block
        finally:
            self.block = before

    def where(self) -> Where:
        found = user_line(3)
        return found if found is not NOWHERE else self.home

    def note(self, tree: Any) -> Any:
        """``tree`` with Vals for everything known at run time, about to be used."""
        noted = map_tree(tree, self.leaf)
        for val in leaves(noted):
            if isinstance(val, Val) and "unbound" in val.loose:
                self.check_bound(val)
        return noted

    def noted(self, tree: Any) -> Any:
        """``note`` for values that are only passed on."""
        return map_tree(tree, self.leaf)

    def leaf(self, x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return self.val(x)
        if isinstance(x, Number):
            return x.val
        if isinstance(x, Choice):
            return val_of(x)
        if isinstance(x, RunTable):
            return x.val
        if isinstance(x, RunList):
            self.merged.used(x)
            return x.val if x.val is not None else [self.noted(i) for i in list.__iter__(x)]
        if isinstance(x, torch.Generator) and id(x) in self.higher.generators:
            return self.higher.generators[id(x)][1]
        return self.texts.val(x) if isinstance(x, Text) else x

    def check_bound(self, val: Val) -> None:
        key = (val.id, id(self.block))
        if key not in self.bound_checks:
            self.bound_checks.add(key)
            call = Call(runtime.bound, (val, val.name), {}, None, user_line(4), ambient())
            self.block.nodes.append(call)

    def val(self, x: torch.Tensor) -> Val:
        """The value that a tensor in the hands of the user's code stands for."""
        if not is_fake(x):
            x = self.inputs.fake_of(x)
        found = self.vals.get(id(x))
        return found[1] if found else self.bind(x)

    def bind(self, out: Any) -> Any:
        """The tree of a call's results: Vals for tensors, None for anything else."""
        return map_tree(out, self._bind_leaf)

    def _bind_leaf(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x.val if isinstance(x, Number) else None
        found = self.vals.get(id(x))
        return found[1] if found else self.name(x, Val(self.block, x))

    def name(self, x: torch.Tensor, val: Val) -> Val:
        """Let fake tensor ``x`` stand for ``val``."""
        self.vals[id(x)] = (x, val)
        val.sample = x
        return val

    def stand_for(self, leaf: Leaf, val: Val) -> Any:
        """What the user's code holds for a value that is one of two."""
        val.dims, val.loose = leaf.dims, leaf.loose
        self.of_many.add(val.id)
        if leaf.kind == "number":
            val.sample = leaf.a
            number = number_of(val, leaf.a, leaf.is_data)
            number.other, number.is_free = leaf.b, True
            number.loops = frozenset([leaf.loop]) if hasattr(leaf, "loop") else frozenset()  # type: ignore[attr-defined]
            return number
        if leaf.kind == "list":
            val.sample = self.lists.one_of(leaf, val)
            return val.sample
        if leaf.kind == "table":
            val.sample = self.tables.one_of(leaf, val)
            return val.sample
        if leaf.kind == "any":
            return choice(self, leaf, val)
        if leaf.kind == "text":
            val.sample = ""
            return Text.of(((val, "", ""),))
        if leaf.dims and leaf.is_data:
            val.loose |= {"data"}
        with torch._C.DisableTorchFunction():
            parts = [
                self.val(x).sample if isinstance(x, torch.Tensor) else None for x in leaf.parts
            ]
            sources = [x for x in parts if x is not None]
            device = sources[0].device
            fake = stand_in(leaf.a, leaf.dtype, device, leaf.grad, sources)  # type: ignore[arg-type]
            if leaf.dims or leaf.is_reached:
                val.twin = stand_in(leaf.b, leaf.dtype, device, leaf.grad, [])  # type: ignore[arg-type]
            self.graded.joined(fake, parts)
        self.name(fake, val)
        return fake

    def sample_of(self, joint: Any) -> Any:
        """Fakes in the structure of a joined value, for an item of a list."""
        if isinstance(joint, Leaf):
            val = Val(self.block, None)
            return self.stand_for(joint, val)
        if isinstance(joint, Many):
            items = [self.sample_of(x) for x in joint.items]
            like = joint.like
            return dict(zip(joint.keys, items)) if isinstance(like, dict) else type(like)(items)
        return joint.value
