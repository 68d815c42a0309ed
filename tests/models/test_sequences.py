"""Recurrent, attentive and convolutional text models in plain PyTorch through the engine."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from tests.models.zoo import Draw, Model, check  # noqa: E402

V, C = 31, 16
STEPS = ({"N": 1, "T": 7, "S": 5}, {"N": 3, "T": 12, "S": 9})
TOKENS, WORDS = Draw(("N", "T", C)), Draw(("N", "T"), high=V)
LETTERS = Draw(("N", "T", 6), high=V)
PADDED = Draw(("N", "T"), mask=True)


class Tagger(nn.Module):
    """Two layers in both directions, states given: f32[N,T,C], f32[4,N,8] -> f32[N,T,5]."""

    def __init__(self, kind: type[nn.Module] = nn.LSTM):
        super().__init__()
        self.rnn = kind(C, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        start = (h, h * 0.5) if isinstance(self.rnn, nn.LSTM) else h
        y, last = self.rnn(x, start)
        return self.head(y), last[0] if isinstance(last, tuple) else last


class LanguageModel(nn.Module):
    """Time first, tied weights: i64[N,T] -> f32[T,N,V]."""

    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(V, C), nn.LSTM(C, C, num_layers=2, dropout=0.2)
        self.head = nn.Linear(C, V)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return F.log_softmax(self.head(self.rnn(self.embed(ids).transpose(0, 1))[0]), -1)


class Steps(nn.Module):
    """A cell in a loop over a constant length: f32[N,5,C] -> f32[N,5,8]."""

    def __init__(self, kind: type[nn.Module] = nn.LSTMCell):
        super().__init__()
        self.cell = kind(C, 8)

    def forward(self, x: Tensor) -> Tensor:
        state, found = None, []
        for step in x.unbind(1):
            state = self.cell(step, state)
            found.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(found, 1)


class Projected(nn.Module):
    """The last state of a plain RNN, relu: f32[N,T,C] -> f32[N,3]."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = (
            nn.RNN(C, 8, 2, nonlinearity="relu", batch_first=True),
            nn.Linear(8, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[1][-1])


class Encoder(nn.Module):
    """``nn.TransformerEncoder`` that ignores padding: f32[N,T,C], bool[N,T] -> f32[N,T,C]."""

    def __init__(self, norm_first: bool = False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            C, 4, 32, batch_first=True, norm_first=norm_first, activation="gelu"
        )
        self.body = nn.TransformerEncoder(
            layer, 2, norm=nn.LayerNorm(C), enable_nested_tensor=not norm_first
        )

    def forward(self, x: Tensor, padded: Tensor) -> Tensor:
        padded = padded & (torch.arange(x.shape[1]) > 0)
        return self.body(x, src_key_padding_mask=padded)


class Causal(nn.Module):
    """A decoder-only stack of ``nn.TransformerEncoderLayer``: i64[N,T] -> f32[N,T,V]."""

    def __init__(self):
        super().__init__()
        self.embed, self.place = nn.Embedding(V, C), nn.Embedding(32, C)
        layer = nn.TransformerEncoderLayer(C, 2, 32, batch_first=True, norm_first=True)
        self.body, self.head = (
            nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            nn.Linear(C, V),
        )

    def forward(self, ids: Tensor) -> Tensor:
        t = ids.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(t)
        x = self.embed(ids) + self.place(torch.arange(t))
        return self.head(self.body(x, mask=mask, is_causal=True))


class Heads(nn.Module):
    """``nn.MultiheadAttention`` with masks: f32[N,T,C], f32[N,S,C] -> f32[N,T,C] (and weights)."""

    def __init__(self, need_weights: bool, each: bool = False):
        super().__init__()
        self.need_weights, self.each = need_weights, each
        self.attend = nn.MultiheadAttention(C, 4, batch_first=True)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor | None, ...]:
        t, s = x.shape[1], y.shape[1]
        near = (torch.arange(t)[:, None] - torch.arange(s)[None, :]).abs() > 3
        near[:, 0] = False
        return self.attend(
            x, y, y, attn_mask=near, need_weights=self.need_weights,
            average_attn_weights=not self.each,
        )  # fmt: skip


class Translate(nn.Module):
    """Bahdanau's attention over a GRU encoder, forced: i64[N,T], i64[N,4] -> f32[N,4,V]."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, C)
        self.encoder = nn.GRU(C, C, batch_first=True, bidirectional=True)
        self.bridge, self.cell = nn.Linear(2 * C, C), nn.GRUCell(3 * C, C)
        self.query, self.key, self.score = nn.Linear(C, 8), nn.Linear(2 * C, 8), nn.Linear(8, 1)
        self.head = nn.Linear(3 * C, V)

    def forward(self, ids: Tensor, target: Tensor) -> Tensor:
        memory, last = self.encoder(self.embed(ids))
        h = torch.tanh(self.bridge(torch.cat([last[0], last[1]], -1)))
        keys, found = self.key(memory), []
        for word in self.embed(target).unbind(1):
            energy = self.score(torch.tanh(keys + self.query(h)[:, None]))
            context = (F.softmax(energy, 1) * memory).sum(1)
            h = self.cell(torch.cat([word, context], -1), h)
            found.append(self.head(torch.cat([h, context], -1)))
        return torch.stack(found, 1)


class Pointer(nn.Module):
    """Picks three places of its input, each once: f32[N,T,C] -> i64[N,3], f32[N,3,T]."""

    def __init__(self):
        super().__init__()
        self.encoder, self.cell = nn.LSTM(C, C, batch_first=True), nn.LSTMCell(C, C)
        self.key, self.query = nn.Linear(C, C), nn.Linear(C, C)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        memory, (h, c) = self.encoder(x)
        h, c, given = h[0], c[0], x.mean(1)
        taken = torch.zeros(x.shape[:2], dtype=torch.bool)
        places, scores = [], []
        for _ in range(3):
            h, c = self.cell(given, (h, c))
            score = (torch.tanh(self.key(memory) + self.query(h)[:, None])).sum(-1)
            score = score.masked_fill(taken, float("-inf"))
            place = score.argmax(-1)
            taken = taken.scatter(1, place[:, None], True)
            given = memory.gather(1, place[:, None, None].expand(-1, 1, C))[:, 0]
            places.append(place)
            scores.append(F.softmax(score, -1))
        return torch.stack(places, 1), torch.stack(scores, 1)


class Memory(nn.Module):
    """An end-to-end memory network of three hops: i64[N,T,6], i64[N,6] -> f32[N,V]."""

    def __init__(self):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(V, C, padding_idx=0) for _ in range(4))

    def forward(self, story: Tensor, question: Tensor) -> Tensor:
        u = self.tables[0](question).sum(1)
        for near, next_ in zip(self.tables, list(self.tables)[1:]):
            weights = F.softmax(torch.einsum("ntc,nc->nt", near(story).sum(2), u), -1)
            u = u + torch.einsum("nt,ntc->nc", weights, next_(story).sum(2))
        return u @ self.tables[-1].weight.T


class Viterbi(nn.Module):
    """The best path of a chain over a constant length: f32[N,6,4] -> i64[N,6], f32[N]."""

    def __init__(self):
        super().__init__()
        self.moves = nn.Parameter(torch.randn(4, 4))

    def forward(self, emitted: Tensor) -> tuple[Tensor, Tensor]:
        score, back = emitted[:, 0], []
        for t in range(1, emitted.shape[1]):
            best, from_ = (score[:, :, None] + self.moves).max(1)
            score = best + emitted[:, t]
            back.append(from_)
        total, tag = score.max(-1)
        path = [tag]
        for from_ in reversed(back):
            tag = from_.gather(1, tag[:, None])[:, 0]
            path.append(tag)
        return torch.stack(path[::-1], 1), total


class Letters(nn.Module):
    """Words by their letters, several widths: i64[N,T,6] -> f32[N,T,12]."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, 8)
        self.convs = nn.ModuleList(nn.Conv1d(8, 4, k) for k in (2, 3, 4))

    def forward(self, letters: Tensor) -> Tensor:
        n, t, k = letters.shape
        x = self.embed(letters.view(n * t, k)).transpose(1, 2)
        parts = [F.max_pool1d(F.relu(c(x)), k - c.kernel_size[0] + 1) for c in self.convs]
        return torch.cat(parts, 1).view(n, t, -1)


class Elmo(nn.Module):
    """Letters, then two directions apart, their layers mixed: i64[N,T,6] -> f32[N,T,24]."""

    def __init__(self):
        super().__init__()
        self.letters = Letters()
        self.ahead = nn.ModuleList(nn.LSTM(12, 12, batch_first=True) for _ in range(2))
        self.back = nn.ModuleList(nn.LSTM(12, 12, batch_first=True) for _ in range(2))
        self.mix, self.scale = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(()))

    def forward(self, letters: Tensor) -> Tensor:
        x = y = self.letters(letters)
        layers = [torch.cat([x, y], -1)]
        for ahead, back in zip(self.ahead, self.back):
            x, y = ahead(x)[0] + x, back(y.flip(1))[0].flip(1) + y
            layers.append(torch.cat([x, y], -1))
        weights = F.softmax(self.mix, 0)
        return self.scale * sum(w * layer for w, layer in zip(weights, layers))


class FastText(nn.Module):
    """A bag of words: i64[N,T] -> f32[N,3]."""

    def __init__(self, mode: str = "mean"):
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(V, C, mode=mode), nn.Linear(C, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.bag(ids))


class TextCNN(nn.Module):
    """Kim's convolutions, each pooled over all of the text: i64[N,T] -> f32[N,3]."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, C)
        self.convs = nn.ModuleList(nn.Conv2d(1, 4, (k, C)) for k in (2, 3, 4))
        self.head = nn.Linear(12, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)[:, None]
        found = [F.relu(conv(x)).squeeze(3) for conv in self.convs]
        return self.head(torch.cat([F.max_pool1d(y, y.size(2)).squeeze(2) for y in found], 1))


class Hierarchy(nn.Module):
    """Words to sentences to a document, with attention: i64[N,T,6] -> f32[N,3]."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, C)
        self.words = nn.GRU(C, 8, batch_first=True, bidirectional=True)
        self.lines = nn.GRU(C, 8, batch_first=True, bidirectional=True)
        self.scores = nn.ModuleList(nn.Linear(C, 1) for _ in range(2))
        self.head = nn.Linear(C, 3)

    def forward(self, story: Tensor) -> Tensor:
        n, t, k = story.shape
        y, _ = self.words(self.embed(story.reshape(n * t, k)))
        lines = (F.softmax(self.scores[0](y), 1) * y).sum(1).view(n, t, C)
        y, _ = self.lines(lines)
        return self.head((F.softmax(self.scores[1](y), 1) * y).sum(1))


def steps(make, **inputs: Draw) -> Model:
    return Model(make, inputs, STEPS)


STATES = Draw((4, "N", 8))
MODELS = {
    "bilstm": steps(Tagger, x=TOKENS, h=STATES),
    "bigru": steps(lambda: Tagger(nn.GRU), x=TOKENS, h=STATES),
    "birnn": steps(lambda: Tagger(nn.RNN), x=TOKENS, h=STATES),
    "language model": steps(LanguageModel, ids=WORDS),
    "lstm cells": steps(Steps, x=Draw(("N", 5, C))),
    "gru cells": steps(lambda: Steps(nn.GRUCell), x=Draw(("N", 5, C))),
    "last state": steps(Projected, x=TOKENS),
    "encoder": steps(Encoder, x=TOKENS, padded=PADDED),
    "encoder norm first": steps(lambda: Encoder(True), x=TOKENS, padded=PADDED),
    "causal": steps(Causal, ids=WORDS),
    "heads": steps(lambda: Heads(False), x=TOKENS, y=Draw(("N", "S", C))),
    "heads weights": steps(lambda: Heads(True), x=TOKENS, y=Draw(("N", "S", C))),
    "heads each": steps(lambda: Heads(True, True), x=TOKENS, y=Draw(("N", "S", C))),
    "translate": steps(Translate, ids=WORDS, target=Draw(("N", 4), high=V)),
    "pointer": steps(Pointer, x=TOKENS),
    "memory": steps(Memory, story=LETTERS, question=Draw(("N", 6), high=V)),
    "viterbi": steps(Viterbi, emitted=Draw(("N", 6, 4))),
    "letters": steps(Letters, letters=LETTERS),
    "elmo": steps(Elmo, letters=LETTERS),
    "fasttext": steps(FastText, ids=WORDS),
    "fasttext sum": steps(lambda: FastText("sum"), ids=WORDS),
    "fasttext max": steps(lambda: FastText("max"), ids=WORDS),
    "text cnn": steps(TextCNN, ids=WORDS),
    "hierarchy": steps(Hierarchy, story=LETTERS),
}
QUICK = ("bilstm", "heads weights", "viterbi", "text cnn", "fasttext")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in MODELS]
)
def test_engine_equals_eager(name):
    check(MODELS[name], checked=True)
