"""How much a capture may do: one that traces the same code over and over is refused, not waited for.

Decisions and loops are traced again until types settle, those inside them as well, and each way of a
decision that forks is a capture of its own.  Each of these has a bound; their product is bounded here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from oarlock.capture.convert.handlers import Steering
from oarlock.errors import UnsupportedError

FLOOR = 1500  # steps that may be repeated in any capture
FACTOR = 20  # and for each step of the code; real programs need up to 6
WAYS = 4
WAY = 20  # steps that the frame of one capture counts


_NEXT = ValueError("its ways are captured apart")


class Spent(Steering):
    """No capture goes on: ``refusal`` says what was repeated most."""

    def __init__(self, refusal: UnsupportedError) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def of(error: BaseException) -> tuple[str, str]:
    """The line and the reason of a refusal."""
    refusal = getattr(error, "refusal", error)
    where, _, why = str(refusal).partition(": ")
    return (where, why) if why else ("the function", str(refusal))


class Effort:
    """The steps (calls, numbers, decisions) of the captures of one call.

    ``size``: the most that one way through the code has, each traced once; ``repeated``: all that
    are traced again, on other ways as well.
    """

    def __init__(self) -> None:
        self.size = self.repeated = self.here = 0
        self.outside = 0  # what is open around the way that is being traced
        self.left: int | None = None  # steps that are left, where they are counted
        self.open: list[tuple[str, str]] = []  # what is being traced again: where, and why
        self.causes: Counter[tuple[str, str]] = Counter()
        self.last: BaseException | None = None  # what the last capture ended with

    def step(self, count: int = 1) -> None:
        """Raises: Spent."""
        if self.left is not None:
            self.left -= count
            if self.left < 0:
                raise Spent(UnsupportedError("the capture is given up"))
        if len(self.open) == self.outside:
            self.here += count
            self.size = max(self.size, self.here)
        if not self.open:
            return
        self.repeated += count
        self.causes[self.open[-1]] += count
        if self.repeated > FLOOR + FACTOR * self.size:
            raise Spent(self.refusal())

    @contextmanager
    def again(self, where: object, why: str) -> Iterator[None]:
        """What runs in here has been traced before."""
        self.open.append((str(where), why))
        try:
            yield
        finally:
            self.open.pop()

    def anew(self) -> None:
        """What was captured until now is left, and counts no more."""
        self.repeated, self.last = 0, None
        self.causes.clear()

    def look_on(self) -> None:
        """What follows passes over refused code, whose loops may then never end: as many steps are left
        as one way may have taken a few times."""
        self.left = FLOOR // 2 + WAYS * self.size

    @contextmanager
    def way(self) -> Iterator[None]:
        """Around one capture of the whole code: the first one, or one more."""
        again = nullcontext() if self.last is None else self.again(*of(self.last))
        self.last = _NEXT
        with again:
            self.here, self.outside = 0, len(self.open)
            self.step(WAY)
            try:
                yield
            except BaseException as error:
                self.last = error
                raise

    def refusal(self) -> UnsupportedError:
        (where, why), count = self.causes.most_common(1)[0]
        return UnsupportedError(
            f"{where}: the capture is given up after {self.size} steps and {self.repeated} repeated "
            f"ones, of which this place has caused {count}: {why}"
        )
