"""Lists, dicts, sets, tuples, comprehensions, unpacking, slices, strings."""

import contextlib
from collections import ChainMap, OrderedDict, UserList, defaultdict, deque, namedtuple

import torch

from tests.constructs.case import case, r, t

POS, NEG = t(1.0, 2.0, 3.0), t(-1.0, -2.0, -3.0)
Pair = namedtuple("Pair", ["first", "second"])


@case((POS, t(3)), (POS, t(1)))
def append_in_tensor_loop(x, n):
    out = []
    i = 0
    while i < n:
        out.append(x * i)
        i += 1
    return torch.stack(out)


@case((POS, t(3)), (POS, t(0)))
def append_maybe_nothing(x, n):
    out = [x]
    for i in range(n):
        out.append(out[-1] * 2 + i)
    return torch.cat(out), len(out)


@case((POS, t(3)), (POS, t(0)), (POS, t(1)))
def return_list_of_run_time_length(x, n):
    out = []
    for i in range(n):
        out.append(x + i)
    return out


@case((POS, t(4)), (POS, t(2)))
def list_index_and_set(x, n):
    out = [x, x * 2]
    for i in range(n):
        out.append(out[i] + 1)
    out[0] = out[-1] * 10
    return torch.stack(out)


@case((POS, t(4)), (POS, t(2)))
def list_pop(x, n):
    stack = [x]
    for i in range(n):
        stack.append(x * i)
    total = torch.zeros(3)
    while len(stack) > 1:
        total = total + stack.pop()
    return total, len(stack)


@case(POS, NEG)
def append_in_branch(x):
    out = [x]
    if x.sum() > 0:
        out.append(x * 2)
    else:
        out.append(x - 1)
        out.append(x - 2)
    return out


@case(POS, NEG)
def append_in_one_branch(x):
    out = []
    if x.sum() > 0:
        out.append(x * 2)
    out.append(x)
    return torch.cat(out)


@case((POS, t(3)), (NEG, t(2)))
def iterate_grown_list(x, n):
    out = []
    for i in range(n):
        out.append(x * i)
    total = x
    for v in out:
        total = total + v
    return total


@case((POS, t(3)), (NEG, t(2)))
def comprehension_over_run_time_list(x, n):
    out = [x * i for i in range(n)]
    return torch.stack([v + 1 for v in out])


@case((POS, t(3)), (NEG, t(2)))
def extend_and_concatenate(x, n):
    out = [x]
    for i in range(n):
        out.extend([x * i, x - i])
    out = [*out, x]
    out += [x * 100]
    return torch.stack(out)


@case([POS, NEG], [NEG, NEG])
def list_argument_mutated(xs):
    if xs[0].sum() > 0:
        xs.append(xs[0] * 2)
    xs[1] = xs[0] + 1
    return xs[-1]


@case(([POS, NEG, POS],), ([NEG, NEG],), captures=2)
def list_argument_length(xs):
    total = torch.zeros(3)
    for x in xs:
        if x.sum() > 0:
            total = total + x
    return total / len(xs)


@case({"x": POS, "y": NEG}, {"x": NEG, "y": NEG})
def dict_argument_mutated(d):
    if d["x"].sum() > 0:
        d["z"] = d["x"] + d["y"]
    d["y"] = d["y"] * 2
    return d["x"]


@case(POS, NEG)
def dict_built_in_branch(x):
    d = {}
    if x.sum() > 0:
        d["a"] = x
        d["b"] = x * 2
    else:
        d["a"] = x - 1
        d["b"] = x + 1
    return d["a"] * d["b"]


@case((POS, t(3)), (NEG, t(0)))
def dict_updated_in_loop(x, n):
    d = {"sum": torch.zeros(3), "count": 0}
    for i in range(n):
        d["sum"] = d["sum"] + x * i
        d["count"] += 1
    return d


@case(POS, NEG)
def dict_methods(x):
    d = {"a": x, "b": x + 1}
    d.update(c=x * 2)
    d.setdefault("d", x - 1)
    total = d.get("zzz", x) + d.pop("a")
    for k, v in d.items():
        if v.sum() > 0:
            total = total + v
        if k == "c":
            total = total * 2
    return total, list(d.keys()), "b" in d


@case(POS, NEG)
def dict_comprehension(x):
    d = {str(i): v * 2 if v > 0 else v for i, v in enumerate(x)}
    return d


@case(POS, NEG)
def dict_merge(x):
    a, b = {"x": x}, {"y": x * 2}
    c = {**a, **b}
    if x.sum() > 0:
        c = a | b
    return sum(c.values())


@case(POS, NEG)
def dict_keyed_by_condition(x):
    table = {True: 2.0, False: -1.0}
    return x * table[bool(x.sum() > 0)]


@case((POS, t(1)), (POS, t(0)), (POS, t(2)))
def table_indexed_by_tensor(x, k):
    fs = [torch.sin, torch.cos, torch.exp]
    return fs[k](x)


@case((POS, t(1)), (POS, t(0)), (POS, t(-1)))
def list_of_tensors_indexed_by_tensor(x, k):
    xs = [x, x * 2, x * 3]
    return xs[k] + xs[int(k)]


@case((POS, t(1)), (POS, t(0)))
def numbers_indexed_by_tensor(x, k):
    rates = (0.1, 0.5, 0.9)
    return x * rates[k]


@case(POS, NEG)
def set_operations(x):
    s = {1, 2}
    if x.sum() > 0:
        s.add(3)
    s.discard(1)
    return x * len(s), 3 in s


@case(POS, NEG)
def tuple_unpacking(x):
    a, (b, *c), d = x, (x + 1, x + 2, x + 3), x + 4
    if a.sum() > 0:
        (a, b), d = (b, a), c[0]
    return a - b * d


@case(POS, NEG)
def star_unpacking_tensor(x):
    first, *rest = x
    if first > 0:
        return first * sum(rest)
    return first, *rest


@case(t(1.0, -2.0), t(-1.0, 2.0))
def unpack_tensor(x):
    a, b = x
    if a > b:
        a, b = b, a
    return b - a


@case(t([[1.0, -2.0], [3.0, 4.0]]), t([[1.0, 2.0], [3.0, 4.0]]))
def unpack_rows(m):
    (a, b), (c, d) = m
    return a * d - b * c if b > 0 else a * d


@case((POS, t(3)), (NEG, t(1)))
def tuple_grows(x, n):
    out = (x,)
    for i in range(n):
        out = (*out, x * i)
    return torch.stack(out)


@case(POS, NEG)
def tuple_add_and_repeat(x):
    pair = (x,) + (x * 2,)
    zeros = [torch.zeros(3)] * 2
    if x.sum() > 0:
        zeros = zeros + list(pair)
    return torch.stack(zeros)


@case(POS, NEG)
def list_slices(x):
    xs = [x + i for i in range(5)]
    ys = xs[1:4:2] + xs[::-1][:2]
    if x.sum() > 0:
        del ys[0]
        ys[1:2] = [x, x]
    return torch.stack(ys)


@case(POS, NEG)
def list_methods(x):
    xs = [x, x + 1]
    xs.insert(0, x - 1)
    xs.reverse()
    last = xs.pop(0)
    ys = xs.copy()
    ys.clear()
    if x.sum() > 0:
        ys.append(last)
    return xs, ys, last


@case(POS, NEG)
def list_of_numbers(x):
    sizes = [1, 2, 3]
    sizes.sort(reverse=True)
    if x.sum() > 0:
        sizes.append(4)
    return x * sum(sizes), sizes


@case(POS, NEG)
def comprehension_with_condition(x):
    kept = [v for v in x if v > -1.5]
    return torch.stack(kept) * len(kept)


@case(POS, NEG)
def comprehension_nested(x):
    return torch.stack([a * b for a in x for b in x if a > b])


@case(POS, NEG)
def comprehension_calls(x):
    def f(v):
        return v * 2 if v > 0 else v

    return torch.stack([f(v) for v in x])


@case(r(3, 2), r(5, 2))
def comprehension_over_rows(m):
    return torch.stack([row.sum() if row[0] > 0 else row.prod() for row in m])


@case(POS, NEG)
def set_comprehension(x):
    sizes = {v.ndim for v in [x, x[0]]}
    return x * len(sizes) if x.sum() > 0 else x


@case(POS, NEG)
def named_tuple(x):
    p = Pair(x, x * 2)
    if p.first.sum() > 0:
        p = p._replace(second=x + 10)
    return p


@case(Pair(POS, NEG), Pair(NEG, NEG))
def named_tuple_argument(p):
    a, b = p
    if a.sum() > 0:
        return Pair(first=b, second=p.first)
    return Pair(a, b)


@case((POS, t(3)), (NEG, t(0)))
def named_tuple_carried(x, n):
    p = Pair(x, 0)
    i = 0
    while i < n:
        p = Pair(p.first * 2, p.second + 1)
        i += 1
    return p


@case((POS, t(3)), (POS, t(6)))
def deque_window(x, n):
    window = deque(maxlen=2)
    window.append(x)
    window.append(x * 2)
    for i in range(n):
        window.append(window[0] + window[1] * i)
    return window[0], window[1]


@case(POS, NEG)
def default_dict(x):
    groups = defaultdict(list)
    groups["a"].append(x)
    if x.sum() > 0:
        groups["b"].append(x * 2)
    groups["a"].append(x + 1)
    return torch.stack(groups["a"]), len(groups)


@case(POS, NEG)
def ordered_dict(x):
    d = OrderedDict(a=x)
    d["b"] = x + 1
    if x.sum() > 0:
        d.move_to_end("a")
    return d


@case(POS, NEG)
def nested_containers_mutated(x):
    data = {"layers": [{"w": x}, {"w": x * 2}]}
    if x.sum() > 0:
        data["layers"][1]["w"] = x - 5
        data["layers"].append({"w": x})
    return data


@case((POS, t(2)), (NEG, t(3)))
def nested_lists_in_loop(x, n):
    outs, sizes = [], []
    for i in range(n):
        outs.append([x * i, x + i])
        sizes.append(i)
    return [a + b for a, b in outs], sizes


@case((t(3.0, 1.0, 2.0), t(3)), (t(1.0, 5.0, 4.0), t(2)))
def list_of_scalars_to_tensor(x, n):
    values = []
    for i in range(n):
        values.append(float(x[i]) * 2)
    return torch.tensor(values)


@case(t(3, 1, 2), t(1, 0, 0), grad=False)
def tolist(x):
    total = 0
    for v in x.tolist():
        if v > 1:
            total += v
    return total


@case(POS, NEG)
def strings(x):
    name = "relu"
    parts = name.upper().lower().split("e")
    key = f"{parts[0]}-{len(parts)}" + "%d" % 3 + "{}".format("x")
    if key.startswith("r") and x.sum() > 0:
        return getattr(torch, name)(x), key
    return x, key[::-1]


@case((POS, "sin"), (POS, "cos"), (NEG, "sin"), captures=2)
def string_argument(x, kind):
    if kind == "sin":
        y = x.sin()
    elif kind in ("cos", "tan"):
        y = x.cos()
    if y.sum() > 0:
        return y
    return -y


@case(POS, NEG)
def string_chosen_by_data(x):
    mode = "sum" if x.sum() > 0 else "mean"
    if mode == "sum":
        return x.sum()
    return x.mean()


@case(POS, NEG)
def key_chosen_by_data(x):
    table = {"up": x + 1, "down": x - 1}
    return table["up" if x.sum() > 0 else "down"]


@case((POS, t(2)), (POS, t(9)), grad=False)
def tensor_in_list(x, k):
    if k in [1, 2, 3]:
        return x * 2
    return x


@case((POS, 2.0), (POS, 9.0))
def number_in_tensor(x, v):
    if v in x:
        return x * 2
    return x


@case(POS, NEG)
def not_in(x):
    names = ["a"]
    if x.sum() > 0:
        names.append("b")
    return x * 2 if "b" not in names else x


@case(POS, NEG)
def zip_dict_sorted_reversed(x):
    names = ["c", "a", "b"]
    d = dict(zip(names, [x, x + 1, x + 2]))
    out = [d[k] for k in sorted(d)] + [d[k] for k in reversed(names)]
    return torch.cat(out) if x.sum() > 0 else out[0]


@case(POS, NEG)
def list_identity_kept(x):
    a = [x]
    b = a
    if x.sum() > 0:
        b.append(x * 2)
    return a, b, a is b


@case((POS, t(3)), (NEG, t(1)))
def list_truth(x, n):
    queue = [x]
    total = torch.zeros(3)
    k = n
    while queue:
        v = queue.pop()
        total = total + v
        k = k - 1
        if k > 0:
            queue.append(v * 2)
    return total


@case((POS, t(3)), (NEG, t(5)))
def list_of_tensors_rewritten(x, n):
    hs = [x, x * 2]
    i = 0
    while i < n:
        hs = [h * 0.5 + i for h in hs]
        i += 1
    return hs[0] + hs[1]


@case((POS, t(3)), (NEG, t(5)))
def list_item_assigned_in_loop(x, n):
    hs = [x, x * 2]
    i = 0
    while i < n:
        for k in range(len(hs)):
            hs[k] = hs[k] * 0.5 + i
        i += 1
    return hs


@case(POS, NEG)
def delete_items(x):
    d = {"a": x, "b": x + 1}
    if x.sum() > 0:
        del d["a"]
    else:
        del d["b"]
    return list(d.values())[0]


@case((r(4, 2), t(2)), (r(6, 2), t(3)))
def dynamic_slice(x, n):
    return x[:n], x[n:], x[-n:]


@case((r(8), t(2), t(5)), (r(8), t(0), t(8)))
def slice_by_ints(x, a, b):
    return x[int(a) : int(b)].sum()


@case(POS, NEG)
def enumerate_list_of_tensors(x):
    out = []
    for i, v in enumerate([x, x * 2, x * 3]):
        if v.sum() > 10 * i:
            out.append(v)
        else:
            out.append(-v)
    return out


@case(t(1.0, 2.0), t(-1.0, 2.0, -3.0), t(-1.0, -2.0))
def library_objects_that_one_way_changes(x):
    table, items, log = ChainMap({"a": 1}), UserList([1.0]), []
    with contextlib.ExitStack() as stack:
        if x.sum() > 0:
            table["a"] = 3
            items.append(2.0)
            stack.callback(log.append, "positive")
        stack.callback(log.append, "end")
    return x * table["a"], x * len(items), log


@case(t(3), t(1), t(7), grad=False)
def list_and_tuple_asked_for_data(x):
    n = int(x)
    items = [1, 3, 5, 3]
    times = items.count(n)
    if n in items:
        items.remove(n)
    pair = (1, 2, n)
    return times, items, pair.index(n), pair.count(n)


@case(t(3), t(1), t(0), grad=False)
def repeated_by_data(x):
    n = int(x)
    return [0] * n, "ab" * n, (1, 2) * n, n * "-", f"{bin(n)} {oct(n)} {hex(n)}"
