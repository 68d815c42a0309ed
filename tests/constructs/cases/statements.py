"""match, del, global, walrus, print, f-strings, star expressions, imports, and other statements."""

import math as maths

import torch

import oarlock
from tests.constructs.case import case, r, t

POS, NEG = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0)
COUNT = 0
TABLE = {"scale": 2.0}
HISTORY = []
WEIGHT = torch.ones(3)


@case(POS, NEG, POS, shared=("COUNT",))
def global_counter(x):
    global COUNT
    COUNT += 1
    if x.sum() > 0:
        COUNT += 10
    return x * COUNT


@case(POS, NEG, POS, shared=("HISTORY",))
def global_list(x):
    if x.sum() > 0:
        HISTORY.append(x.detach() + 1)
    return x * len(HISTORY)


@case(POS, NEG, shared=("TABLE",))
def global_dict(x):
    if x.sum() > 0:
        TABLE["scale"] = TABLE["scale"] * 2
    return x * TABLE["scale"]


@case(POS, NEG, shared=("WEIGHT",))
def global_tensor(x):
    global WEIGHT
    if x.sum() > 0:
        WEIGHT = WEIGHT + 1
    return x * WEIGHT


@case(POS, NEG)
def match_value(x):
    kind = 1 if x.sum() > 0 else 2
    match kind:
        case 1:
            return x + 1
        case 2:
            return x - 1


@case((t(0), POS), (t(1), POS), (t(7), POS))
def match_tensor(k, x):
    match int(k):
        case 0:
            y = x
        case 1 | 2:
            y = x * 2
        case _:
            y = x * 3
    return y


@case(({"op": "add", "v": POS},), ({"op": "mul", "v": NEG},), captures=2)
def match_mapping(d):
    match d:
        case {"op": "add", "v": v} if v.sum() > 0:
            return v + 1
        case {"op": "mul", "v": v}:
            return v * 2


@case(((POS, NEG),), ((NEG, NEG),))
def match_sequence(pair):
    match pair:
        case (a, b) if a.sum() > 0:
            return a - b
        case (a, *rest):
            return a * rest[0]


@case(t(1.0, 2.0), t(1.0, -2.0), t(-1.0, 2.0), t(-1.0, -2.0))
def match_values_in_sequence(x):
    match (len(x), bool(x[0] > 0), bool(x[1] > 0)):
        case (2, True, True):
            return x * 2
        case (2, True, kind) | (2, kind, True):
            return x - kind
        case (n, *rest):
            return x * n + len(rest)


class Pair:
    def __init__(self, first, second):
        self.first, self.second = first, second


@case(POS, NEG, t(0.0, 0.0), t(2.0, 3.0))
def match_values_in_class(x):
    n = 0
    match Pair(int(x.sum()), x):
        case Pair(first=0 as n):
            return x + 1
        case Pair(first=6 | 5 as n, second=y) if n == 6:
            return y * n
        case Pair(first=int(k), second=y):
            return y - k, n


@case(({"w": POS, "k": t(1)},), ({"w": POS, "k": t(2)},), ({"w": NEG, "k": t(3)},))
def match_values_in_mapping(d):
    match {**d, "k": int(d["k"])}:
        case {"w": w, "k": 1}:
            return w * 2
        case {"k": 2, **rest}:
            return rest["w"] - len(rest)
        case {"w": w}:
            return w


@case(POS, NEG)
def match_number_class(x):
    found = int(x.sum()) if x.sum() > 0 else int(x[0]) - 3
    match found:
        case float() | int() if found > 0:
            return x * found
        case int(n):
            return x + n


@case(POS, NEG)
def walrus_in_if(x):
    if (s := x.sum()) > 0:
        return x * s
    return x - s


@case(t(1.0), t(64.0))
def walrus_in_while(x):
    while (y := x * 2) < 100:
        x = y + 1
    return x, y


@case(t(9.0, 1.0), t(0.1, 0.2), t(900.0, 1.0))
def walrus_in_while_with_break(x):
    trips = 0
    while (top := x.abs().max()) > 0.5:
        x = x * 0.5
        trips += 1
        if trips == 6:
            break
    return x, top, trips


@case(t(5.0, 2.0), t(-1.0, 5.0), t(0.1, 0.2), t(9.0, 2.0))
def walrus_after_and_in_while_with_return(x):
    trips, total = 0, x[0]
    while trips < 4 and (total := x.sum()) > 1:
        x = x - 1
        trips += 1
        if trips > 2 and (double := total * 2) > 3:
            return double
    return total, trips


@case(t(9.0, 1.0), t(0.1, 0.2), t(3.0, 0.0))
def walrus_after_and_in_while(x):
    trips, total = 0, x[0]
    while trips < 4 and (total := x.sum()) > 1:
        x = x - 1
        trips += 1
    return total, trips


@case(POS, NEG)
def walrus_in_comprehension(x):
    out = [y for v in x if (y := v * 2) > -3]
    return torch.stack(out), y


@case(POS, NEG)
def delete_variable(x):
    tmp = x * 2
    if tmp.sum() > 0:
        x = tmp
    del tmp
    return x


@case(POS, NEG)
def delete_then_read(x):
    y = x * 2
    if x.sum() > 0:
        del y
    return y


@case(POS, NEG)
def print_constant(x):
    if x.sum() > 0:
        print("positive")
    else:
        print("negative", 1, sep="-", end="!\n")
    return x


@case(POS, NEG)
def print_tensor(x):
    print("x =", x.detach() * 2)
    if x.sum() > 0:
        print(f"sum {x.sum().item():.2f}", x.shape)
    return x


@case((POS, t(3)), (POS, t(0)))
def print_in_loop(x, n):
    for i in range(n):
        x = x + 1
        print("step", i, float(x[0]))
    return x


@case(POS, NEG)
def f_string_of_number(x):
    n = int(x.sum())
    return x, f"{n:04d}|{n!r}|{n}"


@case(POS, NEG)
def pass_and_ellipsis(x):
    for _ in range(3):
        pass
    if x.sum() > 0:
        ...
    "a string statement"
    return x * 2


@case(POS, NEG)
def import_inside(x):
    import torch.nn.functional as F2

    if x.sum() > 0:
        from math import pi

        return F2.relu(x) * pi
    return x * maths.e


@case(POS, NEG)
def multiple_targets(x):
    a = b = x * 2
    if x.sum() > 0:
        b = a + 1
    c, d = e = (a, b)
    return c + d + e[0]


@case(POS, NEG)
def lambda_default_star(x):
    f = lambda *a, k=2, **kw: sum(a) * k + kw.get("b", 0)
    return f(x, x, b=1) if x.sum() > 0 else f(x, k=3)


@case(POS, NEG)
def matmul_operator(x):
    a = x[:, None] * x[None, :]
    y = a @ x
    y @= a if False else torch.eye(3)
    return y if y.sum() > 0 else -y


@case(POS, NEG)
def unary_and_bitwise(x):
    m = ~(x > 1) ^ (x < 3)
    return +x if m.any() else -x


@case(POS, NEG)
def conditional_import_alias(x):
    op = torch.relu if x.sum() > 0 else torch.tanh
    return op(x)


@getattr(oarlock, "not_to_static", lambda f: f)
def opaque(x):
    return x * 2 if float(x.sum()) > 0 else x


@case(POS, NEG, frames=("opaque",))
def calls_not_to_static(x):
    y = opaque(x)
    return y + 1 if y.sum() > 0 else y


@case(POS, NEG)
def tuple_compare(x):
    a = (int(x[0]), int(x[1]))
    if a > (0, 0):
        return x * 2
    return x


@case(POS, NEG)
def list_compare(x):
    if x.tolist() == [1.0, 2.0, 3.0]:
        return x * 2
    return x


@case(POS, NEG)
def slices_object(x):
    s = slice(0, 2) if x.sum() > 0 else slice(1, None)
    return x[s]


@case(POS, NEG)
def nested_ternary_and_walrus(x):
    return y * 2 if (y := x.mean()) > 0 else (y - 1 if y < -1 else y)


@case(POS, NEG, every_line=False)
def assert_never_reached(x):
    if x.shape[0] != 3:
        raise AssertionError("unreachable")
    return x * 2 if x.sum() > 0 else x


@case((r(3), t(2)), (r(3), t(4)), (r(3) + 5, t(4)), (r(3) + 20, t(2)))
def complex_flow(x, n):
    """Break, continue, return and else in one loop nest."""
    for i in range(n):
        for j in range(3):
            if j == i:
                continue
            if x[j] > 10:
                return x, i, j
            x = x + 1
            if x.sum() > 20:
                break
        else:
            x = x * 1.5
            continue
        x = x - 5
    else:
        x = -x
    return x, -1, -1
