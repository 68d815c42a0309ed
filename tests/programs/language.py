"""Decoding loops over small Hugging Face models with random weights."""

from __future__ import annotations

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from tests.programs.models import Made


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(11)
    config = GPT2Config(
        vocab_size=29, n_positions=64, n_embd=32, n_layer=2, n_head=2, attn_implementation="eager",
        bos_token_id=1, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


class Greedy(nn.Module):
    """The most likely token after token, with a growing cache, until the end token."""

    def __init__(self, model, end=0):
        super().__init__()
        self.model, self.end = model, end

    def forward(self, tokens, limit):
        out = self.model(tokens, use_cache=True)
        cache = out.past_key_values
        token = out.logits[:, -1:].argmax(-1)
        n = 1
        while n < limit and bool((token != self.end).any()):
            tokens = torch.cat([tokens, token], 1)
            out = self.model(token, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            token = out.logits[:, -1:].argmax(-1)
            n += 1
        return torch.cat([tokens, token], 1)


def greedy() -> Made:
    starts = ([[3, 7, 9]], [[5, 5, 5]], [[1, 2, 3]])
    return Greedy(gpt2()), [(torch.tensor(s), torch.tensor(n)) for s, n in zip(starts, (5, 9, 1))]


class Beam(nn.Module):
    """Beam search without a cache: the best of ``width`` continuations at every step."""

    def __init__(self, model, width=3, end=0):
        super().__init__()
        self.model, self.width, self.end = model, width, end

    def forward(self, tokens, limit):
        logits = self.model(tokens, use_cache=False).logits[:, -1]
        words = logits.shape[-1]
        scores, first = logits.log_softmax(-1).topk(self.width, -1)
        beams = torch.cat([tokens.expand(self.width, -1), first.reshape(-1, 1)], 1)
        scores = scores.reshape(-1)
        n = 1
        while n < limit:
            if bool((beams[:, -1] == self.end).all()):
                break
            step = self.model(beams, use_cache=False).logits[:, -1].log_softmax(-1)
            total = (scores.unsqueeze(1) + step).reshape(-1)
            scores, picks = total.topk(self.width)
            parent = torch.div(picks, words, rounding_mode="floor")
            beams = torch.cat([beams[parent], (picks % words).unsqueeze(1)], 1)
            n += 1
        return beams, scores


def beam() -> Made:
    starts = ([[3, 7, 9]], [[5, 5, 5]])
    return Beam(gpt2()), [(torch.tensor(s), torch.tensor(n)) for s, n in zip(starts, (4, 6))]


class Sample(Greedy):
    """Sampling by Gumbel noise that is given (Maddison, 2014), at a temperature."""

    def forward(self, tokens, noise, temperature):
        out = self.model(tokens, use_cache=True)
        cache = out.past_key_values
        token = (out.logits[:, -1] / temperature + noise[0]).argmax(-1, keepdim=True)
        n = 1
        while n < noise.shape[0] and token.item() != self.end:
            tokens = torch.cat([tokens, token], 1)
            out = self.model(token, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            token = (out.logits[:, -1] / temperature + noise[n]).argmax(-1, keepdim=True)
            n += 1
        return tokens


class SampleAlone(Greedy):
    """Sampling at a temperature, the noise drawn by the model."""

    def forward(self, tokens, limit, temperature):
        out = self.model(tokens, use_cache=True)
        cache = out.past_key_values
        token = torch.multinomial((out.logits[:, -1] / temperature).softmax(-1), 1)
        n = 1
        while n < limit and token.item() != self.end:
            tokens = torch.cat([tokens, token], 1)
            out = self.model(token, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            token = torch.multinomial((out.logits[:, -1] / temperature).softmax(-1), 1)
            n += 1
        return tokens


def sample_alone() -> Made:
    torch.manual_seed(12)
    start, limit = torch.tensor([[3, 7, 9]]), torch.tensor(8)
    return SampleAlone(gpt2()), [(start, limit, torch.tensor(t)) for t in (0.5, 1.0, 3.0)]


def sample() -> Made:
    torch.manual_seed(12)
    gumbel = lambda: -torch.log(-torch.log(torch.rand(8, 1, 29)))  # noqa: E731
    start = torch.tensor([[3, 7, 9]])
    return Sample(gpt2()), [(start, gumbel(), torch.tensor(t)) for t in (0.5, 1.0, 3.0)]


class Translate(nn.Module):
    """T5: the encoder once, the decoder token by token with its caches."""

    def __init__(self, model, end=1):
        super().__init__()
        self.model, self.end = model, end

    def forward(self, source, limit):
        encoded = self.model.encoder(source)
        token = torch.zeros(source.shape[0], 1, dtype=torch.long)
        out = self.model(encoder_outputs=encoded, decoder_input_ids=token, use_cache=True)
        cache = out.past_key_values
        token = out.logits[:, -1:].argmax(-1)
        tokens = token
        n = 1
        while n < limit and bool((token != self.end).any()):
            out = self.model(
                encoder_outputs=encoded,
                decoder_input_ids=token,
                past_key_values=cache,
                use_cache=True,
            )
            cache = out.past_key_values
            token = out.logits[:, -1:].argmax(-1)
            tokens = torch.cat([tokens, token], 1)
            n += 1
        return tokens


def translate() -> Made:
    torch.manual_seed(13)
    config = T5Config(
        vocab_size=31, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config).eval()
    sources = ([[3, 7, 9, 1]], [[5, 8, 11, 1]])
    return Translate(model), [(torch.tensor(s), torch.tensor(n)) for s, n in zip(sources, (5, 8))]


MAKERS = {"greedy": greedy, "beam": beam, "sample": sample, "translate": translate}
