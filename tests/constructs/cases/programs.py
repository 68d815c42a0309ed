"""Small whole programs."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.constructs.case import case, net, r, t


@case((r(4, 4), r(4)), (r(6, 6), r(6)))
def power_iteration(m, v):
    m = m @ m.t()
    value = torch.zeros(())
    for _ in range(50):
        w = m @ v
        new = w.norm()
        if (new - value).abs() < 1e-4:
            break
        v, value = w / new, new
    return value, v


BOXES = t([[0.0, 0, 4, 4], [1, 1, 5, 5], [10, 10, 12, 12]])


@case((BOXES, t(0.9, 0.8, 0.7), 0.1), (BOXES, t(0.1, 0.8, 0.7), 0.5), (BOXES[:2], t(0.1, 0.2), 0.1))
def nms(boxes, scores, limit):
    order = scores.argsort(descending=True)
    keep = []
    while order.numel() > 0:
        i = order[0]
        keep.append(i)
        if order.numel() == 1:
            break
        rest = boxes[order[1:]]
        lt = torch.maximum(boxes[i, :2], rest[:, :2])
        rb = torch.minimum(boxes[i, 2:], rest[:, 2:])
        inter = (rb - lt).clamp(min=0).prod(1)
        area = (boxes[i, 2:] - boxes[i, :2]).prod()
        areas = (rest[:, 2:] - rest[:, :2]).prod(1)
        iou = inter / (area + areas - inter)
        order = order[1:][iou <= limit]
    return torch.stack(keep)


@case((t([1]), t(6)), (t([2]), t(3)), (t([3]), t(9)), (t([4]), t(9)), (t([6]), t(40)))
class GreedyDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.cell, self.out = nn.Embedding(7, 5), nn.GRUCell(5, 5), nn.Linear(5, 7)

    def forward(self, start, limit):
        tokens, h, last = [start], torch.zeros(1, 5), start
        for _ in range(limit):
            h = self.cell(self.emb(last), h)
            last = self.out(h).argmax(-1)
            if last == tokens[-1]:
                break
            tokens.append(last)
        return torch.cat(tokens)


@case((t([1, 2]), t(4)), (t([3, 3]), t(2)))
class BeamSearch(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.out = nn.Embedding(6, 4), nn.Linear(4, 6)

    def forward(self, start, steps, beams=2):
        seqs, scores = start[:, None], torch.zeros(len(start))
        for _ in range(steps):
            logp = self.out(self.emb(seqs).mean(1)).log_softmax(-1)
            total = (scores[:, None] + logp).flatten()
            scores, idx = total.topk(beams)
            seqs = torch.cat([seqs[idx // 6], (idx % 6)[:, None]], 1)
            if (seqs[:, -1] == seqs[0, -1]).all():
                break
        return seqs, scores


@case((r(6, 2), r(2, 2)), (r(9, 2), r(2, 2)))
def kmeans(points, centers):
    for _ in range(10):
        labels = torch.cdist(points, centers).argmin(1)
        new = []
        for k in range(len(centers)):
            members = points[labels == k]
            new.append(members.mean(0) if len(members) > 0 else centers[k])
        moved = torch.stack(new)
        if torch.allclose(moved, centers):
            break
        centers = moved
    return centers, labels


@case((r(4, 3), r(3, 3), r(3)), (r(7, 3), r(3, 3), r(3)))
def viterbi(emissions, transitions, start):
    score, back = start + emissions[0], []
    for t_ in range(1, emissions.shape[0]):
        best, prev = (score[:, None] + transitions).max(0)
        score = best + emissions[t_]
        back.append(prev)
    last = score.argmax()
    path = [last]
    for prev in reversed(back):
        last = prev[last]
        path.insert(0, last)
    return torch.stack(path), score.max()


@case((t(1.0, 0.0), t(1.0)), (t(0.3, 2.0), t(2.5)))
def adaptive_ode(y, end):
    def slope(v):
        return torch.stack([v[1], -v[0]])

    now, h, steps = torch.zeros(()), torch.tensor(0.2), 0
    while now < end:
        if now + h > end:
            h = end - now
        k1 = slope(y)
        k2 = slope(y + h * k1)
        low, high = y + h * k1, y + h * (k1 + k2) / 2
        error = (high - low).abs().max()
        if error > 0.01:
            h = h / 2
            continue
        y, now, steps = high, now + h, steps + 1
        if error < 0.005:
            h = h * 1.5
    return y, steps


@case((r(5, 4), 2), (r(1, 4), 2))
class MixtureOfExperts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 3)
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x, k):
        weights, chosen = self.gate(x).softmax(-1).topk(k)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            rows, slots = torch.where(chosen == i)
            if rows.numel() == 0:
                continue
            out.index_add_(0, rows, expert(x[rows]) * weights[rows, slots, None])
        return out


class Leaf:
    def __init__(self, v):
        self.v = v


class Branch:
    def __init__(self, a, b):
        self.a, self.b = a, b


@case(
    (Branch(Leaf(r(4)), Branch(Leaf(r(4)), Leaf(r(4)))),),
    (Branch(Leaf(r(4)), Leaf(r(4))),),
    captures=2,
)
class TreeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.leaf, self.join = nn.Linear(4, 3), nn.Linear(6, 3)

    def forward(self, tree):
        if isinstance(tree, Leaf):
            return self.leaf(tree.v).tanh()
        h = self.join(torch.cat([self.forward(tree.a), self.forward(tree.b)]))
        return h.relu() if h.sum() > 0 else h.tanh()


@case((r(5, 3), t(5)), (r(5, 3), t(2)))
class AttentionDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.query, self.stop = nn.LSTMCell(3, 4), nn.Linear(4, 3), nn.Linear(4, 1)

    def forward(self, memory, limit):
        h, c, frame = torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(1, 3)
        frames, stops, alignments = [], [], []
        while True:
            h, c = self.cell(frame, (h, c))
            align = (memory @ self.query(h)[0]).softmax(0)
            frame = (align[:, None] * memory).sum(0, keepdim=True)
            frames.append(frame)
            alignments.append(align)
            stops.append(self.stop(h).squeeze())
            if stops[-1].sigmoid() > 0.6 or len(frames) >= limit:
                break
        return torch.cat(frames), torch.stack(stops), torch.stack(alignments)


@case(r(4, 3, 2), r(2, 3, 2))
class TransducerDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.joint = nn.Embedding(4, 2), nn.Linear(2, 4)

    def forward(self, frames):
        out = []
        for b in range(frames.size(1)):
            tokens, last = [], torch.tensor(0)
            for f in frames[:, b]:
                for _ in range(2):
                    k = self.joint(torch.tanh(f + self.emb(last))).argmax()
                    if k == last:
                        break
                    tokens.append(k)
                    last = k
            out.append(len(tokens))
        return torch.tensor(out)


@case((r(3, 5) * 3, t([1, 2, 0])), (r(3, 5) * 0.1, t([4, 4, 4])))
def focal_or_cross_entropy(logits, labels):
    loss = F.cross_entropy(logits, labels, reduction="none")
    hard = loss > 2.0
    if hard.any():
        return (loss * hard).sum() / hard.sum()
    return loss.mean()


@case((t(5.0, -3.0), t(1.5)), (t(0.5, 0.001), t(0.5)))
def gradient_descent_with_backtracking(x, rate):
    x = x.detach().requires_grad_()
    for _ in range(5):
        f = (x**2).sum() + (x[0] - 1) ** 2
        (g,) = torch.autograd.grad(f, x)
        step = rate
        while ((x - step * g) ** 2).sum() > f and step > 1e-3:
            step = step / 2
        x = (x - step * g).detach().requires_grad_()
        if g.norm() < 1e-2:
            break
    return x.detach()


@case(t(12), t(1), t(30), grad=False)
def sieve(n):
    flags = torch.ones(int(n) + 1, dtype=torch.bool)
    flags[:2] = False
    i = 2
    while i * i <= n:
        if flags[i]:
            flags[i * i :: i] = False
        i += 1
    return flags.nonzero().flatten()


@case((t([1, 2, 3]), t([1, 3])), (t([5, 1]), t([5, 1])), grad=False)
def longest_common_subsequence(a, b):
    table = torch.zeros(len(a) + 1, len(b) + 1, dtype=torch.int64)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            if a[i - 1] == b[j - 1]:
                table[i, j] = table[i - 1, j - 1] + 1
            else:
                table[i, j] = max(table[i - 1, j], table[i, j - 1])
    return table[-1, -1]


@case((r(3, 3),), (r(3, 3) * 3,))
def gram_schmidt(m):
    basis = []
    for v in m:
        for b in basis:
            v = v - (v @ b) * b
        n = v.norm()
        if n > 1e-6:
            basis.append(v / n)
    return torch.stack(basis)


@case((r(8), 3), (r(6), 3))
def moving_average(x, k):
    out = []
    for i in range(x.shape[0] - k + 1):
        window = x[i : i + k]
        out.append(window.mean() if window.min() > -1 else window.max())
    return torch.stack(out)


@case((r(1, 4), t(4)), (r(1, 4), t(1)))
class KeyValueCache(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, steps):
        keys, values = x.new_zeros(0, 4), x.new_zeros(0, 4)
        outs = []
        for _ in range(steps):
            keys = torch.cat([keys, self.k(x)])
            values = torch.cat([values, self.v(x)])
            x = (self.q(x) @ keys.t()).softmax(-1) @ values
            outs.append(x)
        return torch.cat(outs), keys.shape[0]


@case((r(2, 3), t(0.0)), (r(2, 3), t(1.0)))
class MeanTeacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.student, self.teacher = net(3, 2), net(3, 2)

    def forward(self, x, update):
        if update > 0.5:
            with torch.no_grad():
                for a, b in zip(self.teacher.parameters(), self.student.parameters()):
                    a.mul_(0.9).add_(b, alpha=0.1)
        return self.student(x) - self.teacher(x)


@case(t(100.0), t(-5.0), t(3.0))
def simulate_cart(x):
    v, trace = torch.zeros(()), []
    for step in range(8):
        force = -1.0 if x > 0 else 1.0
        v = v * 0.9 + force
        x = x + v
        trace.append(x)
        if x.abs() < 0.5:
            return x, step, torch.stack(trace)
    return x, 8, torch.stack(trace)
