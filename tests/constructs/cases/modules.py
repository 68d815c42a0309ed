"""Modules: parameters, buffers, counters, submodules, lists of layers, normalisation, hooks."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.constructs.case import case, kw, net, r, t

A, B = r(2, 4), r(2, 4)
POS, NEG = A.abs(), -A.abs()


@case(POS, NEG)
class BranchOnOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        if x.sum() > 0:
            return self.a(x)
        return self.b(x).relu()


@case(POS, NEG, r(5, 4), double=True)
class BranchSharesParameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 4))

    def forward(self, x):
        if x.mean() > 0:
            y = torch.tanh(x @ self.w)
        else:
            y = x @ self.w.t() * self.w.sum()
        return y


@case((A, t(3)), (A, t(0)), (B, t(1)))
class LoopedLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x, n):
        i = 0
        while i < n:
            x = torch.tanh(self.fc(x))
            i += 1
        return x


@case(POS, NEG)
class LayersInList(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if x.sum() > i:
                x = x.relu()
        return x


@case(POS * 0.1, NEG * 100, POS * 100)
class EarlyExit(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.heads = nn.ModuleList(nn.Linear(4, 2) for _ in range(3))

    def forward(self, x):
        for i, (layer, head) in enumerate(zip(self.layers, self.heads)):
            x = layer(x).tanh()
            y = head(x)
            if F.softmax(y, -1).max() > 0.683:
                return y, i
        return y, -1


@case((POS, t(1)), (POS, t(0)), (NEG, t(2)), (NEG, t(3)))
class ExpertByIndex(nn.Module):
    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x, k):
        for i, e in enumerate(self.experts):
            if i == k:
                return e(x)
        raise AssertionError


@case((POS, t(1)), (POS, t(0)), (NEG, t(2)))
class ModuleListIndexedByTensor(nn.Module):
    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x, k):
        return self.experts[k](x)


@case(POS, NEG)
class ModuleDictByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleDict({"up": nn.Linear(4, 2), "down": nn.Linear(4, 2)})

    def forward(self, x):
        name = "up" if x.sum() > 0 else "down"
        return self.heads[name](x)


@case(POS, NEG)
class SequentialSlices(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net(4, 4, 4, 4)

    def forward(self, x):
        x = self.net[:2](x)
        if x.sum() > 0:
            return self.net[2:](x)
        for layer in self.net[4:]:
            x = layer(x)
        return x


class Gate(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.fc = nn.Linear(n, n)

    def forward(self, x):
        y = self.fc(x)
        if y.mean() > 0:
            return y * x
        return y - x


@case(POS, NEG, B)
class Submodules(nn.Module):
    def __init__(self):
        super().__init__()
        self.gates = nn.Sequential(Gate(4), nn.ReLU(), Gate(4))
        self.last = Gate(4)

    def forward(self, x):
        return self.last(self.gates(x)) + self.extra(x)

    def extra(self, x):
        if x.sum() > 0:
            return x
        return x.sin()


@case(POS, NEG, POS)
class BufferCounter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x):
        if x.sum() > 0:
            self.steps += 1
        return x * self.steps


@case(POS, NEG, POS)
class BufferReassigned(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        if x.sum() > 0:
            self.mean = self.mean * 0.9 + x.detach().mean(0) * 0.1
        return x - self.mean


@case(POS, NEG, POS)
class PythonCounter(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        self.positive = 0

    def forward(self, x):
        self.calls += 1
        if x.sum() > 0:
            self.positive += 1
        return x * self.calls + self.positive


@case(POS, NEG, POS, POS)
class EverySecondCall(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls % 2 == 0:
            return x * 2
        return x + 1


@case(POS, NEG, POS, captures=2)
class CachedTensor(nn.Module):
    def __init__(self):
        super().__init__()
        self.cache = None

    def forward(self, x):
        if self.cache is None:
            self.cache = x.detach() * 2
        if x.sum() > 0:
            return x + self.cache
        return x


@case(POS, NEG, POS)
class ListOnSelf(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.log = []

    def forward(self, x):
        self.log.append(x.detach().mean())
        y = self.fc(x)
        if y.sum() > 0:
            self.log.append(y.detach().mean())
        return y


@case((A, t(3)), (B, t(2)))
class CarriedHidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4, 4)
        self.h = torch.zeros(2, 4)

    def forward(self, x, n):
        for _ in range(n):
            self.h = self.cell(x, self.h)
        out, self.h = self.h, self.h.detach()
        return out


@case(r(5, 2, 4), r(3, 2, 4))
class HandWrittenLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.wx, self.wh = nn.Linear(4, 12), nn.Linear(3, 12, bias=False)

    def forward(self, xs, state=None):
        if state is None:
            state = (xs.new_zeros(xs.shape[1], 3), xs.new_zeros(xs.shape[1], 3))
        h, c = state
        out = []
        for x in xs:
            i, f, g, o = (self.wx(x) + self.wh(h)).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            out.append(h)
        return torch.stack(out), (h, c)


@case((r(5, 2, 4), t(5, 3)), (r(5, 2, 4), t(1, 4)))
class LengthsOfSequences(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4, 3)

    def forward(self, xs, lengths):
        h = xs.new_zeros(2, 3)
        for i in range(lengths.max()):
            new = self.cell(xs[i], h)
            h = torch.where((i < lengths)[:, None], new, h)
        return h


@case(r(4, 4), r(4, 4), r(6, 4))
class BatchNormState(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x):
        if x.sum() > 0:
            return self.bn(x)
        return self.bn(x * 2) + 1


@case(r(4, 4), -r(4, 4).abs(), train=False)
class BatchNormEval(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x):
        y = self.bn(x)
        return y if y.mean() > 0 else -y


@case(POS, NEG)
class TrainingFlag(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        if self.training and x.sum() > 0:
            x = x + torch.randn_like(x)
        return self.fc(x)


@case(POS, NEG)
class DropoutInBranch(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)

    def forward(self, x):
        if x.sum() > 0:
            x = self.drop(x)
        return self.drop(self.fc(x))


@case((A, t(3)), (A, t(0)))
class DropoutInLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.3)

    def forward(self, x, n):
        i = 0
        while i < n:
            x = self.drop(x) * 1.1
            i += 1
        return x


@case(POS, NEG)
class ForwardHook(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.fc.register_forward_hook(lambda m, args, out: out * 2 if out.sum() > 0 else out)

    def forward(self, x):
        return self.fc(x) + 1


@case(POS, NEG)
class ForwardPreHook(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.fc.register_forward_pre_hook(lambda m, args: (args[0].abs(),))

    def forward(self, x):
        if x.sum() > 0:
            return self.fc(x)
        return self.fc(x) * 2


@case(POS, NEG)
class ParameterUpdatedInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(4))

    def forward(self, x):
        with torch.no_grad():
            if x.sum() > 0:
                self.w.mul_(1.5)
            self.w += 0.1
        return x * self.w


@case(POS, NEG)
class ParameterListAndDict(nn.Module):
    def __init__(self):
        super().__init__()
        self.ws = nn.ParameterList([torch.ones(4), torch.ones(4) * 2])
        self.named = nn.ParameterDict({"b": torch.zeros(4)})

    def forward(self, x):
        for w in self.ws:
            if (x * w).sum() > 0:
                x = x * w
        return x + self.named["b"]


@case(POS, NEG)
class IteratesNamedParameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net(4, 4)

    def forward(self, x):
        total = torch.zeros(())
        for name, p in self.net.named_parameters():
            if "bias" in name:
                total = total + p.sum()
            elif p.abs().sum() > 0:
                total = total + p.abs().sum()
        return self.net(x) * total if x.sum() > 0 else self.net(x) + total


@case(POS, NEG)
class ReturnsParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(4))

    def forward(self, x):
        if x.sum() > 0:
            return self.w
        return x


@case(A, B)
class TiedWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x):
        y = self.a(x)
        return self.b(y) if y.sum() > 0 else self.b(-y)


@case(POS, NEG)
class PropertyOnModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    @property
    def scale(self):
        s = self.fc.weight.sum()
        return s if s > 0 else -s

    def forward(self, x):
        return self.fc(x) * self.scale if x.sum() > 0 else x


@case(
    (POS, kw(mask=None)),
    (NEG, kw(mask=None)),
    (POS, kw(mask=t(True, False, True, True))),
    captures=2,
)
class OptionalMask(nn.Module):
    def forward(self, x, mask=None):
        if mask is not None:
            x = x.masked_fill(~mask, 0.0)
        if x.sum() > 3:
            return x / x.sum()
        return x


@case((t([1, 2, 0, 0]),), (t([3, 0, 0, 0]),), (t([0, 0, 0, 0]),), captures=1)
class EmbeddingSkipsPadding(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(5, 3)

    def forward(self, ids):
        total = torch.zeros(3)
        for i in ids:
            if i == 0:
                break
            total = total + self.emb(i)
        return total


@case(POS, NEG, POS * 9, NEG * 9)
class SuperForward(Gate):
    def __init__(self):
        super().__init__(4)

    def forward(self, x):
        y = super().forward(x)
        if y.sum() > 0:
            return y
        return super().forward(y)


@case((r(2, 5, 8),), (r(2, 3, 8),))
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        w = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if x.shape[1] > 1:
            w = w.masked_fill(torch.ones(x.shape[1], x.shape[1]).tril() == 0, float("-inf"))
        return w.softmax(-1) @ v


@case(r(2, 3, 8, 8), r(2, 3, 6, 6))
class StochasticDepth(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, x):
        for i, block in enumerate(self.blocks):
            if torch.rand(()) < 0.3 * i:
                continue
            x = x + F.relu(block(x))
        return x.mean((2, 3))


@case(POS, NEG)
class NoGradSubnetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.frozen, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        with torch.no_grad():
            h = self.frozen(x)
        return self.head(h) if h.sum() > 0 else self.head(h.abs())


@case(POS, NEG)
class CallsMethodByName(nn.Module):
    def up(self, x):
        return x + 1

    def down(self, x):
        return x - 1

    def forward(self, x):
        kind = "up" if x.sum() > 0 else "down"
        return getattr(self, kind)(x)


@case((A, t(0.4)), (A, t(3.0)))
class AdaptiveTime(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.halt = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x, budget):
        used, out, steps = torch.zeros(()), torch.zeros_like(x), 0
        while used < budget and steps < 6:
            x = self.cell(x).tanh()
            p = self.halt(x).sigmoid().mean()
            out = out + p * x
            used = used + p
            steps += 1
        return out / used, steps


@case(POS, NEG)
class ModuleStateDictRead(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        bias = self.fc.state_dict()["bias"]
        return x + bias if x.sum() > 0 else x


@case(A, B, POS)
class ReturnsUpdatedBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("peak", torch.tensor(0.25))

    def forward(self, x):
        self.peak.copy_(x.max().detach())
        if self.peak > 1:
            self.peak.mul_(0.5)
        return x * 2, self.peak


@case(POS, NEG)
class HooksThatDecide(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.fc.register_forward_pre_hook(self.before)
        self.fc.register_forward_pre_hook(self.before_with_keywords, with_kwargs=True)
        self.fc.register_forward_hook(lambda module, args, y: y * 2 if y.sum() > 0 else None)
        self.fc.register_forward_hook(self.after_with_keywords, with_kwargs=True)

    def before(self, module, args):
        if args[0].sum() > 0:
            return args[0] + 1

    def before_with_keywords(self, module, args, kwargs):
        if args[0].sum() < 0:
            return (args[0] * 0.5,), kwargs

    def after_with_keywords(self, module, args, kwargs, y):
        if y.mean() > 0:
            return y - 1

    def forward(self, x):
        return self.fc(x)


@case(POS, NEG)
class LibraryModulesWithOptionalArguments(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)

    def forward(self, x):
        mask, weight = None, None
        if x.sum() > 0:
            mask = torch.tensor([[False, True], [False, False]])
            weight = x.abs()
        y, _ = self.attention(x, x, x, attn_mask=mask, need_weights=False)
        return y, F.binary_cross_entropy_with_logits(x, torch.ones(2, 4), weight)


@case(POS, NEG)
class RecurrentModuleWithOptionalState(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.cell = nn.GRU(4, 4), nn.RNNCell(4, 4)

    def forward(self, x):
        state = None
        if x.sum() > 0:
            state = torch.ones(1, 4)
        y, last = self.rnn(x, state)
        return y, self.cell(last, state)
