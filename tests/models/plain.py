"""Architectures in plain PyTorch, each as small as shows its idea."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def block(i: int, o: int, stride: int = 1, groups: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    conv = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(o), nn.ReLU())


class UNet(nn.Module):
    def __init__(self, c: int = 8):
        super().__init__()
        self.down = nn.ModuleList([block(3, c), block(c, 2 * c), block(2 * c, 4 * c)])
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(4 * c, 2 * c, 2, 2), nn.ConvTranspose2d(2 * c, c, 2, 2)]
        )
        self.merge = nn.ModuleList([block(4 * c, 2 * c), block(2 * c, c)])
        self.head = nn.Conv2d(c, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for i, down in enumerate(self.down):
            x = down(F.max_pool2d(x, 2) if i else x)
            kept.append(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(kept[:-1])):
            x = up(x)
            x = merge(torch.cat([x, skip], 1))
        return self.head(x)


def generator() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(16, 32, 4), nn.BatchNorm2d(32), nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def discriminator() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 4, 2, 1, bias=False),
        nn.BatchNorm2d(32), nn.LeakyReLU(0.2), nn.Conv2d(32, 1, 4), nn.Flatten(), nn.Sigmoid(),
    )  # fmt: skip


class DenseNet(nn.Module):
    def __init__(self, grow: int = 8):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, grow, 3, padding=1))
            for c in range(16, 16 + 3 * grow, grow)
        )
        self.stem, self.head = block(3, 16, 2), nn.Linear(16 + 3 * grow, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.pool = block(8, 4, kernel=1), block(8, 4, kernel=1)
        self.three = nn.Sequential(block(8, 4, kernel=1), block(4, 4))
        self.five = nn.Sequential(block(8, 4, kernel=1), block(4, 4, kernel=5))

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pool(F.max_pool2d(x, 3, 1, 1))
        return torch.cat([self.one(x), self.three(x), self.five(x), pooled], 1)


class ShuffleNet(nn.Module):
    def __init__(self, c: int = 12, groups: int = 3):
        super().__init__()
        self.groups = groups
        self.squeeze = nn.Conv2d(c, c, 1, groups=groups)
        self.depth, self.expand = nn.Conv2d(c, c, 3, padding=1, groups=c), nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.squeeze(x))
        n, c, h, w = y.shape
        y = y.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)
        left, right = self.expand(self.depth(y)).chunk(2, 1)
        return F.relu(torch.cat([right, left], 1) + x)


class SqueezeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.squeeze = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 4, 1)
        self.one, self.three = nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, ceil_mode=True)
        s = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.one(s), self.three(s)], 1)).mean((2, 3))


class SqueezeExcite(nn.Module):
    def __init__(self, c: int = 8, groups: int = 1):
        super().__init__()
        self.body = nn.Sequential(block(c, c, groups=groups), nn.Conv2d(c, c, 3, padding=1))
        self.gate = nn.Sequential(nn.Linear(c, 2), nn.ReLU(), nn.Linear(2, c), nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return F.relu(x + y * self.gate(y.mean((2, 3)))[:, :, None, None])


def vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(144, 16),
        nn.ReLU(), nn.Dropout(), nn.Linear(16, 5),
    )  # fmt: skip


class WaveNet(nn.Module):
    def __init__(self, c: int = 8):
        super().__init__()
        self.stem = nn.Conv1d(1, c, 1)
        self.gates = nn.ModuleList(nn.Conv1d(c, 2 * c, 2, dilation=2**i) for i in range(3))
        self.outs = nn.ModuleList(nn.Conv1d(c, 2 * c, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.stem(x), 0
        for i, (gate, out) in enumerate(zip(self.gates, self.outs)):
            a, b = gate(F.pad(x, (2**i, 0))).chunk(2, 1)
            skip, rest = out(torch.tanh(a) * torch.sigmoid(b)).chunk(2, 1)
            x, total = x + rest, total + skip
        return F.relu(total)


class NeRF(nn.Module):
    def __init__(self, bands: int = 4):
        super().__init__()
        self.register_buffer("scales", 2.0 ** torch.arange(bands))
        width = 3 + 6 * bands
        self.first, self.second = nn.Linear(width, 32), nn.Linear(32 + width, 32)
        self.density, self.colour = nn.Linear(32, 1), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        angles = (x[..., None] * self.scales).flatten(-2)
        x = torch.cat([x, angles.sin(), angles.cos()], -1)
        h = F.relu(self.second(torch.cat([F.relu(self.first(x)), x], -1)))
        return {"density": F.softplus(self.density(h)), "colour": torch.sigmoid(self.colour(h))}


class RealNVP(nn.Module):
    def __init__(self, d: int = 6):
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(d, 16), nn.Tanh(), nn.Linear(16, 2 * d)) for _ in range(4)
        )
        self.register_buffer("mask", (torch.arange(d) % 2).float())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_det = x.new_zeros(x.shape[0])
        for i, net in enumerate(self.nets):
            mask = self.mask if i % 2 else 1 - self.mask
            s, t = net(x * mask).chunk(2, -1)
            s = torch.tanh(s) * (1 - mask)
            x = x * mask + (1 - mask) * (x * s.exp() + t)
            log_det = log_det + s.sum(-1)
        return x, log_det


class FourierNet(nn.Module):
    def __init__(self, c: int = 4, modes: int = 3):
        super().__init__()
        self.modes, self.lift, self.head = modes, nn.Conv2d(1, c, 1), nn.Conv2d(c, 1, 1)
        self.low = nn.Parameter(torch.randn(c, c, modes, modes, dtype=torch.cfloat) / c)
        self.high = nn.Parameter(torch.randn(c, c, modes, modes, dtype=torch.cfloat) / c)

    def forward(self, x: Tensor) -> Tensor:
        x, m = self.lift(x), self.modes
        spectrum = torch.fft.rfft2(x)
        out = torch.zeros_like(spectrum)
        rule = "bixy,ioxy->boxy"
        out[:, :, :m, :m] = torch.einsum(rule, spectrum[:, :, :m, :m], self.low)
        out[:, :, -m:, :m] = torch.einsum(rule, spectrum[:, :, -m:, :m], self.high)
        return self.head(F.gelu(torch.fft.irfft2(out, s=x.shape[-2:]) + x))


class DLRM(nn.Module):
    def __init__(self, d: int = 8):
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(20, d, mode="sum") for _ in range(3))
        self.bottom, self.top = nn.Linear(5, d), nn.Linear(d + 6, 1)

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        x = F.relu(self.bottom(dense))
        rows = [x, *(t(sparse[:, i]) for i, t in enumerate(self.tables))]
        t = torch.stack(rows, 1)
        i, j = torch.tril_indices(4, 4, -1)
        pairs = torch.bmm(t, t.transpose(1, 2))[:, i, j]
        return torch.sigmoid(self.top(torch.cat([x, pairs], 1)))


class DeepFM(nn.Module):
    def __init__(self, fields: int = 4, d: int = 8):
        super().__init__()
        self.linear, self.factors = nn.Embedding(30, 1), nn.Embedding(30, d)
        self.deep = nn.Sequential(nn.Linear(fields * d, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, ids: Tensor) -> Tensor:
        v = self.factors(ids)
        second = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1, keepdim=True)
        return torch.sigmoid(self.linear(ids).sum(1) + second + self.deep(v.flatten(1)))


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(12, 8), nn.Linear(4, 12)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = self.encode(x).chunk(2, -1)
        z = mean + noise * (0.5 * log_var).exp()
        kl = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(-1)
        return torch.sigmoid(self.decode(z)), kl


class PointNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.point = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        self.turn, self.head = nn.Linear(16, 9), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        turn = self.turn(self.point(x).max(2)[0]).view(-1, 3, 3) + torch.eye(3)
        return self.head(self.point(torch.bmm(turn, x)).max(2)[0])


class GraphConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.own, self.other = nn.Linear(5, 8), nn.Linear(5, 8)

    def forward(self, x: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        source, target = edges
        total = torch.zeros_like(x).index_add(0, target, x[source])
        degree = torch.zeros(x.shape[0]).scatter_add(0, target, torch.ones(edges.shape[1]))
        mean = total / degree.clamp(min=1)[:, None]
        largest = torch.full_like(x, -1e9).scatter_reduce(
            0, target[:, None].expand(-1, x.shape[1]), x[source], "amax"
        )
        return F.relu(self.own(x) + self.other(mean)), largest


class Mixer(nn.Module):
    def __init__(self, t: int = 16, c: int = 12):
        super().__init__()
        self.patch = nn.Conv2d(3, c, 4, 4)
        self.norms = nn.ModuleList([nn.LayerNorm(c), nn.LayerNorm(c)])
        self.tokens = nn.Sequential(nn.Linear(t, 24), nn.GELU(), nn.Linear(24, t))
        self.channels = nn.Sequential(nn.Linear(c, 24), nn.GELU(), nn.Linear(24, c))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).mT
        x = x + self.tokens(self.norms[0](x).mT).mT
        return (x + self.channels(self.norms[1](x))).mean(1)


class KAN(nn.Module):
    """Edges are sums of Gaussian bumps."""

    def __init__(self, i: int = 4, o: int = 3, bumps: int = 5):
        super().__init__()
        self.register_buffer("centres", torch.linspace(-2, 2, bumps))
        self.weight, self.base = nn.Parameter(torch.randn(o, i, bumps)), nn.Linear(i, o)

    def forward(self, x: Tensor) -> Tensor:
        bumps = torch.exp(-((x[..., None] - self.centres) ** 2))
        return torch.einsum("...ik,oik->...o", bumps, self.weight) + self.base(F.silu(x))


class Capsules(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 3, 4, 5) / 4)

    def squash(self, x: Tensor) -> Tensor:
        square = x.square().sum(-1, keepdim=True)
        return square / (1 + square) * x / torch.sqrt(square + 1e-8)

    def forward(self, x: Tensor) -> Tensor:
        votes = torch.einsum("nic,iocd->niod", x, self.weight)
        logits = torch.zeros(votes.shape[:3])
        for _ in range(3):
            out = self.squash((logits.softmax(2)[..., None] * votes).sum(1))
            logits = logits + (votes * out[:, None]).sum(-1)
        return out.norm(dim=-1)


class Highway(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 16) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            h, t = layer(x).chunk(2, -1)
            x = torch.lerp(x, F.relu(h), torch.sigmoid(t))
        return x


class SpatialTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.theta = nn.Linear(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.theta(x.mean((2, 3))).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


def super_resolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, 9, 3, padding=1), nn.PixelShuffle(3)
    )


class CRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(block(1, 8), nn.MaxPool2d(2), block(8, 8), nn.MaxPool2d((4, 1)))
        self.rnn, self.head = (
            nn.LSTM(16, 12, bidirectional=True, batch_first=True),
            nn.Linear(24, 6),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs(x)
        y = y.permute(0, 3, 1, 2).flatten(2)
        return self.head(self.rnn(y)[0]).log_softmax(-1)


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.net(x), self.net(y)
        return F.cosine_similarity(x, y), F.pairwise_distance(x, y)


class HyperNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.make = nn.Linear(3, 4 * 5 + 5)

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        w, bias = self.make(task).split([20, 5], -1)
        return torch.tanh(torch.baddbmm(bias[:, None], x[:, None], w.view(-1, 4, 5)).squeeze(1))


class Kalman(nn.Module):
    """A filter of constant gain over eight steps."""

    def __init__(self):
        super().__init__()
        self.move = nn.Parameter(torch.eye(3) + 0.1 * torch.randn(3, 3))
        self.see, self.gain = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(3, 2) / 4)

    def forward(self, x: Tensor) -> Tensor:
        state, states = x.new_zeros(x.shape[0], 3), []
        for t in range(8):
            state = state @ self.move.T
            state = state + (x[:, t] - state @ self.see.T) @ self.gain.T
            states.append(state)
        return torch.stack(states, 1)


class MixtureOfExperts(nn.Module):
    """Every token goes to its two best experts; all are computed, weights are 0 elsewhere."""

    def __init__(self, c: int = 8, experts: int = 4):
        super().__init__()
        self.gate, self.up = nn.Linear(c, experts), nn.Parameter(torch.randn(experts, c, 16) / 3)
        self.down = nn.Parameter(torch.randn(experts, 16, c) / 4)

    def forward(self, x: Tensor) -> Tensor:
        scores, best = self.gate(x).topk(2, -1)
        weights = torch.zeros(*x.shape[:-1], 4).scatter(-1, best, scores.softmax(-1))
        y = torch.einsum("btc,ecd->bted", x, self.up)
        return torch.einsum("bted,edc,bte->btc", F.gelu(y), self.down, weights)


class Attention(nn.Module):
    """Causal self-attention with rotary places, a slope by distance, and a table of distances."""

    def __init__(self, c: int = 16, heads: int = 4):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.table = nn.Embedding(33, heads)
        self.register_buffer("slopes", 2.0 ** -torch.arange(1, heads + 1))

    def turn(self, x: Tensor) -> Tensor:
        d = x.shape[-1] // 2
        place = torch.arange(x.shape[-2])[:, None] / 100 ** (torch.arange(d) / d)
        a, b = x.chunk(2, -1)
        cos, sin = place.cos(), place.sin()
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = torch.einsum("nhid,nhjd->nhij", self.turn(q), self.turn(k)) / math.sqrt(c)
        distance = torch.arange(t)[:, None] - torch.arange(t)
        scores = scores - self.slopes[:, None, None] * distance
        scores = scores + self.table(distance.clamp(-16, 16) + 16).permute(2, 0, 1)
        scores = scores.masked_fill(distance < 0, float("-inf"))
        y = torch.einsum("nhij,nhjd->nihd", scores.softmax(-1), v)
        return self.out(y.reshape(n, t, c))


class Heads(nn.Module):
    """Quantiles in order, ordinal probabilities, and scores masked by fancy indexing."""

    def __init__(self):
        super().__init__()
        self.quantiles, self.ordinal = nn.Linear(6, 5), nn.Linear(6, 1)
        self.cuts = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        steps = self.quantiles(x)
        steps = torch.cat([steps[:, :1], F.softplus(steps[:, 1:])], 1).cumsum(1)
        below = torch.sigmoid(self.cuts.sort()[0] - self.ordinal(x))
        classes = torch.diff(F.pad(below, (1, 1), value=0.0), dim=1)
        masked = x.clone()
        masked[masked < 0] = 0.5
        masked[:, [0, 2]] = masked[:, [1, 3]] * 2
        return steps, classes, masked


class Sequence(nn.Module):
    """A recurrent layer of two directions and its last step."""

    def __init__(self, kind: type[nn.RNNBase]):
        super().__init__()
        self.rnn = kind(6, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(5, 6), nn.GRUCell(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = c = g = x.new_zeros(x.shape[0], 6)
        for t in range(4):
            h, c = self.lstm(x[:, t], (h, c))
            g = self.gru(h, g)
        return g


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Transformer(16, 4, 1, 1, 32, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.net(source, target, tgt_mask=mask)


class SegNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = block(3, 8), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y, places = F.max_pool2d(self.down(x), 2, return_indices=True)
        return self.up(F.max_unpool2d(y, places, 2))
