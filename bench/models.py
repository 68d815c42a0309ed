"""The models of the table: real architectures, random weights, batch 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Case:
    """A model and its example; ``make`` returns (module, positional arguments)."""

    name: str
    make: Callable[[], tuple[nn.Module, tuple[torch.Tensor, ...]]]


class First(nn.Module):
    """The first tensor that a Hugging Face model returns."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x, return_dict=False)[0]


class LanguageModel(nn.Module):
    """Two LSTM layers of 200 over 20 sequences of 35 words, vocabulary 10,000."""

    def __init__(self, words: int = 10_000, width: int = 200) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, width, 2)
        self.decoder = nn.Linear(width, words)

    def forward(self, tokens):
        hidden, _ = self.lstm(self.embedding(tokens))
        return self.decoder(hidden)


def _image(make: Callable[[], nn.Module]) -> Callable[[], Any]:
    return lambda: (First(make()), (torch.randn(1, 3, 224, 224),))


def _text(make: Callable[[], nn.Module], words: int) -> Callable[[], Any]:
    return lambda: (First(make()), (torch.randint(0, words, (1, 128)),))


def resnet50() -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(num_labels=1000))


def mobilenet_v2() -> nn.Module:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    config = MobileNetV2Config(num_labels=1000, tf_padding=False)
    return MobileNetV2ForImageClassification(config)


def bert_base() -> nn.Module:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig())


def vit_base() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(num_labels=1000))


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(use_cache=False))


CASES = [
    Case("ResNet-50", _image(resnet50)),
    Case("MobileNetV2", _image(mobilenet_v2)),
    Case("BERT-base s128", _text(bert_base, 30_522)),
    Case("ViT-B/16", _image(vit_base)),
    Case("GPT-2 s128", _text(gpt2, 50_257)),
    Case("LSTM LM", lambda: (LanguageModel(), (torch.randint(0, 10_000, (35, 20)),))),
]
