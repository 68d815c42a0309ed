"""What can't be converted in the source, or called."""

from __future__ import annotations


def reads_its_frame(x):
    return x * len(dir())  # here


def reads_its_frame_rewritten(x):
    return x * len(["x"])


def evaluates_text(x):
    return eval("x * 2")  # here


def evaluates_text_rewritten(x):
    return x * 2


def jumps_out_of_finally(x):
    for _ in range(3):
        try:
            x = x + 1
        finally:
            if x.sum() > 5:  # near
                break  # noqa: B012
    return x


def jumps_out_of_finally_rewritten(x):
    for _ in range(3):
        try:
            x = x + 1
        finally:
            enough = x.sum() > 5
        if enough:
            break
    return x


async def asynchronous(x):  # here
    return x


def asynchronous_rewritten(x):
    return x


def checked(v):
    if v.sum() > 0:
        raise ValueError("big")
    return v


def error_that_data_decide(x):
    while x.sum() > -3:
        try:
            x = sum([checked(v) for v in (x, x - 1)]) - 1  # near
        except ValueError:
            x = x - 2
    return x


def error_that_data_decide_rewritten(x):
    while x.sum() > -3:
        try:
            total = 0
            for v in (x, x - 1):
                total = total + checked(v)
            x = total - 1
        except ValueError:
            x = x - 2
    return x


def endless(x):
    if x.sum() > 0:
        return endless(x - 1)  # here
    return endless(x - 2)


def endless_rewritten(x):
    while x.sum() > 0:
        x = x - 1
    return x


def deeper_and_deeper(x):
    if x.sum() > 0:
        return [deeper_and_deeper(x - 1)]  # near
    return x


def deeper_and_deeper_rewritten(x):
    n = 0
    while x.sum() > 0:
        x = x - 1
        n = n + 1
    return x, n


def generator_of_run_time_length(x):
    return x + sum(map(len, ([v + 1 for v in x.nonzero()] for _ in range(2))))  # here


def generator_of_run_time_length_rewritten(x):
    found = []
    for v in x.nonzero():
        found.append(v)
    return x + 2 * len(found)
