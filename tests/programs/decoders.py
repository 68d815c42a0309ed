"""Greedy and beam search of small GPT-2 and T5, written in several styles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

PROGRAMS: dict[str, Any] = {}


def program(make: Any) -> Any:
    """``make() -> (callable, [arguments of a call, ...])``"""
    PROGRAMS[make.__name__] = make
    return make


def gpt2(seed=0):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    return GPT2LMHeadModel(
        GPT2Config(
            n_layer=2, n_head=2, n_embd=32, vocab_size=61, n_positions=64, initializer_range=0.4
        )
    ).eval()


def t5(seed=0):
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    return T5ForConditionalGeneration(
        T5Config(
            d_model=32,
            d_kv=16,
            d_ff=48,
            num_layers=1,
            num_heads=2,
            vocab_size=61,
            decoder_start_token_id=0,
            pad_token_id=0,
            initializer_factor=3.0,
        )
    ).eval()


def prompts(*sizes, batch=1, high=60):
    g = torch.Generator().manual_seed(7)
    return [(torch.randint(2, high, (batch, n), generator=g),) for n in sizes]


@program
def gpt2_greedy_list():
    """A list of tokens, an early return at the end token."""
    model, end = gpt2(), 5

    def decode(ids):
        out = model(ids, use_cache=True)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        tokens = [ids, token]
        for _ in range(9):
            if (token == end).all():
                return torch.cat(tokens, 1)
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            tokens.append(token)
        return torch.cat(tokens, 1)

    return decode, prompts(4, 4, 6, 3, 9)


@program
def gpt2_greedy_generator():
    """Tokens come out of a generator until the margin is small."""
    model = gpt2(1)

    def tokens(ids, limit):
        cache, current = None, ids
        while True:
            out = model(current, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            best, index = out.logits[0, -1].topk(2)
            yield index[0]
            if best[0] - best[1] < limit:
                return
            current = index[:1][None]

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, ids, limit):
            found = []
            for i, token in enumerate(tokens(ids, limit)):
                found.append(token)
                if i == 11:
                    break
            return torch.stack(found), len(found)

    limits = [torch.tensor(v) for v in (0.5, 2.0, 0.1, 3.0, 1.0)]
    return Decoder().eval(), [(p[0], v) for p, v in zip(prompts(4, 5, 3, 7, 8), limits)]


@program
def gpt2_greedy_buffer():
    """Batch of prompts, a preallocated buffer, unfinished rows as a mask, dataclass state."""
    model, end, most = gpt2(2), 7, 8

    @dataclass
    class Run:
        buffer: torch.Tensor
        alive: torch.Tensor
        cache: object
        filled: int = 0

        def step(self, current):
            out = model(current, past_key_values=self.cache, use_cache=True)
            self.cache = out.past_key_values
            token = torch.where(self.alive, out.logits[:, -1].argmax(-1), torch.tensor(0))
            self.buffer[:, self.filled] = token
            self.filled += 1
            self.alive = self.alive & (token != end)
            return token[:, None]

    def decode(ids):
        run = Run(
            torch.full((ids.shape[0], most), -1), torch.ones(ids.shape[0], dtype=torch.bool), None
        )
        current = run.step(ids)
        while run.filled < most and run.alive.any():
            current = run.step(current)
        return run.buffer[:, : run.filled], run.alive

    g = torch.Generator().manual_seed(3)
    return decode, [
        (torch.randint(2, 60, s, generator=g),) for s in ((2, 4), (2, 4), (3, 5), (1, 6), (4, 3))
    ]


@program
def gpt2_beam_reorder():
    """Beams are a batch; the cache is reordered at each step."""
    model, width, end = gpt2(3), 3, 11

    def decode(ids):
        out = model(ids.expand(width, -1), use_cache=True)
        logp = out.logits[:1, -1].log_softmax(-1)
        scores, token = logp.topk(width)
        scores, token = scores[0], token[0]
        seqs = token[:, None]
        cache = out.past_key_values
        step = 0
        while step < 7 and not bool((seqs[0] == end).any()):
            out = model(seqs[:, -1:], past_key_values=cache, use_cache=True)
            logp = out.logits[:, -1].log_softmax(-1) + scores[:, None]
            scores, flat = logp.view(-1).topk(width)
            beam, token = flat // logp.shape[1], flat % logp.shape[1]
            cache = out.past_key_values
            cache.reorder_cache(beam)
            seqs = torch.cat([seqs[beam], token[:, None]], 1)
            step += 1
        return seqs, scores

    return decode, prompts(4, 4, 6, 3, 8)


@program
def gpt2_beam_hypotheses():
    """Finished hypotheses go to a list of named tuples; the best of them by length."""
    model, width, end = gpt2(4), 2, 3

    class Hypothesis(NamedTuple):
        score: torch.Tensor
        tokens: torch.Tensor

    class Beam(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def expand(self, tokens, scores, cache):
            out = self.model(tokens, past_key_values=cache, use_cache=True)
            return out.logits[:, -1].log_softmax(-1) + scores[:, None], out.past_key_values

        def forward(self, ids):
            done = []
            total, cache = self.expand(ids.repeat(width, 1), torch.tensor([0.0, -1e9]), None)
            rows = torch.zeros(width, 0, dtype=torch.long)
            for _ in range(6):
                best, flat = total.flatten().topk(2 * width)
                beam, token = flat.div(total.shape[1], rounding_mode="floor"), flat % total.shape[1]
                is_end = token == end
                for k in range(2 * width):
                    if is_end[k]:
                        done.append(Hypothesis(best[k] / (rows.shape[1] + 1), rows[beam[k]]))
                keep = (best.masked_fill(is_end, -1e9)).topk(width).indices
                beam, token, scores = beam[keep], token[keep], best[keep]
                rows = torch.cat((rows[beam], token[:, None]), 1)
                if len(done) >= width:
                    break
                cache.reorder_cache(beam)
                total, cache = self.expand(token[:, None], scores, cache)
            if not done:
                return rows[0], scores[0] / rows.shape[1]
            best = done[0]
            for h in done[1:]:
                if h.score > best.score:
                    best = h
            return best.tokens, best.score

    return Beam().eval(), prompts(4, 5, 3, 7, 9)


@program
def t5_greedy_state():
    """The encoder runs once; a NamedTuple is the state, which may hold no cache."""
    model, end = t5(), 1

    class State(NamedTuple):
        token: torch.Tensor
        cache: object
        finished: torch.Tensor

    def step(state, encoded, mask):
        out = model(
            encoder_outputs=(encoded,), attention_mask=mask, decoder_input_ids=state.token,
            past_key_values=state.cache, use_cache=True,
        )  # fmt: skip
        token = out.logits[:, -1:].argmax(-1).masked_fill(state.finished[:, None], 0)
        return State(token, out.past_key_values, state.finished | (token[:, 0] == end))

    def decode(ids):
        mask = torch.ones_like(ids)
        encoded = model.encoder(ids, attention_mask=mask).last_hidden_state
        n = ids.shape[0]
        state = State(torch.zeros(n, 1, dtype=torch.long), None, torch.zeros(n, dtype=torch.bool))
        tokens = []
        while len(tokens) < 8:
            state = step(state, encoded, mask)
            tokens.append(state.token)
            if state.finished.all():
                break
        return torch.cat(tokens, 1)

    g = torch.Generator().manual_seed(3)
    return decode, [
        (torch.randint(2, 60, s, generator=g),) for s in ((2, 4), (2, 5), (1, 6), (3, 3))
    ]


@program
def t5_greedy_buffer():
    """A buffer with index writes, a class with attributes for what it has so far, early return."""
    model, end = t5(1), 1

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.t5 = model

        def once(self, encoded, buffer, i, cache):
            out = self.t5(encoder_outputs=encoded, decoder_input_ids=buffer[:, i : i + 1],
                          past_key_values=cache, use_cache=True)  # fmt: skip
            buffer[:, i + 1] = out.logits[:, 0].argmax(-1)
            return out.past_key_values

        def forward(self, ids):
            encoded = self.t5.encoder(ids)
            buffer = torch.zeros(ids.shape[0], 10, dtype=torch.long)
            cache = None
            for i in range(9):
                cache = self.once(encoded, buffer, i, cache)
                if buffer[0, i + 1] == end or (i > 2 and buffer[0, i + 1] == buffer[0, i]):
                    return buffer[:, 1 : i + 2]
            return buffer[:, 1:]

    return Decoder().eval(), prompts(4, 6, 3, 9)


@program
def t5_beam_dicts():
    """Each beam is a dict, with tokens and a score; the cache is batched."""
    model, width = t5(2), 3

    def decode(ids, stop):
        encoded = model.encoder(ids.repeat(width, 1)).last_hidden_state
        out = model(encoder_outputs=(encoded,), decoder_input_ids=torch.zeros(width, 1, dtype=torch.long),
                    use_cache=True)  # fmt: skip
        first = out.logits[0, -1].log_softmax(-1).topk(width)
        beams = [{"score": s, "tokens": t[None]} for s, t in zip(first.values, first.indices)]
        cache = out.past_key_values
        for _ in range(6):
            if beams[0]["score"] < stop:
                break
            last = torch.stack([b["tokens"][-1:] for b in beams])
            out = model(
                encoder_outputs=(encoded,),
                decoder_input_ids=last,
                past_key_values=cache,
                use_cache=True,
            )
            logp = out.logits[:, -1].log_softmax(-1)
            total = logp + torch.stack([b["score"] for b in beams])[:, None]
            best = total.reshape(-1).topk(width)
            source = best.indices // logp.shape[-1]
            every = torch.stack([b["tokens"] for b in beams])
            beams = [
                {"score": best.values[k],
                 "tokens": torch.cat([every[source[k]], best.indices[k : k + 1] % logp.shape[-1]])}
                for k in range(width)
            ]  # fmt: skip
            cache = out.past_key_values
            cache.reorder_cache(source)
        return beams[0]["tokens"], torch.stack([b["score"] for b in beams])

    stops = [torch.tensor(v) for v in (-6.0, -3.0, -50.0, -8.0)]
    return decode, [(p[0], s) for p, s in zip(prompts(4, 6, 3, 7), stops)]


@program
def t5_beam_slots():
    """The state is an object with slots that is replaced at each step."""
    model, width, end = t5(3), 2, 4

    @dataclass(slots=True)
    class Beams:
        tokens: torch.Tensor
        scores: torch.Tensor
        done: torch.Tensor

        def advanced(self, logp):
            logp = torch.where(self.done[:, None], torch.full_like(logp, -1e9), logp)
            logp[:, 0] = torch.where(self.done, torch.zeros(width), logp[:, 0])
            total = (self.scores[:, None] + logp).flatten()
            scores, flat = total.topk(width)
            beam, token = flat // logp.shape[1], flat % logp.shape[1]
            made = Beams(torch.cat([self.tokens[beam], token[:, None]], 1), scores,
                         self.done[beam] | (token == end))  # fmt: skip
            return made, beam

    def decode(ids):
        encoded = model.encoder(ids.expand(width, ids.shape[1]))
        beams = Beams(torch.zeros(width, 1, dtype=torch.long), torch.tensor([0.0, -1e9]),
                      torch.zeros(width, dtype=torch.bool))  # fmt: skip
        cache = None
        while beams.tokens.shape[1] < 9 and not beams.done.all():
            out = model(encoder_outputs=encoded, decoder_input_ids=beams.tokens[:, -1:],
                        past_key_values=cache, use_cache=True)  # fmt: skip
            cache = out.past_key_values
            beams, order = beams.advanced(out.logits[:, -1].log_softmax(-1))
            cache.reorder_cache(order)
        return beams.tokens[0], beams.scores

    return decode, prompts(4, 5, 3, 8)
