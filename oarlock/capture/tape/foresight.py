"""Whether a tape that updates what it is given will hold for the sizes of a call, before it runs.

Checks of sizes fail in the middle of a run, when a step may have changed parameters; what leads to
them is run on fake tensors first, once for each set of sizes.  Where data decide, runs are put back.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.tape.chance import drawn
from oarlock.capture.tape.emit import uses
from oarlock.capture.tape.guards import Guards
from oarlock.capture.tape.higher import seeded
from oarlock.capture.tape.hoist import Conditions
from oarlock.capture.tape.nodes import PLAIN, Block, Call, Val, blocks_of
from oarlock.capture.tape.opaque import checked
from oarlock.capture.tape.parts import results_of
from oarlock.capture.tape.queries import assumption
from oarlock.capture.tape.runtime import Respecialise
from oarlock.capture.torch_private import FakeTensorMode, outside_modes, quiet_fakes

if TYPE_CHECKING:
    from oarlock.capture.tape.capturing import Tape

MOST = 4096  # sets of sizes that are kept
_REAL = (checked, drawn, seeded)  # they would do something


class Foresight:
    """Why a call will not do for ``tape``; empty where it will, None where only the run can tell."""

    def __init__(self, tape: Tape) -> None:
        self.known: dict[Any, str | None] = {}
        self.checks: Callable[..., None] | None = None
        nodes, wanted = _leading(tape.root)
        inputs = [(val, source) for val, source in tape.inputs if val.id in wanted]
        is_plain = all(isinstance(v.sample, (torch.Tensor, bool, int, float)) for v, _ in inputs)
        if is_plain and not any(acts(node) for node in Block(None, nodes, []).walk()):
            self.checks = _checks(nodes, [val for val, _ in inputs])
            self.given = reader(inputs)

    def __call__(self, args: tuple, kwargs: dict[str, Any]) -> str | None:
        if self.checks is None:
            return None
        given = self.given(args, kwargs)
        key = tuple([x.shape if isinstance(x, torch.Tensor) else x for x in given])
        if key not in self.known:
            if len(self.known) >= MOST:
                self.known.clear()
            self.known[key] = self.tried(given)
        return self.known[key]

    def tried(self, given: tuple) -> str | None:
        assert self.checks is not None
        state = torch.get_rng_state()
        try:
            with quiet_fakes(), outside_modes(), torch.no_grad():
                mode = FakeTensorMode()
                fakes = [_fake(mode, x) for x in given]
                with mode:
                    self.checks(*fakes)
        except Respecialise as failed:
            return str(failed)
        except Exception:  # the run meets it too, or decides on data first
            return None
        finally:
            torch.set_rng_state(state)
        return ""


def _leading(root: Block) -> tuple[list[Any], set[int]]:
    """The nodes that check something and what leads to them; the values that these read."""
    nodes: list[Any] = []
    wanted: set[int] = set()
    for node in reversed(root.nodes):
        inner = [n for block in blocks_of(node) for n in block.walk()]
        if any(map(assumption, (node, *inner))) or not wanted.isdisjoint(
            v.id for v in results_of(node)
        ):
            nodes.insert(0, node)
            wanted.update(uses(node))
    return nodes, wanted


def acts(node: Any) -> bool:
    """A call of it is more than one of torch."""
    if not isinstance(node, Call):
        return False
    if any(node.func is real for real in _REAL):
        return True
    module = getattr(node.func, "__module__", None) or ""
    return isinstance(node.func, FunctionType) and not module.startswith(("torch", "oarlock"))


def _checks(nodes: list[Any], vals: list[Val]) -> Callable[..., None]:
    emitter = Conditions(PLAIN)
    emitter.bind([val.id for val in vals])
    emitter.block(Block(None, nodes, []))
    names = ", ".join(f"v{val.id}" for val in vals)
    return emitter.compile(f"def checks({names}):", "checks", "<oarlock foresight>")


def reader(inputs: list[tuple[Val, Any]]) -> Callable[[tuple, dict[str, Any]], tuple]:
    """The inputs of a tape, from the arguments of a call."""
    emitter = Conditions(PLAIN)
    place = Guards(emitter).place
    emitter.line(f"return ({''.join(f'{place(source)}, ' for _, source in inputs)})")
    return emitter.compile("def given(args, kwargs):", "given", "<oarlock foresight>")


def _fake(mode: FakeTensorMode, x: Any) -> Any:
    return mode.from_tensor(x.detach(), static_shapes=True) if isinstance(x, torch.Tensor) else x
