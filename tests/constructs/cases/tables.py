"""Dicts and sets whose keys data decide."""

import copy
from collections import Counter, OrderedDict, defaultdict

import torch
import torch.nn.functional as F
from torch import nn

from tests.constructs.case import case, t

X, Y = t(1.0, -2.0, 3.0, -4.0, 5.0, -6.0), t(0.5, 0.1, 2.0)
A, B, C = t(3, 1, 3), t(5, 4, 2), t(1, 1, 1)


@case((t(3, 1, 3),), (t(5, 4),), (t(1, 1, 1, 4),))
def counts_dict(t):
    counts = {}
    for v in t:
        k = int(v)
        counts[k] = counts.get(k, 0) + 1
    return counts


@case((t(3, 1, 3),), (t(5, 4),), (t(1, 1, 1, 4),))
def seen_set(t):
    seen = set()
    out = []
    for v in t.tolist():
        if v in seen:
            continue
        seen.add(v)
        out.append(v)
    return (out, len(seen))


@case((t(3, 1, 3),), (t(5, 4),), (t(1, 1, 1, 4),))
def default_dict(t):
    d = defaultdict(int)
    for v in t:
        d[v.item()] += 1
    return (sorted(d.items()), max(d.values()))


@case(
    (t(3, 1, 3), t(1.0, 2.0, 3.0)), (t(5, 4), t(1.0, 2.0)), (t(1, 1, 1, 4), t(3.0, 4.0, 5.0, 6.0))
)
def group_dict(t, x):
    d = {}
    for k in range(len(t)):
        d.setdefault(int(t[k]), []).append(x[k])
    return {k: torch.stack(v).sum() for k, v in d.items()}


@case((t(3, 1, 3),), (t(5, 4),), (t(1, 1, 1, 4),))
def counter(t):
    c = Counter(t.tolist())
    return (c.most_common(1)[0][0], len(c))


@case(
    (t(3, 1, 3), t(1.0, 2.0, 3.0)), (t(5, 4), t(1.0, 2.0)), (t(1, 1, 1, 4), t(3.0, 4.0, 5.0, 6.0))
)
def memo_dict(t, x):
    memo = {}
    out = []
    for k in range(len(t)):
        key = int(t[k])
        if key not in memo:
            memo[key] = x * key
        out.append(memo[key])
    return torch.stack(out)


@case((t(3, 1, 3),), (t(5, 4),), (t(1, 1, 1, 4),))
def two_sum(t):
    seen = {}
    for k in range(len(t)):
        r = 4 - int(t[k])
        if r in seen:
            return (seen[r], k)
        seen[int(t[k])] = k
    return (-1, -1)


@case((t(3, 1, 3),), (t(5, 4),), (t(1, 1, 1, 4),))
def uniq(t):
    return (len(set(t.tolist())), sorted(set(t.tolist())))


@case((t([3]), t(1.0, 2.0)), (t([1]), t(1.0, 2.0)))
def dict_key_once(t, x):
    d = {int(t): x * 2}
    d[int(t) + 1] = x
    return (d, sum(d.values()))


@case((t(3, 1, 3),), (t(5, 4),), (t(1, 1, 1, 4),))
def dict_del(t):
    d = {1: 10, 3: 30, 5: 50}
    for v in t:
        if int(v) in d:
            del d[int(v)]
    return (list(d.keys()), sum(d.values()))


@case((t(3, 1, 3), t(1.0, 2.0)), (t(5, 4), t(1.0, 2.0)), (t(1, 1, 1, 4), t(3.0, 4.0)))
def opt_key_loop(t, x):
    d = {"a": x}
    for v in t:
        if v > 2:
            d["b"] = x * v
    return (d.get("b", x), len(d))


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def group_lists(t, x):
    d = defaultdict(list)
    for k, v in zip(t.tolist(), x):
        d[k].append(v)
    out = {}
    for k, vs in d.items():
        out[k] = torch.stack(vs).mean()
    return out


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def group_sorted(t, x):
    d = {}
    for k in range(len(t)):
        key = int(t[k])
        if key in d:
            d[key] = d[key] + x[k]
        else:
            d[key] = x[k]
    return torch.stack([d[k] for k in sorted(d)])


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def group_sorted_items(t, x):
    d = {}
    for k in range(len(t)):
        key = int(t[k])
        d[key] = d.get(key, 0.0) + x[k]
    total = 0
    for k, v in sorted(d.items()):
        total = total * 2 + v * k
    return (total, list(d.keys()), list(d.values()))


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def dict_comp_data(t, x):
    d = {int(v): x[k] for k, v in enumerate(t)}
    return (d, len(d))


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def set_comp(t, x):
    s = {int(v) for v in t}
    return (len(s), sorted(s), x * len(s))


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def set_ops(t, x):
    s = set(t.tolist())
    u = {1, 2}
    return (sorted(s | u), sorted(s & u), sorted(s - u), s.issubset({1, 3}), 3 in s)


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def counter_ops(t, x):
    c = Counter()
    for v in t.tolist():
        c[v] += 1
    best, n = c.most_common(1)[0]
    return (best, n, c[9], x * n)


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def mode_dict(t, x):
    counts = {}
    for v in t:
        k = v.item()
        if k not in counts:
            counts[k] = 0
        counts[k] += 1
    best = max(counts, key=counts.get)
    return (best, counts[best], x * counts[best])


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def max_key_lambda(t, x):
    counts = {}
    for v in t.tolist():
        counts[v] = counts.get(v, 0) + 1
    return (max(counts, key=lambda k: (counts[k], k)), min(counts.items(), key=lambda p: p[1]))


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def dedup(t, x):
    seen = set()
    out = []
    for k in range(len(t)):
        v = int(t[k])
        if v not in seen:
            seen.add(v)
            out.append(x[k])
    return torch.stack(out)


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def stop_at_repeat(t, x):
    seen = set()
    for k in range(len(t)):
        if int(t[k]) in seen:
            break
        seen.add(int(t[k]))
        x = x * 2
    return (x, len(seen))


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def tuple_keys(t, x):
    d = {}
    for k in range(len(t)):
        p = (int(t[k]), k % 2)
        d[p] = d.get(p, 0) + x[k]
    return ([v for v in d.values()], (1, 0) in d)


@case((t(7),), (t(12),), (t(1),))
def collatz_memo(n):
    seen = {}
    n = int(n)
    c = 0
    while n != 1 and n not in seen:
        seen[n] = c
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        c += 1
    return (c, len(seen))


@case((t(7),), (t(12),), (t(1),))
def happy(n):
    seen = set()
    n = int(n)
    while n != 1 and n not in seen:
        seen.add(n)
        t = 0
        while n > 0:
            t += (n % 10) ** 2
            n //= 10
        n = t
    return (n == 1, len(seen))


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def pop_default(t, x):
    d = {1: x, 3: x * 2}
    y = x
    for v in t:
        y = y + d.pop(int(v), 0)
    return (y, len(d), list(d))


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def discard_set(t, x):
    s = {1, 3}
    for v in t:
        s.discard(int(v))
    if not s:
        return x
    return (x * len(s), sorted(s), max(s))


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def index_of(t, x):
    pos = {v: k for k, v in enumerate(t.tolist())}
    return (x[pos[int(t[0])]], pos)


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def adj_dict(t, x):
    adj = defaultdict(set)
    for k in range(len(t) - 1):
        a, b = (int(t[k]), int(t[k + 1]))
        adj[a].add(b)
        adj[b].add(a)
    return {k: sorted(v) for k, v in adj.items()}


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def in_branch(t, x):
    d = {}
    if x.sum() > 3:
        d[int(t[0])] = x
    else:
        d[int(t[1])] = x * 2
        d[int(t[2])] = x * 3
    return (d, len(d))


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def update_dicts(t, x):
    d = {int(t[0]): 1}
    d.update({int(t[1]): 2, 9: 3})
    e = dict(d)
    e[int(t[2])] = 7
    return (d, e, d == e)


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def ordered(t, x):
    d = OrderedDict()
    for v in t.tolist():
        d[v] = x.sum()
        d.move_to_end(v)
        if len(d) > 2:
            d.popitem(last=False)
    return list(d.keys())


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)), (C, t(3.0, 4.0, 5.0)))
def default_lambda(t, x):
    d = defaultdict(lambda: x * 0)
    for k, v in enumerate(t):
        d[int(v)] = d[int(v)] + x * k
    return [d[k] for k in sorted(d)]


@case((A, t(1.0, 2.0, 3.0)), (B, t(1.0, 2.0, -1.0)))
class Cache(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, t, x):
        cache = {}
        for k in range(len(t)):
            key = int(t[k])
            if key not in cache:
                cache[key] = self.layer(x) * key
            x = x + cache[key]
        return x, len(cache)


@case(t(1, 2), t(-1, 2), t(2, 2), grad=False)
def deep_copies_of_tables(x):
    d = {v: i for i, v in enumerate(x.tolist())}
    e = copy.deepcopy(d)
    e[9] = 1
    return d, e


@case(t(1), t(-1), grad=False)
def deep_copy_of_one_of_two(x):
    word, one = ("a", {"a": 1}) if x > 0 else ("b", {"b": 2})
    other = copy.deepcopy(one)
    other["z"] = 1
    return one, other, copy.deepcopy([word])
