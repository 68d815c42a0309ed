"""Slices and pieces whose ends are data, then sized, iterated or split."""

from collections import Counter, defaultdict, deque

import torch
import torch.nn.functional as F

from tests.constructs.case import case, r, t

X, Y = t(1.0, -2.0, 3.0, -4.0, 5.0, -6.0), t(0.5, 0.1, 2.0)


@case((X, t(1, 4)), (X, t(0, 6)), (X, t(3, 3)), (X, t(5, 2)), (X, t(2, 99)))
def slice_len(x, t):
    a, b = (int(t[0]), int(t[1]))
    y = x[a:b]
    return (y, len(y), y.sum() * len(y))


@case((X, t(1, 4)), (X, t(0, 6)), (X, t(3, 3)), (X, t(5, 2)))
def slice_shape(x, t):
    a, b = (int(t[0]), int(t[1]))
    y = x[a:b]
    n = y.shape[0]
    return (y * n + y.size(0), torch.zeros(n), torch.ones(len(y), 2))


@case((X, t(1, 4)), (X, t(0, 6)), (X, t(3, 3)), (X, t(5, 2)))
def slice_loop(x, t):
    y = x[int(t[0]) : int(t[1])]
    acc = torch.zeros(())
    for v in y:
        acc = acc * 0.5 + v
    return acc


@case((X, t(1, 4)), (X, t(0, 6)), (X, t(3, 3)), (X, t(5, 2)))
def slice_range_loop(x, t):
    y = x[int(t[0]) : int(t[1])]
    out = []
    for k in range(len(y)):
        out.append(y[k] * k)
    return out


@case((X, t(-3, -1)), (X, t(-6, -2)), (X, t(-2, -2)), (X, t(-9, 2)))
def slice_neg(x, t):
    y = x[int(t[0]) : int(t[1])]
    return (y.cumsum(0), y.numel(), y.shape)


@case((X, t(1, 6, 2)), (X, t(0, 6, 3)), (X, t(0, 6, 1)), (X, t(4, 4, 2)))
def slice_step(x, t):
    y = x[int(t[0]) : int(t[1]) : int(t[2])]
    return (y, len(y))


@case((X, t(1, 4)), (X, t(0, 6)), (X, t(3, 3)))
def slice_if(x, t):
    y = x[int(t[0]) : int(t[1])]
    if len(y) == 0:
        return torch.full((1,), -1.0)
    if len(y) > 4:
        return y[:4] * len(y)
    return y.max() + x


@case((X, t(1, 4)), (X, t(0, 6)), (X, t(3, 3)))
def slice_in_loop(x, t):
    total = x.sum() * 0
    n = int(t[1])
    while n > int(t[0]):
        y = x[:n]
        total = total + y.sum() * y.shape[0]
        n -= 1
    return total


@case((X, t(1, 4)), (X, t(0, 6)), (X, t(3, 3)), (X, t(5, 2)))
def slice_assign(x, t):
    y = x.clone()
    y[int(t[0]) : int(t[1])] = 7.0
    y[int(t[0]) : int(t[1])] *= 2
    return y


@case((X.view(2, 3), t(0, 2)), (X.view(2, 3), t(1, 3)), (X.view(2, 3), t(1, 1)))
def slice_2d(x, t):
    y = x[:, int(t[0]) : int(t[1])]
    h, w = y.shape
    return (y.reshape(-1), h * w, y.t().contiguous().view(-1))


@case((X, t([2])), (X, t([0])), (X, t([6])))
def slice_cat(x, t):
    n = int(t[0])
    return (torch.cat([x[n:], x[:n]]), torch.stack([x[n:].sum(), x[:n].sum()]))


@case((X, t([2])), (X, t([0])), (X, t([6])))
def slice_mean(x, t):
    n = int(t[0])
    a = x[:n]
    m = a.mean() if len(a) else torch.zeros(())
    return m


@case((X, t([2])), (X, t([1])), (X, t([6])))
def slice_while(x, t):
    a = x[: int(t[0])]
    while len(a) > 1:
        a = a[1:]
    return a


@case((X, t(2, 3)), (X, t(0, 5)), (X, t(6, 1)))
def slice_branch(x, t):
    if x.sum() + t[0] > 0:
        y = x[: int(t[1])]
    else:
        y = x[int(t[1]) :]
    return (y, y.shape[0])


@case((X, t(2, 3)), (X, t(0, 5)), (X, t(5, 1)))
def slice_tensor_ends(x, t):
    y = x[t[0] : t[1]]
    return (y, len(y), y.shape[0])


@case((X, t(2, 3)), (X, t(0, 5)), (X, t(5, 1)))
def slice_list_out(x, t):
    out = []
    for k in range(2):
        out.append(x[int(t[k]) :])
    return (out, [len(o) for o in out])


@case((X, t(2, 3, 1)), (X, t(0, 5, 1)), (X, t(6, 0, 0)))
def split_pad(x, lens):
    n = int(lens.max())
    return torch.stack([F.pad(p, (0, n - len(p))) for p in x.split(lens.tolist())])


@case((X, t(2, 3, 1)), (X, t(0, 5, 1)), (X, t(6, 0, 0)))
def split_padseq(x, lens):
    return torch.nn.utils.rnn.pad_sequence(list(x.split(lens.tolist())), batch_first=True)


@case((X, t(2, 3, 1)), (X, t(3, 3)), (X, t([6])), (t(1.0, 2.0), t(2, 0)))
def split_any(x, lens):
    return [p.sum() for p in x.split(lens.tolist())]


@case((r(6, 3), t(2, 3, 1)), (r(6, 3), t(3, 3)), (r(5, 3), t([5])))
def split_attn(x, lens):
    out = []
    for p in torch.split(x, lens.tolist()):
        out.append(torch.softmax(p @ p.t(), -1) @ p)
    return torch.cat(out)


@case((r(6, 3), t(2, 3, 1)), (r(6, 3), t(3, 0, 3)), (r(6, 3), t(6, 0, 0)))
def split_unpack(x, lens):
    a, b, c = torch.split(x, lens.tolist())
    return (a.sum(0), b * 2, c.shape[0])


@case((X,), (t(1.0, 2.0, 3.0),), (t(1.0),))
def tails(x):
    out = []
    for k in range(len(x)):
        y = x[k:]
        out.append(torch.zeros(len(y)) + y.sum())
    return torch.cat(out)


@case((X, 1, 3), (X, 2, 4), (X, 0, 6), (X, 3, 3))
def int_args(x, a, b):
    y = x[a:b]
    return (y * len(y), y.shape[0])


@case((X, t([1])), (X, t([5])), (X, t([6])), (X, t([9])))
def one_slice(x, t):
    a = int(t)
    y = x[a : a + 1]
    return (y, len(y), torch.ones(y.shape[0]))


@case((r(4, 5), t(1, 3, 2, 5)), (r(4, 5), t(0, 4, 0, 0)), (r(4, 5), t(2, 3, 1, 4)))
def crop(x, b):
    y0, y1, x0, x1 = b.tolist()
    c = x[y0:y1, x0:x1]
    return (c, c.numel(), c.shape[0] * c.shape[1], c.sum() / max(c.numel(), 1))


@case((r(1, 1, 6, 6), t(1, 3, 2, 5)), (r(1, 1, 6, 6), t(0, 4, 0, 4)))
def crop_resize(x, b):
    y0, y1, x0, x1 = b.tolist()
    c = x[:, :, y0:y1, x0:x1]
    return (F.interpolate(c, size=(3, 3)), F.adaptive_avg_pool2d(c, 1))


@case((X, t(2, 4)), (X, t(0, 6)), (X, t(5, 1)))
def chunk_swap(x, t):
    a, b = t.tolist()
    if a < b:
        return torch.cat([x[:a], x[a:b].flip(0), x[b:]])
    return x


@case((X, t([2])), (X, t([4])), (X, t([1])))
def sliding(x, t):
    w = int(t)
    out = []
    for k in range(len(x) - w + 1):
        out.append(x[k : k + w].sum())
    return torch.stack(out)


@case((X, t([2])), (X, t([4])), (X, t([1])), (X, t([6])))
def chunked(x, t):
    w = int(t)
    out = []
    for k in range(0, len(x), w):
        c = x[k : k + w]
        out.append(c.sum() / len(c))
    return torch.stack(out)


@case((t(3.0, 1.0, 2.0, 5.0), t(2.5)), (t(5.0, 4.0, 3.0, 2.0, 1.0), t(9.0)), (t(1.0), t(0.0)))
def binsearch(x, v):
    x = x.sort()[0]
    lo, hi = (0, len(x))
    while lo < hi:
        m = (lo + hi) // 2
        if x[m] < v:
            lo = m + 1
        else:
            hi = m
    return (lo, x[:lo], x[lo:].sum() * (len(x) - lo))


@case((X, t([2])), (X, t([4])), (X, t([0])))
def topn(x, t):
    k = int(t)
    v, ix = x.topk(k)
    return (v, len(v), ix.tolist())


@case((r(1), t(9.0)), (r(1), t(-9.0)), (r(3), t(0.0)), (t(1.0, 3.0, 2.0), t(2.0)))
def rows_after_a_place_that_may_be_the_end(a, limit):
    i = 0
    while i < len(a) and a[i] <= limit:
        i += 1
    return list(a[i:])


@case((r(2), t(1)), (r(2), t(0)), (r(2), t(2)))
def pieces_of_a_run_time_size(a, i):
    return [piece.sum() for piece in a.split(int(i) + 1)]


@case(t(1.0, 0.0, 2.0), t(1.0, 1.0, 1.0), t(0.0, 3.0, 0.0), t(0.0, 0.0, 0.0), t(4.0, 5.0, 0.0))
def unpacked_rows_of_data(x):
    first, second = x[x > 0]
    i, j = x.nonzero().flatten().tolist()
    return first - second, i * 10 + j


@case(r(2), r(3), r(2, 2), r(1))
def unpacked_rows_of_many_sizes(x):
    a, b = x
    return a * 2 + b
