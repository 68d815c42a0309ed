"""Text and sequence architectures, small and with random weights."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from oarlock.errors import UnsupportedError  # noqa: E402
from tests.models.zoo import Draw, Model, check  # noqa: E402

V = 61
SMALL = {
    "vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
ids = {"input_ids": Draw(("N", "T"), high=V, start=5)}
masked = {**ids, "attention_mask": Draw(("N", "T"), padded=True)}
both = {**ids, "decoder_input_ids": Draw(("N", "S"), high=V, start=5)}
SIZES = ({"N": 1, "T": 6, "S": 6}, {"N": 3, "T": 9, "S": 9})


def fixed(length: int) -> dict[str, Draw]:
    """For a model that runs over the sequence in Python: its length is constant."""
    return {"input_ids": Draw(("N", length), high=V, start=5)}


def text(model: str, config: str, inputs: dict[str, Draw] = ids, **options) -> Model:
    """``transformers.model`` with a small random configuration; an option None is left out."""

    def make():
        kept = {k: v for k, v in {**SMALL, **options}.items() if v is not None}
        return getattr(transformers, model)(getattr(transformers, config)(**kept))

    return Model(make, inputs, SIZES)


GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
       "shared_expert_intermediate_size": 32, "num_key_value_heads": 2, "decoder_sparse_step": 1}  # fmt: skip
SEQ2SEQ = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
}  # fmt: skip

HF = {
    "bert": text("BertModel", "BertConfig"),
    "bert masked": text("BertModel", "BertConfig", masked),
    "bert mlm": text("BertForMaskedLM", "BertConfig", masked),
    "roberta": text("RobertaModel", "RobertaConfig", masked),
    "albert": text("AlbertModel", "AlbertConfig", embedding_size=16),
    "distilbert": text(
        "DistilBertModel", "DistilBertConfig", masked, dim=32, n_layers=2, n_heads=4, hidden_dim=64
    ),
    "electra": text("ElectraForSequenceClassification", "ElectraConfig", embedding_size=16),
    "deberta v2": text(
        "DebertaV2Model",
        "DebertaV2Config",
        masked,
        relative_attention=True,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        share_att_key=True,
    ),
    "deberta": text(
        "DebertaModel",
        "DebertaConfig",
        masked,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        max_relative_positions=16,
    ),
    "xlnet": text(
        "XLNetModel",
        "XLNetConfig",
        max_position_embeddings=None,
        d_model=32,
        n_layer=2,
        n_head=4,
        d_inner=64,
    ),
    "mpnet": text("MPNetModel", "MPNetConfig", masked),
    "camembert": text("CamembertForTokenClassification", "CamembertConfig"),
    "xlm roberta": text("XLMRobertaModel", "XLMRobertaConfig", masked),
    "funnel": text(
        "FunnelBaseModel",
        "FunnelConfig",
        fixed(6),
        num_hidden_layers=None,
        block_sizes=[1, 1],
        d_model=32,
        n_head=4,
        d_head=8,
        d_inner=64,
    ),
    "squeezebert": text("SqueezeBertModel", "SqueezeBertConfig", embedding_size=32),
    "mobilebert": text(
        "MobileBertModel", "MobileBertConfig", embedding_size=32, intra_bottleneck_size=32
    ),
    "convbert": text("ConvBertModel", "ConvBertConfig", embedding_size=32),
    "fnet": text("FNetModel", "FNetConfig"),
    "nystromformer": text("NystromformerModel", "NystromformerConfig", fixed(64), num_landmarks=64),
    "modernbert": text(
        "ModernBertModel", "ModernBertConfig", masked, pad_token_id=0, global_attn_every_n_layers=2
    ),
    "gpt2": text("GPT2LMHeadModel", "GPT2Config", **GPT),
    "gpt2 masked": text("GPT2Model", "GPT2Config", masked, **GPT),
    "gpt neo": text(
        "GPTNeoModel",
        "GPTNeoConfig",
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=4,
    ),
    "gpt neox": text("GPTNeoXForCausalLM", "GPTNeoXConfig"),
    "gptj": text("GPTJModel", "GPTJConfig", rotary_dim=4, **GPT),
    "codegen": text("CodeGenModel", "CodeGenConfig", rotary_dim=4, n_ctx=64, **GPT),
    "opt": text("OPTForCausalLM", "OPTConfig", masked, ffn_dim=64, word_embed_proj_dim=32),
    "bloom": text("BloomModel", "BloomConfig", masked, n_layer=2, n_head=4),
    "llama": text("LlamaForCausalLM", "LlamaConfig", num_key_value_heads=2),
    "llama masked": text("LlamaForCausalLM", "LlamaConfig", masked, num_key_value_heads=2),
    "mistral": text("MistralForCausalLM", "MistralConfig", num_key_value_heads=2, sliding_window=4),
    "qwen2": text("Qwen2ForCausalLM", "Qwen2Config", num_key_value_heads=2),
    "qwen3": text("Qwen3ForCausalLM", "Qwen3Config", masked, num_key_value_heads=2, head_dim=8),
    "gemma": text("GemmaForCausalLM", "GemmaConfig", num_key_value_heads=1, head_dim=8),
    "gemma2": text(
        "Gemma2ForCausalLM", "Gemma2Config", num_key_value_heads=2, head_dim=8, sliding_window=4
    ),
    "gemma3": text(
        "Gemma3ForCausalLM", "Gemma3TextConfig", num_key_value_heads=2, head_dim=8, sliding_window=4
    ),
    "phi": text("PhiForCausalLM", "PhiConfig"),
    "phi3": text("Phi3ForCausalLM", "Phi3Config", num_key_value_heads=2, pad_token_id=0),
    "falcon": text("FalconForCausalLM", "FalconConfig"),
    "falcon alibi": text("FalconForCausalLM", "FalconConfig", alibi=True),
    "stablelm": text("StableLmForCausalLM", "StableLmConfig", num_key_value_heads=2),
    "cohere": text("CohereForCausalLM", "CohereConfig", num_key_value_heads=2),
    "olmo2": text("Olmo2ForCausalLM", "Olmo2Config", num_key_value_heads=2),
    "starcoder2": text(
        "Starcoder2ForCausalLM", "Starcoder2Config", num_key_value_heads=2, sliding_window=4
    ),
    "granite": text("GraniteForCausalLM", "GraniteConfig", num_key_value_heads=2),
    "smollm3": text("SmolLM3ForCausalLM", "SmolLM3Config", num_key_value_heads=2, pad_token_id=0),
    "mpt": text("MptModel", "MptConfig", d_model=32, n_heads=4, n_layers=2, max_seq_len=64),
    "biogpt": text("BioGptModel", "BioGptConfig"),
    "xglm": text(
        "XGLMModel", "XGLMConfig", d_model=32, num_layers=2, attention_heads=4, ffn_dim=64
    ),
    "mixtral": text("MixtralForCausalLM", "MixtralConfig", **MOE),
    "qwen2 moe": text("Qwen2MoeForCausalLM", "Qwen2MoeConfig", **MOE),
    "qwen3 moe": text("Qwen3MoeForCausalLM", "Qwen3MoeConfig", **MOE, head_dim=8),
    "olmoe": text("OlmoeForCausalLM", "OlmoeConfig", **MOE),
    "gpt oss": text("GptOssForCausalLM", "GptOssConfig", **MOE, head_dim=8, sliding_window=4),
    "t5": text("T5Model", "T5Config", both, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4),
    "t5 encoder": text(
        "T5EncoderModel", "T5Config", masked, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    ),
    "mt5": text(
        "MT5ForConditionalGeneration",
        "MT5Config",
        both,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=1,
        num_heads=4,
    ),
    "bart": text("BartModel", "BartConfig", both, **SEQ2SEQ),
    "mbart": text("MBartModel", "MBartConfig", both, **SEQ2SEQ),
    "pegasus": text("PegasusModel", "PegasusConfig", both, **SEQ2SEQ),
    "marian": text("MarianMTModel", "MarianConfig", both, **SEQ2SEQ, pad_token_id=0),
    "led": text("LEDModel", "LEDConfig", both, **SEQ2SEQ, attention_window=4),
    "prophetnet": text(
        "ProphetNetModel",
        "ProphetNetConfig",
        both,
        num_hidden_layers=None,
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_encoder_attention_heads=4,
        num_decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
    ),
    "mamba": text("MambaModel", "MambaConfig", fixed(6), state_size=4),
    "mamba2": text(
        "Mamba2Model",
        "Mamba2Config",
        state_size=8,
        num_heads=8,
        head_dim=8,
        n_groups=1,
        chunk_size=4,
    ),
    "rwkv": text("RwkvModel", "RwkvConfig", fixed(6), attention_hidden_size=32),
    "recurrent gemma": text(
        "RecurrentGemmaModel",
        "RecurrentGemmaConfig",
        fixed(6),
        num_hidden_layers=3,
        num_key_value_heads=1,
        lru_width=32,
    ),
    "xlm": text("XLMModel", "XLMConfig", emb_dim=32, n_layers=2, n_heads=4),
    "longformer": text("LongformerModel", "LongformerConfig", attention_window=[4, 4]),
    "bigbird": text("BigBirdModel", "BigBirdConfig", attention_type="original_full"),
    "reformer": text(
        "ReformerModel",
        "ReformerConfig",
        fixed(6),
        attn_layers=["local"],
        axial_pos_embds=False,
        attention_head_size=8,
        local_attn_chunk_length=4,
    ),
    "canine": text(
        "CanineModel", "CanineConfig", fixed(8), num_hash_buckets=64, local_transformer_stride=8
    ),
    "rembert": text("RemBertModel", "RemBertConfig", input_embedding_size=16),
    "roformer": text("RoFormerModel", "RoFormerConfig", embedding_size=32),
    "ibert": text("IBertModel", "IBertConfig"),
    "layoutlm": text("LayoutLMModel", "LayoutLMConfig"),
    "ernie": text("ErnieModel", "ErnieConfig"),
    "luke": text("LukeModel", "LukeConfig", entity_vocab_size=20, entity_emb_size=16),
    "flaubert": text("FlaubertModel", "FlaubertConfig", emb_dim=32, n_layers=2, n_heads=4),
    "openai gpt": text("OpenAIGPTModel", "OpenAIGPTConfig", **GPT),
    "ctrl": text("CTRLModel", "CTRLConfig", dff=64, **GPT),
    "bert generation": text("BertGenerationDecoder", "BertGenerationConfig", is_decoder=True),
}

QUICK = ["bert masked", "gpt2", "llama masked", "t5", "mixtral"]
REFUSED = {
    "longformer": "decides on whether any token attends globally",
    "led": "decides on whether any token attends globally",
}


@pytest.mark.parametrize("name", QUICK)
def test_quick(name):
    check(HF[name], checked=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in HF if n not in QUICK and n not in REFUSED])
def test_slow(name):
    check(HF[name], checked=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    with pytest.raises(
        UnsupportedError, match=r"\.item\(\) of a tensor that depends on the inputs"
    ):
        check(HF[name])
