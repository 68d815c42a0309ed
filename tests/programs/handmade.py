"""Decoders, detectors and experts without a library: caches that grow, masks between sizes, objects
that are replaced, pieces whose sizes data decide.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

PROGRAMS: dict[str, Any] = {}


def program(make: Any) -> Any:
    """``make() -> (callable, [arguments of a call, ...])``"""
    PROGRAMS[make.__name__] = make
    return make


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Attention(nn.Module):
    """Over what is kept and what is new, which sees what is before it."""

    def __init__(self, width=8, heads=2):
        super().__init__()
        self.heads, self.joint, self.out = (
            heads,
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )

    def forward(self, x, kept=None):
        batch, steps, width = x.shape
        q, k, v = (
            y.view(batch, steps, self.heads, width // self.heads).transpose(1, 2)
            for y in self.joint(x).chunk(3, -1)
        )
        if kept is not None:
            k, v = torch.cat([kept[0], k], 2), torch.cat([kept[1], v], 2)
        whole = k.shape[2]
        mask = torch.ones(steps, whole, dtype=torch.bool).tril(whole - steps)
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // self.heads)
        y = scores.masked_fill(~mask, -1e9).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, steps, width)), (k, v)


class Decoder(nn.Module):
    def __init__(self, words=11, width=8):
        super().__init__()
        torch.manual_seed(7)
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(32, width)
        self.blocks = nn.ModuleList(Attention(width) for _ in range(2))
        self.head = nn.Linear(width, words)

    def step(self, ids, kept, start):
        x = self.words(ids) + self.places(torch.arange(start, start + ids.shape[1]))
        made = []
        for block, own in zip(self.blocks, kept or [None, None]):
            y, pair = block(x, own)
            x = x + y
            made.append(pair)
        return self.head(x)[:, -1] * 3, made


def prompts(*shapes):
    return [(torch.arange(n * k).reshape(n, k) * 5 % 11,) for n, k in shapes]


@program
def greedy_growing_cache():
    model = Decoder()

    def decode(ids):
        kept, start, new, out = None, 0, ids, ids
        for _ in range(6):
            logits, kept = model.step(new, kept, start)
            start += new.shape[1]
            new = logits.argmax(-1, keepdim=True)
            out = torch.cat([out, new], 1)
            if (new == 3).all():
                break
        else:
            return out, False
        return out, True

    return decode, prompts((1, 3), (1, 4), (2, 5), (1, 1))


@program
def beam_growing_cache():
    model = Decoder()

    def decode(ids):
        logits, kept = model.step(ids, None, 0)
        scores, new = logits.log_softmax(-1)[0].topk(3)
        kept = [(k.expand(3, -1, -1, -1), v.expand(3, -1, -1, -1)) for k, v in kept]
        rows, start, best = new[:, None], ids.shape[1], -float("inf")
        for i in range(5):
            logits, kept = model.step(rows[:, -1:], kept, start)
            start += 1
            total = scores[:, None] + logits.log_softmax(-1)
            end = total[:, 3].max() / (i + 2)
            best = end if end > best else best
            total[:, 3] = -1e9
            scores, flat = total.view(-1).topk(3)
            kept = [(k[flat // 11], v[flat // 11]) for k, v in kept]
            rows = torch.cat((rows[flat // 11], (flat % 11)[:, None]), dim=1)
            if scores[0] < best * (i + 2):
                break
        return rows, scores, best

    return decode, prompts((1, 2), (1, 4), (1, 3))


@program
def tacotron_replaced_state():
    torch.manual_seed(3)
    cell, words, query = nn.GRUCell(8, 6), nn.Embedding(9, 4), nn.Linear(6, 4)
    head = nn.Linear(10, 9)

    @dataclasses.dataclass
    class State:
        h: torch.Tensor
        context: torch.Tensor
        step: int = 0
        done: bool = False

    def decode(memory):
        state, token, tokens = State(torch.zeros(6), memory.mean(0)), torch.tensor(0), []
        while not state.done:
            h = cell(torch.cat([words(token), state.context]), state.h)
            context = torch.softmax(memory @ query(h), 0) @ memory
            state = dataclasses.replace(state, h=h, context=context, step=state.step + 1)
            token = (head(torch.cat([state.h, state.context])) * 5).argmax()
            tokens.append(int(token))
            state.done = bool(token == 1) or state.step >= 7
        return tokens, state.h, state.step

    return decode, [(drawn(n, 4, seed=n),) for n in (3, 5, 1)]


@program
def rnnt_padded_batch():
    torch.manual_seed(1)
    encoder, words, cell = nn.Linear(4, 6), nn.Embedding(6, 6), nn.GRUCell(6, 6)
    joint = nn.Linear(6, 6)

    def one(frames, length):
        found, h = torch.zeros(0, dtype=torch.long), cell(words.weight[:1], torch.zeros(1, 6))
        for t in range(int(length)):
            for _ in range(2):
                token = (joint((frames[t] + h[0]).tanh()) * 4).argmax()
                if token == 0:
                    break
                found = torch.cat([found, token[None]])
                h = cell(words(token[None]), h)
        return found

    def decode(x, lengths):
        frames = encoder(x)
        rows = [one(frames[i], lengths[i]) for i in range(2)]
        return pad_sequence(rows, batch_first=True, padding_value=-1)

    given = (((4, 2), 4, 0), ((5, 6), 6, 1), ((0, 3), 3, 2))
    return decode, [(drawn(2, n, 4, seed=s), torch.tensor(length)) for length, n, s in given]


def overlap(a, b):
    low, high = torch.maximum(a[:, None, :2], b[:, :2]), torch.minimum(a[:, None, 2:], b[:, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).clamp(min=0).prod(-1) for x in (a, b)]
    return both / (areas[0][:, None] + areas[1] - both + 1e-9)


def boxes(n):
    corner = drawn(n, 2, seed=n).abs() * 2
    return torch.cat([corner, corner + drawn(n, 2, seed=n + 50).abs() + 0.5], 1), drawn(n, seed=n)


@program
def nms_kept_mask():
    def kept(places, scores):
        order = scores.argsort(descending=True)
        over = overlap(places[order], places[order]) > 0.3
        alive = torch.ones(len(order), dtype=torch.bool)
        for i in range(len(order)):
            if alive[i]:
                alive[i + 1 :] &= ~over[i, i + 1 :]
        return order[alive]

    return kept, [boxes(n) for n in (5, 7, 1, 9)]


@program
def nms_soft_swapped():
    def weighed(places, scores):
        places, scores = places.clone(), scores.sigmoid()
        for i in range(len(places)):
            k = i + int(scores[i:].argmax())
            places[[i, k]], scores[[i, k]] = places[[k, i]], scores[[k, i]]
            if i + 1 < len(places):
                over = overlap(places[i : i + 1], places[i + 1 :])[0]
                scores[i + 1 :] *= torch.exp(-over * over / 0.5)
        return places, scores, int((scores > 0.2).sum())

    return weighed, [boxes(n) for n in (4, 6, 1, 9)]


@program
def moe_joined_pieces():
    torch.manual_seed(2)
    gate, experts = nn.Linear(6, 3), [nn.Linear(6, 6) for _ in range(3)]

    def mixed(x):
        top = gate(x).argmax(-1)
        order = top.argsort(stable=True)
        parts = x[order].split([int((top == i).sum()) for i in range(3)])
        y = torch.cat([F.silu(expert(part)) for expert, part in zip(experts, parts)])
        return x + torch.zeros_like(x).index_copy(0, order, y)

    return mixed, [(drawn(n, 6, seed=n),) for n in (4, 7, 1, 11)]


@program
def tree_own_forward():
    class Tree(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(4)
            self.leaf, self.joint = nn.Linear(4, 6), nn.Linear(12, 6)

        def forward(self, left, right, x, i):
            if left[i] < 0:
                return torch.tanh(self.leaf(x[i])), 1
            a, m = self.forward(left, right, x, left[i])
            b, n = self.forward(left, right, x, right[i])
            return torch.tanh(self.joint(torch.cat([a, b]))), m + n + 1

    trees = (([-1, -1, 0], [-1, -1, 1]), ([-1, -1, 0, -1, 2], [-1, -1, 1, -1, 3]), ([-1], [-1]))
    calls = [
        (torch.tensor(a), torch.tensor(b), drawn(len(a), 4, seed=len(a)), torch.tensor(len(a) - 1))
        for a, b in trees
    ]
    return Tree(), calls
