"""Models of a library, as they come: one capture serves batches and lengths, with and without gradients."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch

from oarlock.capture.tape.journal import content, put
from oarlock.capture.to_static import to_static

transformers = pytest.importorskip("transformers")

TEXT = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE = {**TEXT, "intermediate_size": 64}


def text(n: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.randint(3, 90, (n, 6 + n))}


def image(n: int) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(n, 3, 32, 32)}


MODELS = {
    "GPT2LMHeadModel": ("GPT2Config", {"n_layer": 2, "n_head": 2, "n_embd": 32, "vocab_size": 97}, text),
    "LlamaForCausalLM": ("LlamaConfig", {**WIDE, "num_key_value_heads": 1}, text),
    "BertForSequenceClassification": ("BertConfig", WIDE, text),
    "MixtralForCausalLM": ("MixtralConfig", {**WIDE, "num_key_value_heads": 2, "num_local_experts": 4}, text),
    "SwinForImageClassification": (
        "SwinConfig",
        {"image_size": 32, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4},
        image,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_one_capture_serves_all_sizes(name: str):
    config, options, inputs = MODELS[name]
    torch.manual_seed(0)
    model = getattr(transformers, name)(getattr(transformers, config)(**options)).eval()
    for grad in (False, True):
        static = to_static(lambda **given: model(**given).logits)
        with torch.set_grad_enabled(grad):
            for n in (2, 3, 4, 2):
                given = inputs(n)
                assert torch.equal(static(**given), model(**given).logits)
        assert len(static.tapes) == 1 and static.captures <= 2


def test_a_size_that_decides_after_experts_have_been_filled():
    """One token has no causal mask: found in a call that has written to tensors of its own."""
    torch.manual_seed(0)
    options = {**WIDE, "num_key_value_heads": 2, "num_local_experts": 4}
    model = transformers.MixtralModel(transformers.MixtralConfig(**options)).eval()
    static = to_static(lambda x: model(x, use_cache=False).last_hidden_state)
    with torch.no_grad():
        for shape in ((2, 3), (1, 5), (1, 1), (2, 1), (2, 4)):
            x = torch.randint(3, 90, shape)
            assert torch.equal(static(x), model(x, use_cache=False).last_hidden_state)
    assert len(static.tapes) <= 3


def test_a_flag_computed_from_sizes_is_an_argument():
    """A flag computed from sizes goes where torch's parser of arguments wants a plain bool."""

    def f(x):
        many = x.shape[0] > 2
        return torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=many), x.sum(
            0, many
        )

    static = to_static(f)
    for n in (3, 4, 2, 5):
        x = torch.randn(n, n, 4)
        for a, b in zip(static(x), f(x)):
            assert torch.equal(a, b)


class Made(OrderedDict):
    """Gives something new for every item that is asked for."""

    def __getitem__(self, key):
        return object()


def test_the_content_of_a_dict_is_what_it_holds():
    made = Made(a=1, b=2)
    made.move_to_end("a")
    before = content(made)
    assert before == {"a": 1, "b": 2} and list(before) == ["b", "a"]
    OrderedDict.__setitem__(made, "c", 3)
    put(made, before)
    assert content(made) == before


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, 3)
        self.width = 0

    def forward(self, x):
        self.width = x.shape[-1]
        y = self.inner(x)
        return y * self.width if y.sum() > 0 else y


def test_a_module_that_sets_attributes_keeps_its_forward():
    block = Block()
    static = to_static(lambda x: block(x) + 1)
    for x in (torch.ones(3), -torch.ones(3), torch.ones(2, 3)):
        assert torch.equal(static(x), block(x) + 1) and block.width == 3
    assert "forward" not in vars(block)


class Attends(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(self, x):
        mask = torch.nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.inner(x, x, tgt_mask=mask)


class Draws(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(8, 6)

    def forward(self, x):
        mean, scale = self.inner(x).chunk(2, -1)
        normal = torch.distributions.Normal(mean, scale.exp())
        kinds = torch.distributions.Categorical(logits=mean)
        z, kind = normal.rsample(), kinds.sample()
        return z, normal.log_prob(z).sum(), kinds.log_prob(kind), kinds.entropy()


class Recognises(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(8, 5)

    def forward(self, x):
        batch, length = x.shape[:2]
        scores = self.inner(x).log_softmax(-1).transpose(0, 1)
        targets = torch.ones(batch, 2, dtype=torch.long)
        lengths = torch.full((batch,), length), torch.full((batch,), 1)
        return torch.nn.functional.ctc_loss(scores, targets, *lengths)


class Packs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.LSTM(8, 5, batch_first=True, bidirectional=True)
        self.other = torch.nn.GRU(10, 3, batch_first=True)

    def forward(self, x):
        rnn = torch.nn.utils.rnn
        lengths = torch.full((x.shape[0],), x.shape[1])
        lengths[1:] = lengths[1:] - 2
        packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        steps, (last, _) = self.inner(packed)
        again, _ = self.other(steps)
        padded, counts = rnn.pad_packed_sequence(again, batch_first=True)
        return padded, last, counts.double()


@pytest.mark.parametrize("kind", [Attends, Draws, Recognises, Packs])
@pytest.mark.parametrize("training", [True, False])
def test_layers_of_torch_that_decide_on_data(kind, training):
    torch.manual_seed(0)
    module = kind().train(training)
    static = to_static(lambda x: module(x))
    for seed, (batch, length) in enumerate([(3, 4), (2, 6), (4, 5), (3, 4)]):
        outs = []
        x = torch.randn(batch, length, 8)
        for call in (module, static):
            torch.manual_seed(seed)
            y = call(x.requires_grad_())
            leaves = list(y) if isinstance(y, tuple) else [y]
            total = sum(v.sum() for v in leaves if v.requires_grad)
            outs.append([*leaves, *torch.autograd.grad(total, [x, *module.parameters()])])
        assert all(torch.equal(a, b) for a, b in zip(*outs, strict=True))
    assert len(static.tapes) == 1 and static.captures == 2
