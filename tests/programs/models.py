"""Programs whose control flow is decided by data, as people write them in eager PyTorch.

Each maker returns a module or function and calls with several inputs, for one program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Made = tuple[Callable[..., Any], list[tuple]]


class EarlyExit(nn.Module):
    """A ViT whose blocks each have a head; the first confident one answers."""

    def __init__(self, width=32, depth=4, classes=5, threshold=0.3):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, stride=4)
        self.position = nn.Parameter(torch.randn(1, 16, width) * 0.1)
        layer = lambda: nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True)  # noqa: E731
        self.blocks = nn.ModuleList(layer() for _ in range(depth))
        self.heads = nn.ModuleList(nn.Linear(width, classes) for _ in range(depth))
        self.threshold = threshold

    def forward(self, image):
        x = self.patch(image).flatten(2).transpose(1, 2) + self.position
        for i, (block, head) in enumerate(zip(self.blocks, self.heads)):
            x = block(x)
            p = head(x.mean(1)).softmax(-1)
            if p.max() > self.threshold:
                return p, i
        return p, len(self.blocks)


def early_exit() -> Made:
    torch.manual_seed(1)
    model = EarlyExit().eval()
    return model, [(torch.randn(1, 3, 16, 16) * s,) for s in (0.1, 1.0, 3.0)]


class Ponder(nn.Module):
    """Adaptive computation time (Graves, 2016): steps until the halting sum is near one."""

    def __init__(self, width=16, limit=12):
        super().__init__()
        self.cell = nn.GRUCell(width, width)
        self.halt = nn.Linear(width, 1)
        self.limit = limit

    def forward(self, x):
        h = torch.zeros_like(x)
        total = torch.zeros(x.shape[0])
        mean = torch.zeros_like(x)
        steps = 0
        while bool((total < 0.99).any()) and steps < self.limit:
            h = self.cell(x, h)
            p = torch.sigmoid(self.halt(h)).squeeze(-1)
            p = torch.minimum(p, 1 - total)
            mean = mean + p.unsqueeze(-1) * h
            total = total + p
            steps += 1
        return mean, steps


def adaptive_time() -> Made:
    torch.manual_seed(2)
    return Ponder().eval(), [(torch.randn(3, 16) * s,) for s in (0.1, 1.0, 4.0)]


def nms(boxes, scores, threshold: float = 0.5):
    """Indices of the boxes that no better one covers."""
    x1, y1, x2, y2 = boxes.unbind(1)
    areas = (x2 - x1) * (y2 - y1)
    order = scores.argsort(descending=True)
    keep = []
    while order.numel() > 0:
        i = order[0]
        keep.append(i)
        rest = order[1:]
        w = (torch.minimum(x2[i], x2[rest]) - torch.maximum(x1[i], x1[rest])).clamp(min=0)
        h = (torch.minimum(y2[i], y2[rest]) - torch.maximum(y1[i], y1[rest])).clamp(min=0)
        overlap = w * h
        iou = overlap / (areas[i] + areas[rest] - overlap)
        order = rest[iou <= threshold]
    return torch.stack(keep)


def boxes_of(n: int, seed: int, size: float) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 10
    boxes = torch.cat([corner, corner + size + torch.rand(n, 2, generator=generator)], 1)
    return boxes, torch.rand(n, generator=generator)


def suppression() -> Made:
    return nms, [boxes_of(12, 0, 2.0), boxes_of(12, 1, 6.0), boxes_of(12, 2, 0.1)]


def solve(y, end, tolerance: float = 1e-4):
    """Heun's method with steps by the error of Euler's, for a damped pendulum."""

    def slope(y):
        return torch.stack([y[1], -torch.sin(y[0]) - 0.1 * y[1]])

    t = torch.zeros(())
    step = torch.full((), 0.1)
    count = 0
    while t < end:
        step = torch.minimum(step, end - t)
        a = slope(y)
        b = slope(y + step * a)
        error = (0.5 * step * (b - a)).abs().max()
        if error <= tolerance:
            y = y + 0.5 * step * (a + b)
            t = t + step
            step = step * 1.5
        else:
            step = step * 0.5
        count += 1
    return y, count


def ode() -> Made:
    return solve, [(torch.tensor([a, 0.0]), torch.tensor(t)) for a, t in ((1.0, 1.0), (2.5, 3.0))]


class Experts(nn.Module):
    """Mixtral's expert loop: every expert runs on the tokens that chose it."""

    def __init__(self, width=16, experts=4, picks=2):
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.up = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(experts))
        self.down = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(experts))
        self.picks = picks

    def forward(self, x):
        weights = F.softmax(self.gate(x), dim=1)
        weights, chosen = torch.topk(weights, self.picks, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        out = torch.zeros_like(x)
        mask = F.one_hot(chosen, len(self.up)).permute(2, 1, 0)
        for i in range(len(self.up)):
            pick, token = torch.where(mask[i])
            if token.shape[0] == 0:
                continue
            y = self.down[i](F.silu(self.up[i](x[token]))) * weights[token, pick, None]
            out.index_add_(0, token, y)
        return out


def experts() -> Made:
    torch.manual_seed(3)
    model = Experts().eval()
    return model, [(torch.randn(6, 16),), (torch.randn(1, 16).expand(6, 16).clone(),)]


class Attend(nn.Module):
    """A Tacotron-like decoder: frames until the stop token fires."""

    def __init__(self, width=16, frame=6, limit=20):
        super().__init__()
        self.prenet = nn.Linear(frame, width)
        self.rnn = nn.LSTMCell(2 * width, width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.energy = nn.Linear(width, 1)
        self.out = nn.Linear(2 * width, frame)
        self.stop = nn.Linear(2 * width, 1)
        self.limit = limit

    def forward(self, memory):
        b, _, width = memory.shape
        keys = self.key(memory)
        h = memory.new_zeros(b, width)
        c = memory.new_zeros(b, width)
        context = memory.new_zeros(b, width)
        frame = memory.new_zeros(b, self.out.out_features)
        frames, aligned = [], []
        while True:
            x = torch.relu(self.prenet(frame))
            h, c = self.rnn(torch.cat([x, context], -1), (h, c))
            e = self.energy(torch.tanh(self.query(h).unsqueeze(1) + keys)).squeeze(-1)
            weights = e.softmax(-1)
            context = torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
            both = torch.cat([h, context], -1)
            frame = self.out(both)
            frames.append(frame)
            aligned.append(weights)
            if torch.sigmoid(self.stop(both)).mean() > 0.55:
                break
            if len(frames) >= self.limit:
                break
        return torch.stack(frames, 1), torch.stack(aligned, 1)


def tacotron() -> Made:
    torch.manual_seed(4)
    model = Attend().eval()
    return model, [(torch.randn(2, 7, 16) * s,) for s in (0.2, 1.0, 4.0)]


class Transducer(nn.Module):
    """RNN-T: an encoder, a prediction network, and greedy decoding frame by frame."""

    def __init__(self, inputs=5, width=12, symbols=7, per_frame=3):
        super().__init__()
        self.encoder = nn.LSTM(inputs, width, batch_first=True)
        self.embed = nn.Embedding(symbols, width)
        self.predict = nn.LSTMCell(width, width)
        self.join = nn.Linear(2 * width, symbols)
        self.per_frame = per_frame

    def forward(self, x):
        encoded, _ = self.encoder(x)
        h = x.new_zeros(1, self.predict.hidden_size)
        c = x.new_zeros(1, self.predict.hidden_size)
        h, c = self.predict(self.embed(torch.zeros(1, dtype=torch.long)), (h, c))
        tokens = []
        for t in range(encoded.shape[1]):
            frame = encoded[:, t]
            emitted = 0
            while emitted < self.per_frame:
                token = self.join(torch.cat([frame, h], -1)).argmax(-1)
                if token.item() == 0:
                    break
                tokens.append(token)
                h, c = self.predict(self.embed(token), (h, c))
                emitted += 1
        if len(tokens) == 0:
            return torch.zeros(0, dtype=torch.long)
        return torch.cat(tokens)


def transducer() -> Made:
    torch.manual_seed(5)
    model = Transducer().eval()
    return model, [(torch.randn(1, 6, 5) * s,) for s in (0.1, 2.0, 5.0)]


class TreeLSTM(nn.Module):
    """Child-sum Tree-LSTM (Tai, 2015) by recursion; ``left[i] < 0`` is a leaf."""

    def __init__(self, width=8, words=11):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.gates = nn.Linear(2 * width, 5 * width)

    def node(self, i, left, right, word):
        if left[i] < 0:
            h = self.embed(word[i])
            return torch.tanh(h), h
        a, c = self.node(left[i], left, right, word)
        b, d = self.node(right[i], left, right, word)
        i_, f, g, o, u = self.gates(torch.cat([a, b])).chunk(5)
        cell = torch.sigmoid(f) * c + torch.sigmoid(g) * d + torch.sigmoid(i_) * torch.tanh(u)
        return torch.sigmoid(o) * torch.tanh(cell), cell

    def forward(self, left, right, word):
        return self.node(torch.zeros((), dtype=torch.long), left, right, word)[0]


def tree() -> Made:
    torch.manual_seed(6)
    long = lambda *xs: torch.tensor(xs)  # noqa: E731
    full = (long(1, 3, 5, -1, -1, -1, -1), long(2, 4, 6, -1, -1, -1, -1), long(1, 2, 3, 4, 5, 6, 7))
    deep = (long(1, 3, -1, 5, -1, -1, -1), long(2, 4, -1, 6, -1, -1, -1), long(7, 6, 5, 4, 3, 2, 1))
    return TreeLSTM().eval(), [full, deep]


class Decoder(nn.Module):
    """A small causal transformer with a cache of its own making."""

    def __init__(self, words=13, width=16, depth=2):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.place = nn.Embedding(64, width)
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(depth))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, words)

    def step(self, token, position, cache):
        x = self.embed(token) + self.place(position)
        following = []
        for qkv, out, (k, v) in zip(self.qkv, self.out, cache):
            q, new_k, new_v = qkv(x).chunk(3, -1)
            k = torch.cat([k, new_k.unsqueeze(1)], 1)
            v = torch.cat([v, new_v.unsqueeze(1)], 1)
            following.append((k, v))
            weights = (q.unsqueeze(1) @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
            x = x + out((weights @ v).squeeze(1))
        return self.head(x), following

    def forward(self, token, limit):
        empty = self.place.weight.new_zeros(token.shape[0], 0, self.place.embedding_dim)
        cache = [(empty, empty) for _ in self.qkv]
        tokens = token.unsqueeze(1)
        n = 0
        while n < limit:
            logits, cache = self.step(token, torch.full_like(token, n), cache)
            token = logits.argmax(-1)
            tokens = torch.cat([tokens, token.unsqueeze(1)], 1)
            n += 1
            if bool((token == 0).all()):
                break
        return tokens


def decoder() -> Made:
    torch.manual_seed(7)
    model = Decoder().eval()
    return model, [(torch.tensor([t]), torch.tensor(n)) for t, n in ((3, 6), (5, 20), (1, 1))]


class Sampler(Decoder):
    """Tokens drawn one by one, at a temperature, until the first word is drawn."""

    def forward(self, token, limit, temperature):
        empty = self.place.weight.new_zeros(token.shape[0], 0, self.place.embedding_dim)
        cache = [(empty, empty) for _ in self.qkv]
        tokens = token.unsqueeze(1)
        n = 0
        while n < limit:
            logits, cache = self.step(token, torch.full_like(token, n), cache)
            token = torch.multinomial((logits / temperature).softmax(-1), 1)[:, 0]
            tokens = torch.cat([tokens, token.unsqueeze(1)], 1)
            n += 1
            if bool((token == 0).all()):
                break
        return tokens


def sampler() -> Made:
    torch.manual_seed(7)
    calls = [
        (torch.tensor([t]), torch.tensor(30), torch.tensor(h)) for t, h in ((3, 0.5), (5, 2.0))
    ]
    return Sampler().eval(), calls * 4


class TreeInOrder(TreeLSTM):
    """The same tree, its nodes in an order in which children come first."""

    def forward(self, left, right, word):
        n = left.shape[0]
        width = self.embed.embedding_dim
        hidden, cell = torch.zeros(n, width), torch.zeros(n, width)
        for i in range(n):
            if left[i] < 0:
                c = self.embed(word[i])
                h = torch.tanh(c)
            else:
                a, b = hidden[left[i]], hidden[right[i]]
                i_, f, g, o, u = self.gates(torch.cat([a, b])).chunk(5)
                c = torch.sigmoid(f) * cell[left[i]] + torch.sigmoid(g) * cell[right[i]]
                c = c + torch.sigmoid(i_) * torch.tanh(u)
                h = torch.sigmoid(o) * torch.tanh(c)
            hidden[i] = h
            cell[i] = c
        return hidden[n - 1]


def tree_in_order() -> Made:
    torch.manual_seed(6)
    long = lambda *xs: torch.tensor(xs)  # noqa: E731
    full = (long(-1, -1, -1, -1, 0, 2, 4), long(-1, -1, -1, -1, 1, 3, 5), long(4, 5, 6, 7, 0, 0, 0))
    deep = (long(-1, -1, 0, -1, 2, -1, 4), long(-1, -1, 1, -1, 3, -1, 5), long(1, 2, 0, 3, 0, 4, 0))
    return TreeInOrder().eval(), [full, deep]


MAKERS: dict[str, Callable[[], Made]] = {
    "early_exit": early_exit, "adaptive_time": adaptive_time, "suppression": suppression, "ode": ode,
    "experts": experts, "tacotron": tacotron, "transducer": transducer, "tree": tree,
    "decoder": decoder, "tree_in_order": tree_in_order,
}  # fmt: skip
