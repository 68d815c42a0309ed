"""Comparisons and truth of lists, tuples, sets, dicts and optional values that data decide."""

from collections import Counter, deque

import torch

from tests.constructs.case import case, t

PAIRS = (t(5, 3), t(1, 3), t(0, -1), t(1, 4))


@case(*PAIRS, grad=False)
def lists_of_run_time_length(x):
    a = [v for v in x.tolist() if v > 0]
    b = a[:]
    return a == [1, 3], a != [1, 3], a < [2], a >= [1, 3], [] == a, [2] > a, a == b, a == [x]


@case(*PAIRS, grad=False)
def tuples_of_run_time_length(x):
    a = tuple([v for v in x.tolist() if v > 0])
    return a == (1, 3), (1,) == a, a < (2,), a != (), a == [1, 3], (a, 2) == ((1, 3), 2), a.count(3)


@case(*PAIRS, grad=False)
def lists_inside_of_lists(x):
    kept = []
    for row in ([*x.tolist()], [1, 3], [5]):
        positive = [v for v in row if v > 0]
        if positive not in kept:
            kept.append(positive)
    return kept


@case(*PAIRS, grad=False)
def loop_until_a_list_is_sorted(x):
    a = [v for v in x.tolist() if v > 0]
    while a != sorted(a):
        a.pop()
    return a, a == a[::-1]


@case((t(5, 3), t(3, 5, 5)), (t(1, 3), t(1, 3, 4)), (t(2, 4), t(1, 4, 4)), grad=False)
def sets_of_data(x, y):
    a, b = set(x.tolist()), set(y.tolist())
    named = (a == frozenset([1, 3]), frozenset([5, 3]) == a, a != {1: 0, 3: 0}.keys())
    return a <= b, a < b, a >= b, a > b, a == b, {1} <= a, named


@case(*PAIRS, grad=False)
def updates_of_sets_under_two_names(x):
    a = set(x.tolist())
    b = a
    a &= {1, 3, 5}
    b |= {7}
    a ^= {3}
    b -= {1}
    a.intersection_update([5, 7, 9], (5, 7))
    b.symmetric_difference_update({7, 8})
    return sorted(a), sorted(b), a is b


@case(*PAIRS, grad=False)
def updates_of_dicts_under_two_names(x):
    d, c = {v: i for i, v in enumerate(x.tolist())}, Counter()
    e, f = d, c
    for v in x.tolist():
        c[v] += 1
    d |= {1: 100}
    c += Counter({1: 2})
    f.subtract([3])
    return e, d is e, sorted(f.items()), c is f


@case(*PAIRS, grad=False)
def keys_of_dicts_as_sets(x):
    d = {v: i for i, v in enumerate(x.tolist())}
    same = d.keys() == {5, 3}, {1, 3} == d.keys(), d.keys() != {1, 3}, d.keys() <= {1, 3, 4}
    return same, d.keys() & {1, 5}, {1, 9} - d.keys(), d.keys().isdisjoint([4]), list(d) == [1, 3]


@case(t(1), t(-1), grad=False)
def one_of_two_dicts_that_changes(x):
    d = {"a": 1} if x > 0 else {"b": 2, "a": 0}
    e = {"a": 1} if x > 0 else {}
    f = d if x > 0 else e
    d.update(c=1)
    e.setdefault("a", 4)
    return d, e, f.pop("a", None), f


@case(*PAIRS, grad=False)
def deques_that_grow_by_data(x):
    q = deque([1], maxlen=3)
    for v in x.tolist():
        if v > 0:
            q.append(v)
    return len(q), list(q) == [1, 1, 3], [*q] < [1, 2]


@case(t(1.0, 2.0), t(-3.0, 3.0), t(-2.0, -1.0), t(1.0, -1.0), t(2.0, 2.0))
def equal_to_nothing(x):
    nothing = None
    n = int(x[0]) if x[0] > 0 else None
    a = x if x[1] > 0 else None
    w = x[1].item() if x[1] > 0 else None
    same = a is x, a is n, n is w, w is nothing
    return n == nothing, nothing != w, n == w, [n] == [None], (n, w) == (None, None), n in [w], same


@case(t(1, 2), t(-1, 2), t(2, -2), t(3, -2), grad=False)
def dicts_and_ranges_with_numbers_of_data(x):
    n, m = (int(x[0]) if x[0] > 0 else None), int(x[1])
    dicts = {"k": n} == {"k": None}, {"k": m} != {"k": 2}, [{"a": {"b": m}}] == [{"a": {"b": 2}}]
    ranges = range(m) == range(2), range(2) != range(m), range(m, 3) == range(3, 3), range(m) == [0]
    return dicts, ranges, hasattr(n, "real"), hasattr(n, "append"), {"k": m} == {"j": m}


@case(t(1, 2), t(-1, 2), t(12, -5), grad=False)
def numbers_read_from_texts(x):
    text = f"{int(x[0])}"
    return int(text) + 1, float(text + ".5"), int(text, base=16)


@case(t(1, 2), t(0, 2), t(2, -2), t(3, 0), grad=False)
def letters_that_data_pick(x):
    i, j = x.tolist()
    word = "abcd"[i] + "abcd"[:j] + chr(97 + i)
    return word, repr(word), word.join(["1", "2"]), ord(word[-1]), "abcd"[-i:]


@case(t(1, 3), t(5, 2), t(2, 15), grad=False)
def texts_repeated_by_truths(x):
    names = ["Fizz" * (n % 3 == 0) + "Buzz" * (n % 5 == 0) or str(n) for n in x.tolist()]
    way = "ab" if x[0] > 1 else "c"
    return names, ",".join(way), (1,) * bool(x[0] > 1)


@case(t(0.0, 2.0), t(-3.0, 3.0), t(-2.0, -1.0), t(0.0, -1.0), grad=False)
def truth_of_optional_values(x):
    is_there = x[1] > 0
    n = int(x[0]) if is_there else None
    f = float(x[0]) if is_there else None
    b = (x[0] < 0).item() if is_there else None
    s = x[0] if is_there else None
    found = [v for v in (n, f, b, s) if v]
    return n or 5, f and 3, b or 2, s or 7, not s, bool(b), bool(n), 1 if f else 2, len(found)


@case(t(0.0, 2.0), t(3.0, 3.0), t(-2.0, -1.0), grad=False)
def loop_until_nothing_is_left(x):
    node, steps = (int(x[0]) if x[1] > 0 else None), torch.zeros(())
    while node:
        node = node - 1 if node > 1 else None
        steps = steps + 1
    return steps, node
