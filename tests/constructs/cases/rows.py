"""Lists that data steer: slices, places, order, lists of plain numbers."""

import functools
import itertools
from collections import Counter, defaultdict, deque

import torch
import torch.nn.functional as F
from torch import nn

from tests.constructs.case import case, t

X, Y = t(1.0, -2.0, 3.0, -4.0, 5.0, -6.0), t(0.5, 0.1, 2.0)


@case((X, t(1, 4)), (X, t(0, 6)), (X, t(3, 3)))
def list_slice(x, t):
    items = [v * 2 for v in x]
    k = items[int(t[0]) : int(t[1])]
    return (k, len(k), sum(k))


@case((X, t([1])), (X, t([0])), (X, t([6])), (X, t([99])), (X, t([-2])))
def list_slice_n(x, t):
    items = [x[0], x[1], x[2] * 2]
    n = int(t[0])
    acc = x.sum()
    for v in items[:n]:
        acc = acc * v
    return (acc, items[n:])


@case((X, t(1, 2)), (X, t(0, 3)), (X, t(2, 2)))
def list_slice_assign(x, t):
    items = [x[0], x[1], x[2] * 2]
    items[int(t[0]) : int(t[1])] = [x[3], x[4]]
    return items


@case((X, t(1, 2)), (X, t(0, 3)), (X, t(2, 2)))
def list_slice_del(x, t):
    items = [x[0], x[1], x[2] * 2]
    del items[int(t[0]) : int(t[1])]
    return (items, len(items))


@case((X, t([1])), (X, t([0])), (X, t([-1])))
def list_del(x, t):
    items = [x[0], x[1], x[2] * 2]
    del items[int(t[0])]
    return items


@case((X, t([1])), (X, t([0])), (X, t([-1])))
def list_pop_n(x, t):
    items = [x[0], x[1], x[2] * 2]
    v = items.pop(int(t[0]))
    items.insert(int(t[0]), v * 2)
    return (items, v)


@case((X, t([1])), (X, t([0])), (X, t([5])))
def tuple_slice(x, t):
    items = (x[0], x[1], x[2] * 2)
    n = int(t[0])
    return (items[n:], items[:n])


@case((X, t([1])), (X, t([0])), (X, t([3])))
def int_list_slice(x, t):
    items = [1, 2, 3, 4]
    n = int(t[0])
    return (sum(items[:n]), items[n:], x * sum(items[n:]))


@case((X,), (Y,), (-X,))
def sort_key(x):
    items = []
    for v in x:
        if v > 0:
            items.append(v)
    items.sort(key=lambda v: -v)
    return items


@case((X,), (Y,), (-X,))
def sorted_key(x):
    items = [(v, v * 2) for v in x if v != 3]
    s = sorted(items, key=lambda p: p[1], reverse=True)
    return s


@case((X,), (Y,), (-X,))
def sorted_tuple(x):
    beams = []
    for k in range(len(x)):
        if x[k] > 0:
            beams.append((float(x[k]), x[k] * k))
    beams = sorted(beams, key=lambda b: b[0])[:2]
    return beams


@case((X,), (Y,), (-X,))
def max_key(x):
    items = []
    for v in x:
        if v > 0:
            items.append((v, v * 2))
    return (max(items, key=lambda p: p[0]), min(items, key=lambda p: p[0].abs()))


@case((X,), (Y,), (-X,))
def sort_reverse(x):
    items = []
    for v in x:
        if v > 0:
            items.append(float(v))
    items.sort(reverse=True)
    return items


@case((X,), (Y,), (-X,))
def beam(x):
    beams = [(0.0, x[:1])]
    for step in range(3):
        cand = []
        for sc, seq in beams:
            for k in range(3):
                cand.append((sc + float(x[k]), torch.cat([seq, x[k : k + 1]])))
        cand.sort(key=lambda b: b[0], reverse=True)
        beams = cand[:2]
    return (beams[0][1], beams[1][0])


@case((X,), (Y,), (-X,))
def argmax_range(x):
    return (max(range(len(x)), key=lambda k: float(x[k])), min(range(3), key=lambda k: x[k]))


@case((X,), (Y,), (-X,))
def sorted_range(x):
    order = sorted(range(len(x)), key=lambda k: x[k].item())
    return (x[order], order)


@case((t(0, 1, 1, 2), t([5])), (t(3, 4), t([5])), (t(0, 1, 2, 3, 3, 4), t([6])))
def union_find(e, n):
    n = int(n)
    parent = list(range(n))

    def find(a):
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        return a

    for k in range(0, len(e) - 1, 2):
        a, b = (find(int(e[k])), find(int(e[k + 1])))
        if a != b:
            parent[a] = b
    return sum((1 for k in range(n) if find(k) == k))


@case((t(3.0, 1.0, 2.0),), (t(5.0, 4.0, 3.0, 2.0, 1.0),), (t(1.0),))
def merge_sort(x):

    def ms(v):
        if len(v) <= 1:
            return v
        m = len(v) // 2
        a, b = (ms(v[:m]), ms(v[m:]))
        out = []
        p = q = 0
        while p < len(a) and q < len(b):
            if a[p] <= b[q]:
                out.append(a[p])
                p += 1
            else:
                out.append(b[q])
                q += 1
        return out + a[p:] + b[q:]

    return ms([float(v) for v in x])


@case(
    (t(1, 1, 0, 1, 0, 0, 1, 1, 1).view(3, 3),),
    (t(0, 1, 0, 1, 0, 0, 1, 1, 1).view(3, 3),),
    (t(0, 0, 0, 0, 0, 0, 0, 0, 0).view(3, 3),),
)
def flood(g):
    seen = torch.zeros_like(g, dtype=torch.bool)
    count = 0
    for r in range(g.shape[0]):
        for c in range(g.shape[1]):
            if g[r, c] == 1 and (not seen[r, c]):
                count += 1
                stack = [(r, c)]
                while stack:
                    y, x = stack.pop()
                    if y < 0 or x < 0 or y >= g.shape[0] or (x >= g.shape[1]):
                        continue
                    if seen[y, x] or g[y, x] == 0:
                        continue
                    seen[y, x] = True
                    stack.append((y + 1, x))
                    stack.append((y - 1, x))
                    stack.append((y, x + 1))
                    stack.append((y, x - 1))
    return (count, seen)


@case((t([3]),), (t([0]),), (t([5]),))
def zeros_n(t):
    n = int(t)
    c = [0] * n
    for k in range(n):
        c[k] = k * k
    return (c, sum(c))


@case((t([3]),), (t([1]),), (t([5]),))
def list_range(t):
    n = int(t)
    c = list(range(n))
    c[0] = 10
    return (c, len(c), c[-1])


@case((t(1, 2),), (t(0, 0),), (t(2, 1),))
def grid(t):
    g = [[0] * 3 for _ in range(3)]
    g[int(t[0])][int(t[1])] = 5
    g[int(t[0])][0] += 1
    return g


@case((t([3]),), (t([1]),), (t([6]),))
def dp_fib(t):
    n = int(t)
    dp = [0] * (n + 2)
    dp[1] = 1
    for k in range(2, n + 1):
        dp[k] = dp[k - 1] + dp[k - 2]
    return dp[n]


@case((t(3, 1, 2),), (t(5, 4),), (t(1, 2, 3, 4),))
def lis(t):
    n = len(t)
    dp = [1] * n
    for a in range(n):
        for b in range(a):
            if t[b] < t[a]:
                dp[a] = max(dp[a], dp[b] + 1)
    return max(dp)


@case((X,), (Y,))
def tolist_tensor(x):
    v = x.tolist()
    return torch.tensor([2 * a for a in v]) + x


@case(
    (t(0, 2, 1, 2, 0), t(1.0, 2.0, 3.0, 4.0, 5.0)),
    (t(1, 1, 0, 0, 1), t(1.0, 2.0, 3.0, -4.0, 5.0)),
    (t(0, 0, 0, 0, 0), t(3.0, 2.0, 1.0, 1.0, 0.0)),
)
def buckets(ix, x):
    b = [[] for _ in range(3)]
    for k in range(len(ix)):
        b[int(ix[k])].append(x[k])
    return [sum(v) if v else torch.zeros(()) for v in b]


@case(
    (t(0, 2, 1, 2, 0), t(1.0, 2.0, 3.0, 4.0, 5.0)),
    (t(1, 1, 0, 0, 1), t(1.0, 2.0, 3.0, -4.0, 5.0)),
    (t(0, 0, 0, 0, 0), t(3.0, 2.0, 1.0, 1.0, 0.0)),
)
def buckets_len(ix, x):
    b = [[], [], []]
    for k, v in enumerate(ix):
        b[int(v)].append(x[k])
    sizes = [len(v) for v in b]
    return (sizes, [torch.stack(v).mean() for v in b if len(v) > 0])


@case(t(3.0, 1.0, 2.0), t(1.0, 5.0, 2.0), t(-1.0, -1.0, 0.0))
def sorted_by_a_comparison(x):
    by_number = functools.cmp_to_key(lambda a, b: (a - b).item())
    by_sum = functools.cmp_to_key(lambda a, b: int(b[0]) - int(a[0]) or a[1] - b[1])
    pairs = sorted([(x[0], 2), (x[1], 1), (x[2], 0)], key=by_sum)
    return torch.stack(sorted([x[0], x[1], x[2]], key=by_number)), [k for _, k in pairs]


@case((X, Y), (Y, X), (X, X))
def best_by_a_comparison(x, y):
    key = functools.cmp_to_key(lambda a, b: float(a.sum() - b.sum()))
    return max(x, y, key=key), min(x, y, key=key), key(x) >= key(y), key(x) == key(y)


@case(t(3.0, -1.0, 2.0), t(1.0, 5.0, 2.0), t(-1.0, -1.0, 1.0), t(-1.0, -1.0, -1.0))
def neighbours_of_kept_rows(x):
    kept = [v for v in x if v > 0]
    return [b - a for a, b in itertools.pairwise(kept)]
