"""Vision, audio and multimodal architectures of ``transformers``, small and with random weights."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from oarlock.errors import UnsupportedError  # noqa: E402
from tests.models.zoo import Draw, Model, check  # noqa: E402

IMAGE = Draw(("N", 3, 32, 32))
IMAGES = {"pixel_values": IMAGE}
ANY_SIZE = {"pixel_values": Draw(("N", 3, "H", "W"))}
SIZES = ({"N": 1, "H": 32, "W": 32}, {"N": 3, "H": 64, "W": 96})
VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip


def hf(name: str, config: str, **options):
    """A maker of ``transformers.name`` with a small ``config``."""

    def make():
        made = getattr(transformers, config)(**options)
        return getattr(transformers, name)(made)

    return make


def clip_text():
    return {
        "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 16, "eos_token_id": 98,
        "bos_token_id": 97, "pad_token_id": 1,
    }  # fmt: skip


def composed(name: str, config: str, text: dict, vision: dict, **options):
    def make():
        made = getattr(transformers, config)(text_config=text, vision_config=vision, **options)
        return getattr(transformers, name)(made)

    return make


STAGES = {"hidden_sizes": [8, 16, 16, 24], "depths": [1, 1, 1, 1], "embedding_size": 8}
CONVS = {"hidden_sizes": [8, 16, 16, 24], "depths": [1, 1, 2, 1]}
SWIN = {
    "image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4],
    "window_size": 4,
}  # fmt: skip
SPEECH = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "conv_dim": [16, 16], "conv_kernel": [10, 3], "conv_stride": [5, 2],
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
WAVE = {"input_values": Draw(("N", "T"))}
WAVES = ({"N": 1, "T": 400}, {"N": 3, "T": 640})
TEXT = Draw(("N", "T"), high=97)
TEXTS = ({"N": 1, "T": 7}, {"N": 3, "T": 11})

MOBILENET = hf("MobileNetV1ForImageClassification", "MobileNetV1Config", depth_multiplier=0.25)

MODELS = {
    "resnet": Model(hf("ResNetForImageClassification", "ResNetConfig", **STAGES), ANY_SIZE, SIZES),
    "mobilenet_v2": Model(
        hf("MobileNetV2ForImageClassification", "MobileNetV2Config", depth_multiplier=0.25,
           min_depth=8, image_size=32), IMAGES,
    ),
    "vit": Model(hf("ViTForImageClassification", "ViTConfig", **VIT), IMAGES),
    "convnext": Model(
        hf("ConvNextForImageClassification", "ConvNextConfig", **CONVS), ANY_SIZE, SIZES
    ),
    "swin": Model(hf("SwinForImageClassification", "SwinConfig", **SWIN), IMAGES),
    "wav2vec2": Model(hf("Wav2Vec2ForCTC", "Wav2Vec2Config", vocab_size=20, **SPEECH), WAVE, WAVES),
    "whisper": Model(
        hf("WhisperModel", "WhisperConfig", vocab_size=99, d_model=32, encoder_layers=2,
           decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
           encoder_ffn_dim=64, decoder_ffn_dim=64, num_mel_bins=16, max_source_positions=20,
           max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
           decoder_start_token_id=1, use_cache=False),
        {"input_features": Draw(("N", 16, 40)), "decoder_input_ids": TEXT}, TEXTS,
    ),
    "clip": Model(
        composed("CLIPModel", "CLIPConfig", clip_text(), VIT, projection_dim=16),
        {"input_ids": Draw(("N", "T"), high=97), "pixel_values": Draw(("M", 3, 32, 32))},
        ({"N": 1, "T": 7, "M": 1}, {"N": 3, "T": 11, "M": 2}),
    ),
}  # fmt: skip

MODELS = {
    **MODELS,
    "regnet": Model(
        hf("RegNetForImageClassification", "RegNetConfig", groups_width=4, **STAGES),
        ANY_SIZE, SIZES,
    ),
    "mobilenet_v1": Model(MOBILENET, IMAGES),
    "efficientnet": Model(
        hf("EfficientNetForImageClassification", "EfficientNetConfig", image_size=32,
           width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=320), IMAGES,
    ),
    "convnext_v2": Model(
        hf("ConvNextV2ForImageClassification", "ConvNextV2Config", **CONVS), ANY_SIZE, SIZES
    ),
    "deit": Model(hf("DeiTForImageClassification", "DeiTConfig", **VIT), IMAGES),
    "beit": Model(
        hf("BeitForImageClassification", "BeitConfig", use_relative_position_bias=True,
           use_mask_token=False, **VIT), IMAGES,
    ),
    "data2vec_vision": Model(
        hf("Data2VecVisionForImageClassification", "Data2VecVisionConfig", **VIT), IMAGES
    ),
    "swin_v2": Model(hf("Swinv2ForImageClassification", "Swinv2Config", **SWIN), IMAGES),
    "swin2sr": Model(
        hf("Swin2SRForImageSuperResolution", "Swin2SRConfig", image_size=32, patch_size=1,
           embed_dim=16, depths=[2], num_heads=[2], window_size=4, upscale=2), IMAGES,
    ),
    "segformer": Model(
        hf("SegformerForSemanticSegmentation", "SegformerConfig", hidden_sizes=[8, 8, 16, 16],
           depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=16),
        ANY_SIZE, SIZES,
    ),
    "poolformer": Model(
        hf("PoolFormerForImageClassification", "PoolFormerConfig",
           hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1]), ANY_SIZE, SIZES,
    ),
    "cvt": Model(
        hf("CvtForImageClassification", "CvtConfig", embed_dim=[8, 16], num_heads=[1, 2],
           depth=[1, 2], patch_sizes=[7, 3], patch_stride=[4, 2], patch_padding=[2, 1],
           mlp_ratio=[2.0, 2.0], attention_drop_rate=[0.0] * 2, drop_rate=[0.0] * 2,
           drop_path_rate=[0.0] * 2, qkv_bias=[True] * 2, cls_token=[False, True],
           qkv_projection_method=["dw_bn"] * 2, kernel_qkv=[3] * 2, padding_kv=[1] * 2,
           stride_kv=[2] * 2, padding_q=[1] * 2, stride_q=[1] * 2), IMAGES,
    ),
    "levit": Model(
        hf("LevitForImageClassification", "LevitConfig", image_size=64, hidden_sizes=[16, 24, 32],
           num_attention_heads=[2, 3, 4], depths=[1, 1, 1], key_dim=[8, 8, 8]),
        {"pixel_values": Draw(("N", 3, 64, 64))},
    ),
    "mobilevit": Model(
        hf("MobileViTForImageClassification", "MobileViTConfig", image_size=32,
           hidden_sizes=[16, 16, 24], neck_hidden_sizes=[8, 8, 16, 16, 16, 24, 32],
           num_attention_heads=4), IMAGES,
    ),
    "mobilevit_v2": Model(
        hf("MobileViTV2ForImageClassification", "MobileViTV2Config", image_size=64,
           base_attn_unit_dims=[16, 24, 32], n_attn_blocks=[1, 1, 1], width_multiplier=0.25,
           aspp_out_channels=16), {"pixel_values": Draw(("N", 3, 64, 64))},
    ),
    "dpt": Model(
        hf("DPTForDepthEstimation", "DPTConfig", is_hybrid=False, backbone_out_indices=[0, 1, 2, 3],
           neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=16,
           **{**VIT, "num_hidden_layers": 4}), IMAGES,
    ),
    "dinov2": Model(
        hf("Dinov2ForImageClassification", "Dinov2Config", hidden_size=32, num_hidden_layers=2,
           num_attention_heads=4, image_size=32, patch_size=8), IMAGES,
    ),
    "detr": Model(
        hf("DetrForObjectDetection", "DetrConfig", use_timm_backbone=False,
           use_pretrained_backbone=False, backbone=None,
           d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
           decoder_attention_heads=4, encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=5,
           backbone_config={"model_type": "resnet", "out_features": ["stage4"], **STAGES}),
        {"pixel_values": Draw(("N", 3, 64, 64)),
         "pixel_mask": Draw(("N", 64, 64), mask=True)},
    ),
    "yolos": Model(
        hf("YolosForObjectDetection", "YolosConfig", num_detection_tokens=5,
           **{**VIT, "image_size": [32, 32]}), IMAGES,
    ),
    "siglip": Model(
        composed("SiglipModel", "SiglipConfig", clip_text(), VIT),
        {"input_ids": Draw(("N", "T"), high=97), "pixel_values": Draw(("M", 3, 32, 32))},
        ({"N": 1, "T": 7, "M": 1}, {"N": 3, "T": 11, "M": 2}),
    ),
    "blip": Model(
        composed("BlipModel", "BlipConfig", clip_text(), VIT, projection_dim=16),
        {"input_ids": Draw(("N", "T"), high=97), "pixel_values": Draw(("M", 3, 32, 32))},
        ({"N": 1, "T": 7, "M": 1}, {"N": 3, "T": 11, "M": 2}),
    ),
    "hubert": Model(hf("HubertForCTC", "HubertConfig", vocab_size=20, **SPEECH), WAVE, WAVES),
    "wavlm": Model(
        hf("WavLMForCTC", "WavLMConfig", vocab_size=20, **SPEECH), WAVE, WAVES
    ),
    "audio_spectrogram": Model(
        hf("ASTForAudioClassification", "ASTConfig", max_length=40, num_mel_bins=16,
           **{k: v for k, v in VIT.items() if k != "image_size"}),
        {"input_values": Draw(("N", 40, 16))},
    ),
    "speech2text": Model(
        hf("Speech2TextModel", "Speech2TextConfig", vocab_size=99, d_model=32, encoder_layers=2,
           decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
           encoder_ffn_dim=64, decoder_ffn_dim=64, input_feat_per_channel=16,
           conv_channels=32, max_source_positions=100, max_target_positions=20, use_cache=False),
        {"input_features": Draw(("N", 40, 16)), "decoder_input_ids": TEXT}, TEXTS,
    ),
    "encodec": Model(
        hf("EncodecModel", "EncodecConfig", num_filters=4, hidden_size=16, codebook_size=16,
           codebook_dim=16, upsampling_ratios=[4, 2], num_lstm_layers=1, target_bandwidths=[24.0],
           sampling_rate=24000, use_causal_conv=True),
        {"input_values": Draw(("N", 1, 320))},
    ),
    "perceiver": Model(
        hf("PerceiverModel", "PerceiverConfig", d_model=32, d_latents=16, num_latents=8,
           num_blocks=1, num_self_attends_per_block=2, num_self_attention_heads=4,
           num_cross_attention_heads=4), {"inputs": Draw(("N", 10, 32))},
    ),
    "vit_mae": Model(
        hf("ViTMAEModel", "ViTMAEConfig", mask_ratio=0.5, decoder_hidden_size=16,
           decoder_num_attention_heads=4, decoder_num_hidden_layers=1, decoder_intermediate_size=16,
           **VIT),
        {**IMAGES, "noise": Draw(("N", 16), low=0.0)},
    ),
    "sam": Model(
        lambda: transformers.SamModel(transformers.SamConfig(
            vision_config=transformers.SamVisionConfig(
                hidden_size=32, output_channels=16, num_hidden_layers=2, num_attention_heads=4,
                image_size=64, patch_size=8, window_size=4, global_attn_indexes=[1], mlp_dim=64,
                num_pos_feats=8),
            prompt_encoder_config=transformers.SamPromptEncoderConfig(
                hidden_size=16, image_size=64, patch_size=8, mask_input_channels=4),
            mask_decoder_config=transformers.SamMaskDecoderConfig(
                hidden_size=16, mlp_dim=32, num_hidden_layers=1, num_attention_heads=4,
                attention_downsample_rate=2, iou_head_hidden_dim=16))),
        {"pixel_values": Draw(("N", 3, 64, 64)), "input_points": Draw(("N", 1, 2, 2), low=3.0)},
    ),
    "patchtst": Model(
        hf("PatchTSTForPrediction", "PatchTSTConfig", num_input_channels=2, context_length=32,
           patch_length=8, patch_stride=8, num_hidden_layers=2, d_model=16, num_attention_heads=4,
           ffn_dim=32, prediction_length=4, num_parallel_samples=1),
        {"past_values": Draw(("N", 32, 2))},
    ),
    "patchtsmixer": Model(
        hf("PatchTSMixerForPrediction", "PatchTSMixerConfig", num_input_channels=2,
           context_length=32, patch_length=8, patch_stride=8, num_layers=2, d_model=16,
           prediction_length=4), {"past_values": Draw(("N", 32, 2))},
    ),
    "upernet": Model(
        hf("UperNetForSemanticSegmentation", "UperNetConfig", hidden_size=16, use_pretrained_backbone=False,
           auxiliary_in_channels=16, use_timm_backbone=False, backbone=None,
           backbone_config={"model_type": "convnext", "out_features": [
               "stage1", "stage2", "stage3", "stage4"], **CONVS}),
        {"pixel_values": Draw(("N", 3, 64, 64))},
    ),
    "videomae": Model(
        hf("VideoMAEForVideoClassification", "VideoMAEConfig", num_frames=4, **VIT),
        {"pixel_values": Draw(("N", 4, 3, 32, 32))},
    ),
    "timesformer": Model(
        hf("TimesformerForVideoClassification", "TimesformerConfig", num_frames=4, **VIT),
        {"pixel_values": Draw(("N", 4, 3, 32, 32))},
    ),
    "focalnet": Model(
        hf("FocalNetForImageClassification", "FocalNetConfig", image_size=32, embed_dim=8,
           depths=[1, 1], hidden_sizes=[8, 16], focal_levels=[1, 1], focal_windows=[3, 3]), IMAGES,
    ),
    "bit": Model(
        hf("BitForImageClassification", "BitConfig", num_groups=4, **STAGES), IMAGES,
    ),
    "pvt": Model(
        hf("PvtForImageClassification", "PvtConfig", image_size=32, hidden_sizes=[8, 8, 16, 16],
           depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4]), IMAGES,
    ),
    "vits_like_univnet": Model(
        hf("UnivNetModel", "UnivNetConfig", model_in_channels=8, model_hidden_channels=8,
           num_mel_bins=8, kernel_predictor_hidden_channels=8),
        {"input_features": Draw((1, "T", 8)), "noise_sequence": Draw((1, "T", 8))},
        ({"T": 6}, {"T": 9}),
    ),
    "depth_anything": Model(
        hf("DepthAnythingForDepthEstimation", "DepthAnythingConfig", neck_hidden_sizes=[8] * 4,
           fusion_hidden_size=8, head_hidden_size=8, reassemble_hidden_size=32, patch_size=8,
           backbone_config=transformers.Dinov2Config(
               out_features=[f"stage{i}" for i in range(1, 5)], reshape_hidden_states=False,
               **{**VIT, "num_hidden_layers": 4})),
        IMAGES,
    ),
}  # fmt: skip


QUICK = ("vit",)
ANY_MOBILENET = Model(MOBILENET, ANY_SIZE, SIZES)
GAPS = {  # why eager runs it and capture refuses it
    "mobilenet_v1": (ANY_MOBILENET, r"decides on .*Mod.*a multiple, such as 32 \* Dim"),
    "vit_mae": (Model(MODELS["vit_mae"].make, IMAGES), r"aten.rand.*draw the numbers outside of the model"),
    "superpoint": (
        Model(
            hf("SuperPointForKeypointDetection", "SuperPointConfig",
               encoder_hidden_sizes=[8, 8, 8, 8], decoder_hidden_size=8, descriptor_decoder_dim=8),
            IMAGES,
        ), r"the size of its result depends on data",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUICK)
def test_quick(name):
    check(MODELS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in MODELS if n not in QUICK])
def test_slow(name):
    check(MODELS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", GAPS)
def test_gap(name):
    model, why = GAPS[name]
    with pytest.raises(UnsupportedError, match=why):
        check(model)
