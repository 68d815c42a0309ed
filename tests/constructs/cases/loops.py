"""while, for, break, continue, else, nested loops, iteration over tensors and sequences."""

import torch

from tests.constructs.case import case, r, t

N3, N0, N5 = t(3), t(0), t(5)
POS = t(1.0, 2.0, 3.0)


@case((r(3), N3), (r(3), N0), (r(3), N5))
def while_tensor_bound(x, n):
    i = torch.zeros_like(n)
    while i < n:
        x = x * 1.5 + i
        i = i + 1
    return x


@case((r(3), N3), (r(3), N0), double=True)
def while_double(x, n):
    i = 0
    y = x
    while i < n:
        y = y * x
        i += 1
    return y


@case(t(1.0, 2.0), t(50.0, 60.0), t(300.0, 1.0))
def while_until_large(x):
    while x.sum() < 100:
        x = x * 2
    return x


@case(t(1.0, 2.0), t(50.0, 60.0))
def while_counts(x):
    n = 0
    while x.sum() < 100:
        x = x * 2
        n += 1
    return x, n


@case(t(27), t(1), t(6), grad=False)
def collatz(n):
    steps = 0
    while n != 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        steps += 1
    return steps


@case((t(48), t(18)), (t(7), t(0)), (t(5), t(25)), grad=False)
def gcd(a, b):
    while b != 0:
        a, b = b, a % b
    return a


@case(t(1.0, 2.0), t(30.0, 60.0), t(300.0, 1.0))
def while_true_break(x):
    while True:
        if x.sum() > 100:
            break
        x = x * 2
    return x


@case(t(1.0, 2.0), t(30.0, 60.0))
def break_in_the_middle(x):
    count = 0
    while count < 10:
        x = x + 1
        if x.sum() > 100:
            break
        x = x * 2
        count += 1
    return x, count


@case(t(1, 2, 3, 4, 5, 6), t(2, 2, 2, 2, 2, 2), t(1, 1, 1, 1, 1, 1), grad=False)
def continue_in_for(x):
    total = torch.zeros((), dtype=torch.int64)
    for v in x:
        if v % 2 == 0:
            continue
        total = total + v
    return total


@case(t(1.0, -2.0, 3.0, 4.0), t(-1.0, -1.0, 5.0, 1.0), t(1.0, 1.0, 1.0, 1.0))
def break_and_continue(x):
    total = x.new_zeros(())
    for v in x:
        if v < 0:
            continue
        if v > 3:
            break
        total = total + v * v
    return total


@case(t(1.0, -2.0, 3.0), t(1.0, 2.0, 3.0))
def for_else(x):
    for v in x:
        if v < 0:
            found = v
            break
    else:
        found = x.sum()
    return found * 2


@case(t(1.0), t(100.0), t(40.0))
def while_else(x):
    n = 0
    while n < 3:
        if x > 50:
            break
        x = x * 3
        n += 1
    else:
        x = x - 1000
    return x


@case((r(4), t(3)), (r(4), t(0)))
def while_else_without_break(x, n):
    while n > 0:
        x = x + 1
        n = n - 1
    else:
        x = x * 2
    return x


@case((r(4), t(3)), (r(4), t(0)), (r(4), t(1)))
def for_range_tensor(x, n):
    for i in range(n):
        x = x * 2 + i
    return x


@case((r(4), t(8)), (r(4), t(2)), (r(4), t(3)))
def for_range_start_step(x, n):
    total = x
    for i in range(2, n, 3):
        total = total + x * i
    return total


@case((r(4), t(5)), (r(4), t(0)))
def for_range_down(x, n):
    for i in range(int(n), 0, -2):
        x = x + i
    return x


@case((r(3), t(2)), (r(3), t(0)))
def for_range_item(x, n):
    out = []
    for i in range(n.item()):
        out.append(x + i)
    out.append(x)
    return torch.stack(out).sum(0)


@case(r(4, 3), r(2, 3), r(6, 3))
def for_rows(x):
    h = torch.zeros(3)
    for row in x:
        h = torch.tanh(h + row)
    return h


@case(r(4, 3), r(2, 3), r(6, 3))
def for_range_size(x):
    h = torch.zeros(3)
    for i in range(x.size(0)):
        h = torch.tanh(h * 0.5 + x[i])
    return h


@case(r(4, 3), r(2, 3), r(6, 3))
def for_range_len(x):
    out = []
    for i in range(len(x)):
        out.append(x[i] * i)
    return torch.stack(out)


@case(r(4, 3), r(2, 3))
def for_enumerate(x):
    total = torch.zeros(3)
    for i, row in enumerate(x):
        total = total + row * i
    return total


@case((r(4, 3), r(4, 2)), (r(2, 3), r(2, 2)))
def for_zip(x, y):
    total = 0
    for a, b in zip(x, y):
        total = total + a.sum() * b.sum()
    return total


@case((r(4, 3), r(4, 3)), (r(2, 3), r(2, 3)))
def for_enumerate_zip(x, y):
    out = x[0]
    for i, (a, b) in enumerate(zip(x, y), 1):
        out = out + (a - b) * i
    return out


@case(r(4, 3), r(2, 3))
def for_reversed(x):
    h = torch.zeros(3)
    for i in reversed(range(x.shape[0])):
        h = h * 0.5 + x[i]
    return h


@case(r(4, 3), r(2, 3))
def for_unbind(x):
    h = x.new_zeros(3)
    for row in x.unbind(0):
        h = h + row.relu()
    return h


@case(r(6, 3), r(4, 3))
def for_chunks(x):
    total = 0
    for part in x.chunk(2):
        total = total + part.exp().mean()
    return total


@case(r(6, 3))
def for_split(x):
    return [p.sum() for p in x.split([1, 2, 3])]


@case((r(3), t(3), t(2)), (r(3), t(0), t(2)), (r(3), t(2), t(0)))
def nested_while(x, n, m):
    i = 0
    while i < n:
        j = 0
        while j < m:
            x = x + i * j + 1
            j += 1
        i += 1
    return x


@case((r(3), t(3), t(4)), (r(3), t(1), t(1)))
def nested_for_range(x, n, m):
    count = torch.tensor(0)
    for i in range(n):
        for j in range(m):
            if i == j:
                continue
            x = x * 1.1
            count = count + 1
    return x, count


@case((t([[1.0, 2.0], [-3.0, 4.0]]),), (t([[1.0, 2.0], [3.0, 4.0]]),))
def nested_break(x):
    total = torch.zeros(())
    for row in x:
        for v in row:
            if v < 0:
                break
            total = total + v
        total = total * 2
    return total


@case((t([[1.0, 2.0], [-3.0, 4.0]]),), (t([[1.0, 2.0], [3.0, 4.0]]),))
def nested_return(x):
    for i, row in enumerate(x):
        for j, v in enumerate(row):
            if v < 0:
                return i, j, v
    return -1, -1, x.sum()


@case(t([1.0, 2.0, 4.0]), t([5.0, 2.0, 1.0]), t([1.0, 1.0, 1.0]))
def return_in_for(x):
    for i, v in enumerate(x):
        if v > 3:
            return i, v
    return -1, x.sum()


@case(t(1.0), t(64.0), t(500.0))
def return_in_while(x):
    steps = 0
    while steps < 5:
        if x > 100:
            return x, steps
        x = x * 3
        steps = steps + 1
    return -x, steps


@case((t(1.0), t(3)), (t(500.0), t(3)), (t(1.0), t(0)))
def return_in_while_tensor_bound(x, n):
    i = 0
    while i < n:
        if x > 100:
            return x * 0
        x = x + 40
        i += 1
    return x


@case((r(3), t(4)), (r(3), t(0)))
def loop_variable_after(x, n):
    i = -1
    for i in range(n):
        x = x + 1
    return x * i


@case((r(3), t(4)), (r(3), t(0)))
def loop_variable_unbound_after(x, n):
    for k in range(n):
        x = x + k
    return x * k


@case((r(3), t(4)), (r(3), t(0)))
def loop_defines_variable(x, n):
    i = 0
    while i < n:
        y = x * i
        i += 1
    if n > 0:
        x = x + y
    return x


@case((r(3), t(3)), (r(3), t(0)))
def loop_changes_dtype(x, n):
    total = 0
    for i in range(n):
        total = total + x.sum() * i
    return total


@case((t(3, 4), t(3)), (t(3, 4), t(0)), grad=False)
def loop_changes_to_float(x, n):
    i = 0
    while i < n:
        x = x / 2
        i += 1
    return x


@case((r(2), t(3)), (r(2), t(0)), (r(3), t(2)))
def loop_grows(x, n):
    i = 0
    while i < n:
        x = torch.cat([x, x[-1:] * 2])
        i += 1
    return x


@case((r(1, 2), t(3)), (r(1, 2), t(1)))
def loop_shrinks(x, n):
    x = x.repeat(5, 1)
    for _ in range(n):
        x = x[1:]
    return x.sum(0), x.shape[0]


@case((r(3), t(3)), (r(3), t(0)))
def loop_of_none_first(x, n):
    best = None
    i = 0
    while i < n:
        if best is None:
            best = x * i
        else:
            best = torch.maximum(best, x * i)
        i += 1
    return best


@case((r(3), t(7)), (r(3), t(0)))
def loop_local_temporary(x, n):
    while n > 0:
        tmp = x.sin()
        x = tmp + x
        n = n - 2
    return x


@case(t(1.0, 2.0), t(9.0, 9.0))
def two_conditions(x):
    i = 0
    while i < 4 and x.sum() < 20:
        x = x + 2
        i += 1
    return x, i


@case(t(1.0, 2.0), t(9.0, 90.0))
def not_condition(x):
    while not x.max() > 20:
        x = x * 2
    return x


@case(t(1.0, 2.0), t(9.0, 90.0))
def loop_with_python_list(x):
    for scale in [0.5, 1.0, 2.0]:
        if x.sum() * scale > 10:
            x = x - scale
    return x


@case(t(1.0, 2.0), t(9.0, 90.0))
def loop_over_pairs(x):
    for name, f in (("sin", torch.sin), ("cos", torch.cos)):
        if x.sum() > 1 and name == "cos":
            x = f(x)
        else:
            x = f(x) + 1
    return x


@case(t(3, 1, 2), t(0, 0, 0), grad=False)
def for_over_ints_of_tensor(counts):
    total = torch.tensor(0)
    for c in counts:
        for k in range(c):
            total = total + k + 1
    return total


@case((r(4), t(2.0)), (r(4), t(0.0)))
def while_on_tensor_itself(x, n):
    while n:
        x = x + n
        n = n - 1
    return x


@case((t(10.0), 3), (t(1.0), 3), (t(10.0), 5))
def python_bound(x, n):
    for i in range(n):
        if x > 5:
            x = x - i
    return x


@case(t(3.0, -1.0, 2.0), t(-3.0, -1.0, 2.0))
def iterate_and_collect(x):
    kept = []
    for v in x:
        if v > 0:
            kept.append(v * 2)
    return torch.stack(kept)


@case(t(2.0), t(10.0), t(612.0))
def newton_sqrt(a):
    x = a
    while abs(x * x - a) > 1e-4:
        x = (x + a / x) / 2
    return x


@case((t(0.0), t(2.0)), (t(1.0), t(1.5)))
def bisection(lo, hi):
    for _ in range(60):
        if hi - lo < 1e-3:
            break
        mid = (lo + hi) / 2
        if mid * mid > 2:
            hi = mid
        else:
            lo = mid
    return lo, hi


@case((r(3), t(2)), (r(3), t(0)), (r(3), t(7)))
def loop_with_inner_if(x, n):
    i = torch.tensor(0)
    while i < n:
        if i % 2 == 0:
            x = x + 1
        elif i % 3 == 0:
            x = x * 2
        else:
            x = x - 0.5
        i += 1
    return x


@case((r(3), t(2)), (r(3), t(5)))
def break_from_else_branch(x, n):
    i = 0
    while True:
        if i < n:
            x = x + 1
        else:
            break
        i += 1
    return x


@case((r(3), t(6)), (r(3), t(0)))
def continue_in_while(x, n):
    i = 0
    while i < n:
        i += 1
        if i % 2 == 1:
            continue
        x = x * i
    return x


@case((r(3), t([1, 0, 1])), (r(3), t([0, 0, 0])))
def for_zip_values_and_flags(x, flags):
    total = torch.zeros(())
    for v, f in zip(x, flags):
        if f:
            total = total + v
    return total


@case((t(3), t(3)), (t(0), t(3)), grad=False)
def sum_of_python_ints(n, m):
    total = 0
    for i in range(n):
        for j in range(i, m):
            total += i * j
    return total


@case(r(3, 4), r(2, 4), t([[50.0, 0], [1, 1], [20, 1], [0, 0]]))
def for_over_tensor_of_rows_with_break(x):
    best = x[0]
    for row in x[1:]:
        if row.sum() > best.sum():
            best = row
        elif row[0] > 10:
            break
    return best


@case(t(1.0, 2.0), t(30.0, 60.0), t(0.0, 0.0))
def long_range_with_break(x):
    for i in range(100):
        x = x * 1.5 + i * 0.01
        if x.sum() > 100:
            break
    return x, i


@case((t(1.0), t(2.0)), (t(9.0), t(2.0)), (t(1.0), t(-1e9)))
def long_range_with_return(x, low):
    for step in range(200):
        if x * x < low * 0.5 + 1:
            return x, step
        if x < low:
            continue
        x = x * 0.9
    return x * 0, -1


@case(t([float(i) for i in range(30)]), t([1.0] * 30))
def long_rows_with_break(x):
    total = torch.zeros(())
    for v in x:
        if v > 12:
            break
        total = total + v
    return total


@case((t(1.0), t(100.0)), (t(7.0), t(20.0)))
def while_counter_with_break(x, limit):
    i = 0
    while i < 100:
        x = x + i
        i += 1
        if x > limit:
            break
    return x, i


@case(t(2.0), t(3.0))
def long_range_collects(x):
    out = []
    for i in range(50):
        x = x * 1.3
        out.append(x + i)
        if x > 40:
            break
    return torch.stack(out), len(out)


@case((POS, t(0)), (POS, t(3)), (POS, t(1)))
def dict_key_from_the_first_trip_on(x, n):
    kept = {}
    while n > 0:
        kept["h"] = kept.get("h", x) * 2
        n = n - 1
    return kept


@case((POS, t(0)), (POS, t(1)), (POS, t(4)), (POS, t(2)))
def dict_keys_from_the_first_two_trips(x, n):
    kept = {}
    i = 0
    while i < n:
        if "h" in kept:
            kept["h"] = kept["h"] + 1
        else:
            kept["h"] = x
        if i > 0:
            kept["k"] = x * 3
        i = i + 1
    return kept


@case((POS, t(0)), (POS, t(3)), (POS, t(1)))
def dict_made_in_every_trip(x, n):
    def prepared(y):
        made = {}
        made["h"] = y * 2
        for name in ("a", "b"):
            made[name] = y + 1
        made.pop("a")
        return made

    last = None
    while n > 0:
        last = prepared(x)
        copied = last.copy()
        copied["b"] = copied["b"] * 2
        x = last["h"] + {**copied}["b"]
        n = n - 1
    return x, last


@case((POS, t(0)), (POS, t(3)), (POS, t(1)))
def object_made_in_every_trip(x, n):
    class Cell:
        def __init__(self, value):
            self.value = value

        def step(self):
            self.value = self.value * 2 + 1
            return self.value

    while n > 0:
        cell = Cell(x)
        cell.step()
        x = cell.step()
        n = n - 1
    return x


@case((POS, t(0)), (POS, t(9)), (POS, t(20)))
def container_from_the_first_trip_on(x, n):
    y = None
    while x.sum() < n:
        y = (x, [x * 2]) if y is None else (y[0] + 1, [y[1][0] * 3])
        x = x + 1
    return y, x


@case((POS, t(0)), (POS, t(9)), (POS, t(20)))
def list_made_in_the_first_trip(x, n):
    y = None
    while x.sum() < n:
        if y is None:
            y = [x]
        else:
            y.append(x)
        x = x + 1
    return y


@case((POS, t(0)), (POS, t(9)), (POS, t(20)))
def object_made_in_the_first_trip(x, n):
    class Box:
        def __init__(self, value):
            self.value = value

    y = None
    while x.sum() < n:
        y = Box(x) if y is None else Box(y.value * 2)
        x = x + 1
    return x if y is None else y.value


@case((r(3), N3), (r(3), N0), (r(3), N5))
def list_of_a_trip(x, n):
    y = x * 2
    while n > 2:
        n = n - 1
        x, y = y, x
        large = []
        for v in y:
            if v > -0.75:
                large.append(v * x)
        x = x + len(large)
    return x, y


@case((r(3), N3), (r(3), N0), (r(3), N5))
def list_outside_learns_in_inner_loop(x, n):
    kept = [x * 1]
    while n > 2:
        n = n - 1
        last = kept[-1]
        for v in x:
            if v > last.sum():
                kept.append(v * x)
        x = x + last
    return x, kept


@case(
    (t(0.3, -0.1, 0.4), t(9.0)),
    (t(-0.3, -0.1, 0.4, -0.2), t(9.0)),
    (t(0.1, 0.5, 0.2), t(0.3)),
    (t(0.1, 0.9, 0.2, 0.4), t(0.3)),
    (t(2.0, -0.1), t(9.0)),
    (t(-0.5, -0.1), t(9.0)),
)
def returns_of_other_structures(x, bound):
    for i, row in enumerate(x):
        if row > bound:
            return {"row": row, "place": i}
    if x.sum() > 0:
        return x, bound, row
    return row


@case(t(1.0, 2.0), t(0.1, 0.1), t(8.0, -9.0))
def history_until_patience_ends(x):
    best, bad, history = float("inf"), 0, []
    for _ in range(6):
        x = x * 0.9 - 0.1
        loss = (x * x).sum().item()
        history.append(loss)
        if loss < best - 0.01:
            best, bad = loss, 0
        else:
            bad += 1
            if bad >= 2:
                break
    return history, x
