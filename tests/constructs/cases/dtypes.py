"""Types of numbers: promotion across branches and trips, default dtype, half types, bools."""

import torch

from tests.constructs.case import case, r, t

POS, NEG = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0)


@case(POS, NEG)
def int_or_float_number(x):
    k = 1 if x.sum() > 0 else 2.5
    return x * k, k


@case(POS, NEG)
def int_or_float_tensor(x):
    if x.sum() > 0:
        y = torch.tensor(3)
    else:
        y = torch.tensor(1.5)
    return y


@case(POS, NEG)
def tensor_or_number(x):
    if x.sum() > 0:
        k = x[0]
    else:
        k = 2
    return x * k


@case(POS, NEG)
def bool_or_int(x):
    f = True if x.sum() > 0 else 3
    return x * f


@case((t(1, 2, 3), t(2)), (t(1, 2, 3), t(0)), grad=False)
def grows_from_int_to_float(x, n):
    for _ in range(n):
        x = x * 0.5
    return x, x.dtype


@case((t(1, 2), t(3)), (t(1, 2), t(0)), grad=False)
def number_becomes_float(x, n):
    k = 1
    for _ in range(n):
        k = k / 2
    return x * k, k


@case((t(1, 2), t(3)), (t(1, 2), t(0)), grad=False)
def number_becomes_tensor(x, n):
    k = 0
    for _ in range(n):
        k = k + x
    return k


@case(POS, NEG)
def double_in_branch(x):
    y = x.double() if x.sum() > 0 else x
    return y * 2


@case(POS.half(), NEG.half(), POS.half())
def half_condition(x):
    if x.sum() > 0:
        return x * 2
    return x - 1


@case(POS.bfloat16(), NEG.bfloat16())
def bfloat16_loop(x):
    i = 0
    while x.abs().sum() < 50:
        x = x * 2
        i += 1
    return x, i


@case(t(1, 2, 3, dtype=torch.uint8), t(0, 0, 0, dtype=torch.uint8), grad=False)
def uint8_condition(x):
    if x.max():
        return x - 2
    return x


@case(t(1, 2, 3, dtype=torch.int8), t(0, 0, 0, dtype=torch.int8), grad=False)
def int8_condition(x):
    return x * 100 if x.sum() > 1 else x


@case(t(3, dtype=torch.int32), t(0, dtype=torch.int32), grad=False)
def int32_bound(n):
    total = torch.tensor(0, dtype=torch.int32)
    for i in range(n):
        total += i
    return total


@case(t(2.0, dtype=torch.float64), t(-2.0, dtype=torch.float64))
def float64_scalar(x):
    return x * 3 if x > 1e-12 else x / 3


@case(t(True), t(False), grad=False)
def bool_arithmetic(b):
    k = int(b) + 1
    return b * 3 if b else k


@case(POS, NEG)
def integer_division_and_floor(x):
    n = int(x.sum())
    return x * (n // 4), n / 4, n % 4, divmod(n, 4), -n // 4


@case(POS, NEG)
def true_division_of_ints(x):
    a, b = int(x[0]) + 5, int(x[1]) + 5
    return x * (a / b) if a > b else x * (b / a)


@case(POS, NEG)
def number_methods(x):
    v = float(x.sum())
    return x * int(v.is_integer()) if v > 0 else x


@case(POS, NEG)
def cast_in_loop(x):
    n = 0
    for v in x.long():
        if v > 1:
            n = n + v
    return x * n


@case((POS, t(2)), (NEG, t(0)))
def accumulate_in_double(x, n):
    total = torch.zeros(3, dtype=torch.float64)
    for i in range(n):
        total += x * i
    return total.float()


@case(POS, NEG)
def default_dtype_constants(x):
    y = torch.tensor(0.5) if x.sum() > 0 else torch.tensor([1, 2, 3])
    return y + torch.ones(3)


@case((t(1.0, 2.0), 2), (t(1.0, 2.0), 3), (t(1.0, 2.0), 2.5), captures=3)
def int_or_float_argument(x, k):
    if x.sum() > k:
        return x * k
    return x // k


@case((t(1.0, 2.0), True), (t(1.0, 2.0), False), captures=2)
def bool_argument(x, flag):
    if flag:
        return x * 2
    return x if x.sum() > 0 else -x


@case(t(7), t(8), grad=False)
def bit_tricks(n):
    count = 0
    while n > 0:
        count += n & 1
        n >>= 1
    return count


@case(t(float("nan")), t(1.0))
def nan_comparisons(x):
    if x != x:
        return torch.zeros(())
    return x


@case(r(2), r(2))
def large_integers(x):
    k = 2**40
    n = int(x.abs().sum() > 0) * k
    return torch.tensor(n) + 1


@case(t(3.7), t(-3.7))
def int_truncates(x):
    return int(x), int(-x), torch.trunc(x), round(x.item()), x.long()


@case(t(1.0, 2.0), t(-1.0, -2.0))
def tensor_of_tensor_or_number(x):
    n = 0
    if x.sum() > 0:
        n = x.sum()
    return torch.as_tensor(n), torch.asarray(n) * 2, torch.as_tensor(n, dtype=torch.float64) + 1
