"""Transducers, attention decoders and samplers, written in several styles."""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.programs.decoders import gpt2, prompts

PROGRAMS: dict[str, Any] = {}


def program(make: Any) -> Any:
    """``make() -> (callable, [arguments of a call, ...])``"""
    PROGRAMS[make.__name__] = make
    return make


class Transducer(nn.Module):
    def __init__(self, seed, blank=0, vocab=12, dim=16):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.GRU(8, dim, batch_first=True)
        self.embed = nn.Embedding(vocab, dim)
        self.cell = nn.LSTMCell(dim, dim)
        self.joint = nn.Sequential(nn.Linear(2 * dim, dim), nn.Tanh(), nn.Linear(dim, vocab))
        self.blank = blank
        for p in self.joint.parameters():
            p.data *= 3

    def predict(self, token, state):
        state = self.cell(self.embed(token), state)
        return state[0], state


@program
def rnnt_methods():
    """Frames in a for loop, symbols in an inner while; the state may be None."""

    class Greedy(Transducer):
        def forward(self, audio):
            frames, _ = self.encoder(audio)
            symbols = []
            state, last = None, None
            for t in range(frames.shape[1]):
                emitted = 0
                while emitted < 3:
                    if last is None:
                        guess, new = self.predict(torch.zeros(1, dtype=torch.long), None)
                    else:
                        guess, new = self.predict(last, state)
                    logits = self.joint(torch.cat([frames[:, t], guess], -1))
                    token = logits.argmax(-1)
                    if token.item() == self.blank:
                        break
                    symbols.append(token)
                    last, state = token, new
                    emitted += 1
            if not symbols:
                return torch.zeros(0, dtype=torch.long)
            return torch.cat(symbols)

    g = torch.Generator().manual_seed(1)
    return Greedy(4).eval(), [(torch.randn(1, n, 8, generator=g) * 2,) for n in (5, 5, 7, 3, 9)]


@program
def rnnt_time_index():
    """One loop, the frame is an index that advances at blanks; a buffer takes the symbols."""
    net = Transducer(5).eval()

    def decode(audio, limit):
        frames, _ = net.encoder(audio)
        buffer = torch.zeros(int(frames.shape[1]) * 4, dtype=torch.long)
        t, n, since = 0, 0, 0
        h, state = net.predict(torch.tensor([0]), None)
        while t < frames.shape[1]:
            logits = net.joint(torch.cat((frames[:, t], h), 1))[0]
            k = int(logits.argmax())
            if k == net.blank or since >= limit:
                t += 1
                since = 0
                continue
            buffer[n] = k
            n += 1
            since += 1
            h, state = net.predict(torch.tensor([k]), state)
        return buffer[:n], n

    g = torch.Generator().manual_seed(2)
    return decode, [(torch.randn(1, n, 8, generator=g) * 2, 2) for n in (4, 6, 3, 8)]


@program
def rnnt_batch_mask():
    """A batch at once, rows at rest by masks; a dataclass holds it all."""
    net = Transducer(6).eval()

    @dataclass
    class Work:
        h: torch.Tensor
        c: torch.Tensor
        text: list
        blank: torch.Tensor

        def keep(self, h, c):
            m = self.blank[:, None]
            return dataclasses.replace(
                self, h=torch.where(m, self.h, h), c=torch.where(m, self.c, c)
            )

    def decode(audio):
        frames, _ = net.encoder(audio)
        n = audio.shape[0]
        h, (_, c) = net.predict(torch.zeros(n, dtype=torch.long), None)
        work = Work(h, c, [], torch.zeros(n, dtype=torch.bool))
        for frame in frames.unbind(1):
            work.blank = torch.zeros(n, dtype=torch.bool)
            rounds = 0
            while not work.blank.all() and rounds < 2:
                token = net.joint(torch.cat([frame, work.h], 1)).argmax(1)
                work.blank = work.blank | (token == net.blank)
                work.text.append(torch.where(work.blank, torch.tensor(-1), token))
                _, (h, c) = net.predict(token, (work.h, work.c))
                work = work.keep(h, c)
                rounds += 1
        return torch.stack(work.text, 1), work.h

    g = torch.Generator().manual_seed(3)
    return decode, [
        (torch.randn(b, n, 8, generator=g) * 2,) for b, n in ((2, 4), (3, 5), (1, 3), (2, 7))
    ]


class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.query, self.memory = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.location = nn.Conv1d(2, dim, 3, padding=1, bias=False)
        self.v = nn.Linear(dim, 1)

    def forward(self, h, memory, weights, total):
        place = self.location(torch.stack([weights, total], 1)).transpose(1, 2)
        energy = self.v(torch.tanh(self.query(h)[:, None] + self.memory(memory) + place))
        new = energy.squeeze(-1).softmax(-1)
        return torch.bmm(new[:, None], memory)[:, 0], new


class Speech(nn.Module):
    def __init__(self, seed, dim=16, mel=6):
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(20, dim)
        self.rnn = nn.LSTMCell(mel + dim, dim)
        self.attend = Attention(dim)
        self.mel = nn.Linear(2 * dim, mel)
        self.stop = nn.Linear(2 * dim, 1)
        self.dim, self.n_mel = dim, mel
        self.stop.weight.data *= 8


@program
def tacotron_attributes():
    """The decoder keeps its state in attributes that each call sets anew."""

    class Tacotron(Speech):
        def start(self, memory):
            n, t, _ = memory.shape
            self.h = self.c = memory.new_zeros(n, self.dim)
            self.weights = memory.new_zeros(n, t)
            self.total = memory.new_zeros(n, t)
            self.context = memory.new_zeros(n, self.dim)

        def step(self, frame, memory):
            self.h, self.c = self.rnn(torch.cat([frame, self.context], -1), (self.h, self.c))
            self.context, self.weights = self.attend(self.h, memory, self.weights, self.total)
            self.total = self.total + self.weights
            both = torch.cat([self.h, self.context], -1)
            return self.mel(both), torch.sigmoid(self.stop(both))

        def forward(self, text):
            memory = self.embed(text)
            self.start(memory)
            frame = memory.new_zeros(text.shape[0], self.n_mel)
            frames, stops, rows = [], [], []
            while True:
                frame, stop = self.step(frame, memory)
                frames += [frame]
                stops += [stop.squeeze(1)]
                rows += [self.weights]
                if torch.sigmoid(stop).min() > 0.6 or len(frames) == 12:
                    break
            return torch.stack(frames, 1), torch.stack(stops, 1), torch.stack(rows, 1)

    g = torch.Generator().manual_seed(5)
    return Tacotron(0).eval(), [
        (torch.randint(0, 20, (1, n), generator=g),) for n in (5, 5, 8, 3, 6)
    ]


@program
def tacotron_slots():
    """A class with slots is the state, its method the step; a deque keeps the last frames."""
    net = Speech(1).eval()

    class State:
        __slots__ = ("c", "context", "h", "total", "weights")

        def __init__(self, memory):
            n, t = memory.shape[:2]
            self.h, self.c = memory.new_zeros(n, net.dim), memory.new_zeros(n, net.dim)
            self.weights, self.total = memory.new_zeros(n, t), memory.new_zeros(n, t)
            self.context = memory.new_zeros(n, net.dim)

        def step(self, frame, memory):
            self.h, self.c = net.rnn(torch.cat([frame, self.context], -1), (self.h, self.c))
            self.context, self.weights = net.attend(self.h, memory, self.weights, self.total)
            self.total = self.total + self.weights
            return torch.cat([self.h, self.context], -1)

    def decode(text, gate):
        memory = net.embed(text)
        state = State(memory)
        recent = deque([memory.new_zeros(len(text), net.n_mel)], maxlen=2)
        out = []
        for _ in range(10):
            both = state.step(sum(recent) / len(recent), memory)
            recent.append(net.mel(both))
            out.append(recent[-1])
            if torch.sigmoid(net.stop(both)).max() > gate:
                break
        return torch.stack(out, 1), state.weights

    g = torch.Generator().manual_seed(6)
    gates = [torch.tensor(v) for v in (0.6, 0.9, 0.5, 0.7)]
    return decode, [
        (torch.randint(0, 20, (2, n), generator=g), v) for n, v in zip((5, 4, 7, 6), gates)
    ]


@program
def tacotron_generator():
    """Frames from a generator that is told the teacher's frame or None."""
    net = Speech(2).eval()

    def frames(memory, first):
        n, t = memory.shape[:2]
        h, c, context = (memory.new_zeros(n, net.dim) for _ in range(3))
        weights, total = memory.new_zeros(n, t), memory.new_zeros(n, t)
        frame = first if first is not None else memory.new_zeros(n, net.n_mel)
        done = torch.zeros(n, dtype=torch.bool)
        while not done.all():
            h, c = net.rnn(torch.cat([frame, context], 1), (h, c))
            context, weights = net.attend(h, memory, weights, total)
            total = total + weights
            both = torch.cat([h, context], 1)
            frame = net.mel(both).masked_fill(done[:, None], 0)
            done = done | (net.stop(both)[:, 0] > 0) | (total.amax(1) > 3)
            yield frame, done

    def decode(text):
        memory = net.embed(text)
        out, flags = [], []
        for frame, done in frames(memory, None):
            out.append(frame)
            flags.append(done)
            if len(out) >= 9:
                break
        return torch.stack(out, 1), torch.stack(flags, 1).logical_not().sum(1)

    g = torch.Generator().manual_seed(7)
    return decode, [
        (torch.randint(0, 20, (b, n), generator=g),) for b, n in ((2, 4), (1, 6), (3, 5), (2, 7))
    ]


@program
def sample_top_p():
    """Nucleus sampling with uniform numbers that are given."""
    model = gpt2(6)

    def pick(logits, u, p):
        probs, order = logits.softmax(-1).sort(descending=True)
        total = probs.cumsum(-1)
        keep = total - probs < p
        probs = torch.where(keep, probs, torch.zeros(()))
        at = torch.searchsorted(probs.cumsum(-1) / probs.sum(), u)
        return order[min(int(at), int(keep.sum()) - 1)]

    def sample(ids, us, p):
        cache, out = None, []
        for u in us:
            found = model(ids, past_key_values=cache, use_cache=True)
            cache = found.past_key_values
            token = pick(found.logits[0, -1], u, p)
            if token < 4:
                break
            out.append(int(token))
            ids = token.reshape(1, 1)
        return torch.tensor(out), len(out)

    g = torch.Generator().manual_seed(8)
    ps = [torch.tensor(v) for v in (0.9, 0.5, 0.7, 0.99)]
    return sample, [
        (i[0], torch.rand(n, generator=g), p)
        for i, n, p in zip(prompts(4, 5, 3, 6), (6, 8, 5, 9), ps)
    ]


@program
def sample_gumbel_repetition():
    """Gumbel noise that is given; tokens that came lately are punished (a deque of tokens)."""
    torch.manual_seed(9)
    table = nn.Embedding(30, 16)
    cell, head = nn.GRUCell(16, 16), nn.Linear(16, 30)
    head.weight.data *= 6

    def sample(start, noise):
        h, token = torch.zeros(1, 16), start
        recent: deque = deque(maxlen=3)
        text, score = [], torch.zeros(())
        for row in noise:
            h = cell(table(token), h)
            logits = head(h)[0]
            for old in recent:
                logits = logits.index_add(0, old, torch.tensor([-2.0]))
            token = (logits + row).argmax(-1, keepdim=True)
            score = score + logits.log_softmax(-1)[token].sum()
            recent.append(token)
            text.append(token)
            if score < -40 or (len(text) > 3 and token in (1, 2, 3)):
                break
        return torch.cat(text), score

    g = torch.Generator().manual_seed(10)
    return sample, [
        (
            torch.randint(0, 30, (1,), generator=g),
            -torch.log(-torch.log(torch.rand(n, 30, generator=g))),
        )
        for n in (7, 9, 5, 12)
    ]


@program
def sample_multinomial():
    """torch.multinomial: the same draws in the static call; another in a Predictor."""
    torch.manual_seed(11)
    table, head = nn.Embedding(20, 12), nn.Linear(12, 20)

    def sample(token, steps, temperature: float = 0.8):
        text = [token]
        while len(text) < steps:
            logits = head(table(text[-1])) / temperature
            kept = logits.topk(5)
            drawn = torch.multinomial(kept.values.softmax(-1), 1)
            text.append(kept.indices.gather(-1, drawn)[:, 0])
            if bool((text[-1] == text[-2]).all()):
                break
        return torch.stack(text, 1)

    g = torch.Generator().manual_seed(12)
    return sample, [
        (torch.randint(0, 20, (b,), generator=g), n) for b, n in ((2, 5), (2, 7), (1, 9), (3, 6))
    ]
