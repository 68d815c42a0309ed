"""``generate()`` of transformers as it comes: greedy and drawn, several lengths, ends at other steps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from oarlock.capture.to_static import StaticFunction, to_static
from tests.programs.test_programs import assert_file_gives, leaves

transformers = pytest.importorskip("transformers")

TOKENS = {"vocab_size": 97, "pad_token_id": 0}
MODELS = {
    "T5ForConditionalGeneration": (
        "T5Config",
        {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 1, "num_heads": 2,
         "decoder_start_token_id": 0, "initializer_factor": 3.0},
    ),
    "GPT2LMHeadModel": (
        "GPT2Config",
        {"n_layer": 1, "n_head": 2, "n_embd": 32, "n_positions": 64, "initializer_range": 0.5},
    ),
    "LlamaForCausalLM": (
        "LlamaConfig",
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
         "num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.5},
    ),
}  # fmt: skip
CASES = [
    pytest.param(
        name,
        is_drawn,
        marks=[pytest.mark.slow] * (is_drawn or name != "T5ForConditionalGeneration"),
    )
    for name in MODELS
    for is_drawn in (False, True)
]


def model_of(name: str) -> torch.nn.Module:
    config, options = MODELS[name]
    torch.manual_seed(0)
    return getattr(transformers, name)(getattr(transformers, config)(**TOKENS, **options)).eval()


@pytest.mark.parametrize("name, is_drawn", CASES)
def test_generate(name: str, is_drawn: bool):
    model = model_of(name)
    options = {"max_new_tokens": 6, "do_sample": is_drawn, "top_k": 8 if is_drawn else None}
    given = [torch.randint(2, 90, (2, n)) for n in (3, 3, 5)]
    end = Counter(int(t) for x in given for t in model.generate(x, **options)[:, -4:].flatten())
    model.generation_config.eos_token_id = end.most_common(1)[0][0]
    static = to_static(lambda ids: model.generate(ids, **options), backend="replay")
    for i, ids in enumerate(given):
        torch.manual_seed(i)
        found = static(ids)
        torch.manual_seed(i)
        assert torch.equal(found, model.generate(ids, **options))
    assert static.captures <= 2


@pytest.mark.slow
@pytest.mark.parametrize("beams", (1, 3))
@pytest.mark.parametrize("name", MODELS)
def test_generate_without_torch(name: str, beams: int, tmp_path: Path):
    """Greedy and by beams, from a file: batches and lengths as they come, ends at other steps."""
    model = model_of(name)
    options = {"max_new_tokens": 6, "do_sample": False, "num_beams": beams}
    given = [torch.randint(2, 90, shape) for shape in ((2, 3), (2, 4), (3, 5), (1, 7), (2, 3))]
    end = Counter(int(t) for x in given for t in model.generate(x, **options)[:, -4:].flatten())
    model.generation_config.eos_token_id = end.most_common(1)[0][0]
    static = StaticFunction(lambda ids: model.generate(ids, **options))
    for ids in given:
        assert torch.equal(static(ids), model.generate(ids, **options))
    assert len(static.tapes) == 1
    calls = [(ids,) for ids in given]
    assert_file_gives(
        static, calls, [leaves(model.generate(*call, **options)) for call in calls], tmp_path
    )
