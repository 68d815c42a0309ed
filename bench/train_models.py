"""Training steps that are timed: each makes ``(module, step, batches)``, seeded by the caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Batch = tuple[torch.Tensor, ...]
Made = tuple[nn.Module, Callable[..., torch.Tensor], list[Batch]]
BATCHES = 4


@dataclass(frozen=True)
class TrainCase:
    """``recurrent`` ones have a floor of their own."""

    name: str
    make: Callable[[], Made]
    recurrent: bool = False
    floor: float = 1.0


class LanguageModel(nn.Module):
    """Zaremba's PTB model: 2 layers of 200, dropout between."""

    def __init__(self, vocabulary: int = 10_000, hidden: int = 200) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, hidden)
        self.rnn = nn.LSTM(hidden, hidden, 2, dropout=0.2)
        self.out = nn.Linear(hidden, vocabulary)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.rnn(self.embed(x))
        return self.out(y)


class Cell(nn.Module):
    """An LSTM cell as tutorials write it."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.x2h, self.h2h = nn.Linear(inputs, 4 * hidden), nn.Linear(hidden, 4 * hidden)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> Any:
        i, f, g, o = (self.x2h(x) + self.h2h(h)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class CellLoop(nn.Module):
    """A language model whose loop over time is Python."""

    def __init__(self, vocabulary: int = 1000, hidden: int = 128) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, hidden)
        self.cell = Cell(hidden, hidden)
        self.out = nn.Linear(hidden, vocabulary)
        self.hidden = hidden

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        e = self.embed(x)
        h = c = e.new_zeros(x.shape[1], self.hidden)
        outputs = []
        for t in range(x.shape[0]):
            h, c = self.cell(e[t], h, c)
            outputs.append(h)
        return self.out(torch.stack(outputs))


class Classifier(nn.Module):
    """A GRU whose last state is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(40, 128, batch_first=True)
        self.out = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[1][-1])


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.skip(x))


def resnet20() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    width = 16
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        for i in range(3):
            layers.append(Block(width, outputs, stride if i == 0 else 1))
            width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84),
        nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape
        parts = self.qkv(x).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*parts, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, c))


class GPTBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """nano: 3 blocks of 48 channels, 3 heads."""

    def __init__(
        self, vocabulary: int = 65, width: int = 48, blocks: int = 3, time: int = 64
    ) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(time, width)
        self.blocks = nn.Sequential(*(GPTBlock(width, 3) for _ in range(blocks)))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(x.shape[1])
        return self.out(self.norm(self.blocks(self.tokens(x) + self.places(places))))


def classes(model: nn.Module, optimizer: torch.optim.Optimizer, clip: float = 0.0) -> Any:
    """A step on ``(x, classes)``."""

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss = F.cross_entropy(model(x).flatten(0, -2), y.flatten())
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def _tokens(vocabulary: int, *shape: int) -> list[Batch]:
    return [
        (torch.randint(vocabulary, shape), torch.randint(vocabulary, shape)) for _ in range(BATCHES)
    ]


def _images(*shape: int) -> list[Batch]:
    return [(torch.randn(shape), torch.randint(10, shape[:1])) for _ in range(BATCHES)]


def _lstm() -> Made:
    model = LanguageModel()
    step = classes(model, torch.optim.SGD(model.parameters(), lr=0.1), clip=5.0)
    return model, step, _tokens(10_000, 35, 20)


def _cell_loop() -> Made:
    model = CellLoop()
    step = classes(model, torch.optim.Adam(model.parameters(), lr=1e-3), clip=5.0)
    return model, step, _tokens(1000, 32, 16)


def _gru() -> Made:
    model = Classifier()
    step = classes(model, torch.optim.Adam(model.parameters(), lr=1e-3))
    return model, step, _images(32, 50, 40)


def _mlp() -> Made:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(),
        nn.Linear(256, 10),
    )  # fmt: skip
    step = classes(model, torch.optim.Adam(model.parameters(), lr=1e-3))
    return model, step, _images(64, 784)


def _lenet() -> Made:
    model = lenet()
    step = classes(model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
    return model, step, _images(64, 1, 28, 28)


def _resnet() -> Made:
    model = resnet20()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    return model, classes(model, optimizer), _images(32, 3, 32, 32)


def _bert() -> Made:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024,
        num_labels=2,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss = F.cross_entropy(model(x).logits, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    batches = [(torch.randint(30522, (8, 64)), torch.randint(2, (8,))) for _ in range(BATCHES)]
    return model, step, batches


def _gpt() -> Made:
    model = GPT()
    step = classes(model, torch.optim.AdamW(model.parameters(), lr=1e-3), clip=1.0)
    return model, step, _tokens(65, 16, 64)


CASES = [
    TrainCase("LSTM LM (2x200, 35x20, 10k)", _lstm, True, 1.3),
    TrainCase("LSTM cell loop (128, 32x16)", _cell_loop, True, 3.0),
    TrainCase("GRU classifier (128, 50x32)", _gru, True, 1.3),
    TrainCase("MLP + Adam", _mlp),
    TrainCase("LeNet", _lenet),
    TrainCase("ResNet-20", _resnet),
    TrainCase("BERT-mini + AdamW", _bert),
    TrainCase("GPT-nano", _gpt),
]
