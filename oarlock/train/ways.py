"""Programs for the way that data take in a call; other calls are replayed, and may get one more."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import torch

from oarlock.capture.joint.outcomes import Outcomes, Told
from oarlock.capture.tape.capturing import Tape
from oarlock.capture.tape.copies import copied, tensors_of
from oarlock.capture.tape.verify import Before
from oarlock.capture.to_static import Declined
from oarlock.train.step import Step

MANY = 4  # programs of one kind of call
PATIENCE = 8  # calls that may take another way than they were thought to
IN_A_ROW = 2  # such calls, after which the program is changed


def told(
    tape: Tape, fn: Any, replay: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
) -> Told:
    """What a call asks tensors for: it is made, and put back.  Raises: what the call raises."""
    before = Before(tape, fn, args, kwargs)
    given = [(x, x.detach().clone()) for x in tensors_of((args, kwargs))]
    own_args, own_kwargs = copied((args, kwargs), before.kept)
    try:
        with Outcomes() as outcomes, contextlib.redirect_stdout(io.StringIO()):
            replay(*own_args, **own_kwargs)
    finally:
        before.restore()
        with torch.no_grad():
            for x, data in given:
                x.data.copy_(data)
    return Told(outcomes.found)


class Ways:
    """The programs that have been left for another way, and how often that was right."""

    def __init__(self) -> None:
        self.past: dict[Any, list[Step]] = {}
        self.right = self.wrong = self.in_a_row = 0

    def took(self) -> None:
        """A call has taken the way of its program."""
        self.right += 1
        self.in_a_row = 0

    def missed(self, steps: dict[Any, Step], step: Step) -> None:
        """A call has not.  Raises: Declined where that is the rule."""
        self.wrong += 1
        self.in_a_row += 1
        if self.wrong > PATIENCE and 2 * self.wrong > self.right:
            raise Declined("control flow that data decide, in another way at many calls")
        if self.in_a_row >= IN_A_ROW:
            self.in_a_row = 0
            for key in [k for k, x in steps.items() if x is step]:
                self.past.setdefault(key, []).append(steps.pop(key))

    def again(
        self, key: Any, way: tuple[bool, ...], numbers: Callable[[Step], bool]
    ) -> Step | None:
        """A program for a way that calls have taken before.  Raises: Declined for too many ways."""
        past = self.past.get(key, [])
        for step in past:
            if step.recording.way == way and numbers(step):
                past.remove(step)
                return step
        if len(past) >= MANY:
            raise Declined(f"control flow that data decide, in more than {MANY} ways")
        return None
