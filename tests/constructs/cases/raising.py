"""raise below decisions inside try, caught or not: in ifs, in loops, with else and finally."""

from tests.constructs.case import case, t


@case(
    t(-1.0, 0.0, 0.2), t(1.0, 2.0, 3.0), t(-2.0, -3.0, 1.0), t(2.0, -9.0, 0.0), t(0.5, 1.0, 1.0),
    t(1.5, -1.0, -0.6), t(-1.0, 3.0, 3.0),
)  # fmt: skip
def try_message_with_count(x):
    n = 0
    try:
        n += 1
        if x.sum() < 0.5:
            raise ValueError(f"low {n}")
        y = x * 2
    except ValueError as e:
        y = x - 1
        n += len(str(e))
    return y, n


@case(
    t(-1.0, 0.0, 0.2), t(1.0, 2.0, 3.0), t(-2.0, -3.0, 1.0), t(2.0, -9.0, 0.0), t(0.5, 1.0, 1.0),
    t(1.5, -1.0, -0.6), t(-1.0, 3.0, 3.0),
)  # fmt: skip
def try_in_loop_two_errors(x):
    total = x * 0
    for v in x:
        try:
            if v > 0.5:
                raise ValueError("big")
            if v < -0.5:
                raise KeyError("small")
            total = total + v
        except ValueError:
            total = total * 2
        except KeyError:
            total = total - 1
            continue
        finally:
            total = total + 0.125
        total = total + 0.25
    return total


@case(
    t(-1.0, 0.0, 0.2), t(1.0, 2.0, 3.0), t(-2.0, -3.0, 1.0), t(2.0, -9.0, 0.0), t(0.5, 1.0, 1.0),
    t(1.5, -1.0, -0.6), t(-1.0, 3.0, 3.0), t(0.1, 0.1, 0.1),
)  # fmt: skip
def try_around_loop(x):
    try:
        for v in x:
            if v > 0.5:
                raise ValueError("big")
            x = x + v
    except (ValueError, KeyError):
        return x * 3
    else:
        x = x - 7
    return x


@case(
    t(-9.0, 1.5, 0.0),
    t(-1.0, 0.0, 0.2), t(1.0, 2.0, 3.0), t(-2.0, -3.0, 1.0), t(2.0, -9.0, 0.0), t(0.5, 1.0, 1.0),
    t(1.5, -1.0, -0.6), t(-1.0, 3.0, 3.0),
)  # fmt: skip
def try_breaks_while(x):
    while x.sum() < 5:
        try:
            x = x + 1
            if x[0] > 2:
                raise RuntimeError("two")
            if x[1] > 2:
                raise IndexError("two")
        except RuntimeError:
            break
    return x


@case(
    t(-1.0, 0.0, 0.2), t(1.0, 2.0, 3.0), t(-2.0, -3.0, 1.0), t(2.0, -9.0, 0.0), t(0.5, 1.0, 1.0),
    t(1.5, -1.0, -0.6), t(-1.0, 3.0, 3.0), t(-1.0, -1.0, 1.0), every_line=False,
)  # fmt: skip
def try_nested_other_error(x):
    try:
        try:
            if x[0] > 0:
                raise ValueError("a")
            x = x * 2
        except KeyError:
            x = x * 3
        if x[1] > 0:
            raise ValueError("b")
    except ValueError as err:
        return x, str(err)
    return x, ""


@case(
    t(-1.0, 0.0, 0.2), t(1.0, 2.0, 3.0), t(-2.0, -3.0, 1.0), t(2.0, -9.0, 0.0), t(0.5, 1.0, 1.0),
    t(1.5, -1.0, -0.6), t(-1.0, 3.0, 3.0),
)  # fmt: skip
def try_returns_in_loop(x):
    for i in range(3):
        try:
            if x[i] > 0:
                raise ValueError
            return x + i
        except ValueError:
            pass
    return x
