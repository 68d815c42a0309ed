"""How a function ends: where its ways join, and where it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from oarlock.capture.lowering import messages
from oarlock.capture.lowering.recorder import PLAIN_REASONS, Refused
from oarlock.capture.tape.nodes import Block, Fork, Raise
from oarlock.ir import Value, bool_

if TYPE_CHECKING:
    from oarlock.capture.lowering.replay import Lowering


class Ends:
    """The ends of blocks."""

    def __init__(self, low: Lowering) -> None:
        self.low, self.r = low, low.r

    def ending(self, block: Block, result: Any) -> tuple:
        """What the function gives at the end of a block: that of the ways where it forks."""
        self.low.run(block)
        last = block.nodes[-1] if block.nodes else None
        if isinstance(last, Fork):
            return self.fork(last)
        return self.low.results.whole(result, block.results[0], "result")

    def fork(self, node: Fork) -> tuple:
        """The ways of a decision, joined where they end.  Raises: Refused."""
        try:
            return self.joined(node)
        except PLAIN_REASONS as error:
            self.low.refuse(node, error)

    def joined(self, node: Fork) -> tuple:
        test = self.low.test(node.test)
        if isinstance(test, bool):
            way = node.then if test else node.orelse
            return self.ending(way, way.result)
        for failing, other in ((node.then, node.orelse), (node.orelse, node.then)):
            if failing.raises:
                with self.low.outside():
                    good = self.r.b.logical_not(test) if failing is node.then else test
                self.fail_unless(good, failing)
                return self.ending(other, other.result)
        with self.low.outside():
            sides = [self.way(block) for block in (node.then, node.orelse)]
            return self.low.blocks.branch(test, *sides)[0]

    def way(self, block: Block) -> Callable[[], list[Any]]:
        def run() -> list[Any]:
            with self.low.scope():
                return [self.ending(block, block.result)]

        return run

    def fail_unless(self, good: Value, block: Block) -> None:
        """An assertion with the error that a block raises.

        What the block computes before it is recorded where the message needs it.
        """
        if messages.needs_values(block) and self.fails_with_values(good, block):
            return
        error = next((n for n in reversed(list(block.walk())) if isinstance(n, Raise)), None)
        kind = "RuntimeError" if error is None else error.kind.__name__
        text = "" if error is None else messages.said(error)
        with self.low.outside():
            self.r.b.assert_(good, message=text, kind=kind)

    def fails_with_values(self, good: Value, block: Block) -> bool:
        """A branch that computes what a message shows, and fails; whether there is one."""
        mark = self.r.mark()

        def fail() -> list[Any]:
            with self.low.scope():
                self.low.run(block)
                if not block.raises:  # the message of an assertion
                    self.fail("AssertionError", messages.text(self.low.get(block.results[0])))
            return []

        try:
            with self.low.outside():
                self.low.blocks.branch(good, list, fail)
        except (Refused, *PLAIN_REASONS):
            self.r.back_to(mark)
            return False
        return True

    def fail(self, kind: str, parts: Sequence[Any]) -> None:
        """An assertion that never holds."""
        template, values = messages.template(self.r, parts)
        with self.low.outside():
            bad = self.r.b.const(False, bool_)
            self.r.b.assert_(bad, *values, message=template, kind=kind)
