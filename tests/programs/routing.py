"""Early exits, pondering, boxes and experts, written in several styles."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

PROGRAMS: dict[str, Any] = {}


def program(make: Any) -> Any:
    """``make() -> (callable, [arguments of a call, ...])``"""
    PROGRAMS[make.__name__] = make
    return make


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Patches(nn.Module):
    def __init__(self, seed, dim=16, depth=4, classes=5):
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Conv2d(3, dim, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.blocks = nn.ModuleList(Block(dim) for _ in range(depth))
        self.heads = nn.ModuleList(nn.Linear(dim, classes) for _ in range(depth))
        for head in self.heads:
            head.weight.data *= 4

    def tokens(self, image):
        x = self.embed(image).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)


def images(*sizes, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 3, s, s, generator=g) * 2 for n, s in sizes]


def limits(*values):
    return [torch.tensor(v) for v in values]


@program
def vit_entropy():
    """Returns at the first block whose entropy is low; enumerate over a ModuleList."""

    class Net(Patches):
        def forward(self, image, limit):
            x = self.tokens(image)
            for i, (block, head) in enumerate(zip(self.blocks, self.heads)):
                x = block(x)
                p = head(x[:, 0]).softmax(-1)
                entropy = -(p * p.clamp_min(1e-9).log()).sum(-1)
                if entropy.max() < limit:
                    return p, i
            return p, len(self.blocks)

    xs = images((1, 8), (1, 8), (2, 8), (1, 12), (3, 16))
    return Net(0).eval(), list(zip(xs, limits(0.8, 1.4, 0.5, 1.2, 0.1)))


@program
def vit_patience():
    """Stops when two heads in a row agree; recursion over the blocks; a dict tells what happened."""
    net = Patches(1).eval()

    def go(x, i, last, agreed):
        x = net.blocks[i](x)
        now = net.heads[i](x[:, 0]).argmax(-1)
        agreed = agreed + 1 if last is not None and bool((now == last).all()) else 0
        if agreed == 1 or i + 1 == len(net.blocks):
            return {"label": now, "depth": i, "features": x[:, 0]}
        return go(x, i + 1, now, agreed)

    def run(image):
        found = go(net.tokens(image), 0, None, 0)
        found["features"] = nn.functional.normalize(found["features"], dim=-1)
        return found

    return run, [(x,) for x in images((1, 8), (1, 8), (2, 8), (1, 12), (2, 16), seed=2)]


@program
def vit_rows():
    """Each row leaves on its own: the batch shrinks by boolean masks."""
    net = Patches(2).eval()

    def run(image, limit):
        x = net.tokens(image)
        out = torch.zeros(image.shape[0], 5)
        depth = torch.full((image.shape[0],), -1)
        rows = torch.arange(image.shape[0])
        for i in range(len(net.blocks)):
            x = net.blocks[i](x)
            p = net.heads[i](x[:, 0]).softmax(-1)
            leaves = p.amax(-1) > limit
            if i == len(net.blocks) - 1:
                leaves = torch.ones_like(leaves)
            if leaves.any():
                out[rows[leaves]] = p[leaves]
                depth[rows[leaves]] = i
                x, rows = x[~leaves], rows[~leaves]
            if rows.numel() == 0:
                break
        return out, depth

    xs = images((4, 8), (3, 8), (5, 8), (1, 12), seed=3)
    return run, list(zip(xs, limits(0.7, 0.5, 0.9, 0.4)))


@program
def act_batch():
    """Graves' ACT for a batch, with masks, remainders and ponder cost."""

    class ACT(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(3)
            self.cell, self.halt = nn.GRUCell(9, 12), nn.Linear(12, 1)

        def forward(self, x, h):
            n = x.shape[0]
            total, remain, steps = torch.zeros(n), torch.ones(n), torch.zeros(n)
            mixed = torch.zeros_like(h)
            first = True
            while (total < 0.99).any() and steps.max() < 8:
                flag = torch.ones(n, 1) if first else torch.zeros(n, 1)
                first = False
                h = self.cell(torch.cat([x, flag], 1), h)
                p = torch.sigmoid(self.halt(h))[:, 0]
                running = total < 0.99
                last = running & (total + p >= 0.99)
                weight = torch.where(last, remain, p) * running
                mixed = mixed + weight[:, None] * h
                total = total + weight
                remain = remain - weight
                steps = steps + running
            return mixed, (steps + remain).mean()

    g = torch.Generator().manual_seed(4)
    return ACT().eval(), [
        (torch.randn(n, 8, generator=g) * 3, torch.randn(n, 12, generator=g)) for n in (2, 3, 1, 5)
    ]


@program
def act_sequence():
    """Each item of a sequence ponders as long as it likes: nested loops, a slots object, tuples."""
    torch.manual_seed(5)
    cell, halt, out = nn.RNNCell(6, 10), nn.Linear(10, 1), nn.Linear(10, 3)

    class Ponder:
        __slots__ = ("budget", "count", "state")

        def __init__(self, state):
            self.state, self.budget, self.count = state, 1.0, 0

        def think(self, x):
            acc = torch.zeros_like(self.state)
            while True:
                self.state = cell(x, self.state)
                p = torch.sigmoid(halt(self.state)).squeeze()
                self.count += 1
                if p > self.budget or self.count > 6:
                    return acc + self.budget * self.state
                acc = acc + p * self.state
                self.budget = self.budget - p

    def run(xs):
        state, rows, counts = torch.zeros(1, 10), [], []
        for x in xs:
            ponder = Ponder(state)
            state = ponder.think(x[None])
            rows.append(out(state))
            counts.append(ponder.count)
        return torch.cat(rows), torch.tensor(counts)

    g = torch.Generator().manual_seed(6)
    return run, [(torch.randn(n, 6, generator=g) * 2,) for n in (3, 4, 2, 6)]


def iou(a, b):
    """Of box a [4] with boxes b [n, 4]."""
    low, high = torch.maximum(a[:2], b[:, :2]), torch.minimum(a[2:], b[:, 2:])
    inner = (high - low).clamp(min=0).prod(-1)
    area = lambda x: (x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1])  # noqa: E731
    return inner / (area(a) + area(b) - inner)


def boxes(n, g):
    corner = torch.rand(n, 2, generator=g) * 10
    return torch.cat([corner, corner + 1 + torch.rand(n, 2, generator=g) * 5], 1)


@program
def nms_shrinking():
    """The boxes that are left become fewer; a list of indices."""

    def nms(boxes, scores, limit):
        order = scores.argsort(descending=True)
        keep = []
        while order.numel() > 0:
            first = order[0]
            keep.append(first)
            if order.numel() == 1:
                break
            rest = order[1:]
            order = rest[iou(boxes[first], boxes[rest]) <= limit]
        return torch.stack(keep) if keep else torch.empty(0, dtype=torch.long)

    g = torch.Generator().manual_seed(7)
    return nms, [(boxes(n, g), torch.rand(n, generator=g), 0.3) for n in (6, 6, 9, 1, 14)]


@program
def nms_soft():
    """Scores decay in place; a generator of kept boxes; a NamedTuple of results."""

    class Found(NamedTuple):
        boxes: torch.Tensor
        scores: torch.Tensor

    def kept(boxes, scores, sigma, least):
        scores = scores.clone()
        for _ in range(len(scores)):
            i = int(scores.argmax())
            if scores[i] < least:
                return
            yield boxes[i], scores[i].clone()
            overlap = iou(boxes[i], boxes)
            scores *= torch.exp(-overlap * overlap / sigma)
            scores[i] = -1.0

    def run(boxes, scores):
        rows, values = [], []
        for box, value in kept(boxes, scores, 0.5, 0.2):
            rows.append(box)
            values.append(value)
        if len(rows) == 0:
            return Found(boxes[:0], scores[:0])
        return Found(torch.stack(rows), torch.stack(values))

    g = torch.Generator().manual_seed(8)
    return run, [(boxes(n, g), torch.rand(n, generator=g)) for n in (5, 7, 4, 10)]


@program
def nms_classes():
    """For each class of its own, over a dict; a mask of the dead; a limit of boxes."""

    def one(boxes, scores, limit):
        dead = torch.zeros(boxes.shape[0], dtype=torch.bool)
        found = []
        for i in scores.argsort(descending=True).tolist():
            if dead[i]:
                continue
            found.append(i)
            dead |= iou(boxes[i], boxes) > limit
        return torch.tensor(found, dtype=torch.long)

    def run(boxes, scores, labels):
        result = {}
        for label in range(3):
            at = (labels == label).nonzero()[:, 0]
            if len(at) == 0:
                result[label] = at
                continue
            result[label] = at[one(boxes[at], scores[at], 0.2)][:3]
        return torch.cat([result[k] for k in sorted(result)]), [len(v) for v in result.values()]

    g = torch.Generator().manual_seed(9)
    return run, [
        (boxes(n, g), torch.rand(n, generator=g), torch.randint(0, 3, (n,), generator=g))
        for n in (6, 8, 5, 13)
    ]


class Experts(nn.Module):
    def __init__(self, seed, dim=8, count=4):
        super().__init__()
        torch.manual_seed(seed)
        self.gate = nn.Linear(dim, count, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))
            for _ in range(count)
        )


@program
def moe_mixtral_loop():
    """Mixtral: a loop over the experts that are hit, index_add_ of what they give."""

    class MoE(Experts):
        def forward(self, hidden):
            n, t, d = hidden.shape
            x = hidden.view(-1, d)
            weights = self.gate(x).softmax(1)
            weights, chosen = weights.topk(2, dim=-1)
            weights = weights / weights.sum(-1, keepdim=True)
            final = torch.zeros(n * t, d)
            mask = nn.functional.one_hot(chosen, num_classes=len(self.experts)).permute(2, 1, 0)
            for index in mask.sum(dim=(-1, -2)).gt(0).nonzero():
                which, top = torch.where(mask[index].squeeze(0))
                current = x[None, top].reshape(-1, d)
                final.index_add_(0, top, self.experts[index](current) * weights[top, which, None])
            return final.reshape(n, t, d)

    g = torch.Generator().manual_seed(10)
    return MoE(6).eval(), [
        (torch.randn(b, t, 8, generator=g),) for b, t in ((2, 3), (1, 2), (3, 4), (1, 7))
    ]


@program
def moe_capacity():
    """Switch routing with a capacity, tokens per expert in a dict of lists of indices."""
    net = Experts(7).eval()

    def run(x, capacity):
        p = net.gate(x).softmax(-1)
        best, expert = p.max(-1)
        groups = {}
        for e in range(4):
            groups[e] = torch.nonzero(expert == e, as_tuple=True)[0]
        out = x.clone()
        dropped = 0
        for e, at in groups.items():
            if at.numel() == 0:
                continue
            if at.numel() > capacity:
                order = best[at].argsort(descending=True)
                dropped += at.numel() - capacity
                at = at[order[:capacity]]
            out[at] = best[at][:, None] * net.experts[e](x[at])
        return out, dropped

    g = torch.Generator().manual_seed(11)
    return run, [(torch.randn(n, 8, generator=g), 2) for n in (5, 6, 4, 11)]


@program
def moe_tokens():
    """Token by token: each one asks experts until their weight is enough."""
    net = Experts(8).eval()

    class Router:
        def __init__(self, net):
            self.net = net
            self.load = torch.zeros(4)

        def __call__(self, token):
            p, order = self.net.gate(token).softmax(-1).sort(descending=True)
            out, mass = torch.zeros_like(token), torch.zeros(())
            for weight, e in zip(p, order):
                y = self.net.experts[e](token)
                out = out + weight * y
                mass = mass + weight
                self.load[e] += 1
                if mass > 0.6:
                    break
            return out / mass

    def run(x):
        router = Router(net)
        return torch.stack([router(t) for t in x]), router.load

    g = torch.Generator().manual_seed(12)
    return run, [(torch.randn(n, 8, generator=g) * 2,) for n in (3, 4, 2, 6)]


@program
def moe_transformers():
    """The block of transformers, as it comes."""
    import transformers

    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=4, vocab_size=40,
    )  # fmt: skip
    model = transformers.MixtralForCausalLM(config).eval()

    def run(ids):
        return model(ids, use_cache=False).logits

    g = torch.Generator().manual_seed(13)
    return run, [(torch.randint(0, 40, s, generator=g),) for s in ((2, 3), (1, 4), (3, 5), (1, 6))]
