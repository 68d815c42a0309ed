"""Architectures in plain PyTorch through the engine, at other sizes than the example's."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from tests.models import plain  # noqa: E402
from tests.models.zoo import Draw, Model, check  # noqa: E402

SIZES = ({"N": 1, "H": 16, "W": 16}, {"N": 3, "H": 24, "W": 32})
STEPS = ({"N": 1, "T": 7}, {"N": 3, "T": 12})
IMAGE, TOKENS = Draw(("N", 3, "H", "W")), Draw(("N", "T", 16))


def one(*shape, name="x", **more):
    return {name: Draw(shape, **more)}


MODELS = {
    "nerf": Model(plain.NeRF, one("N", "S", 3), ({"N": 1, "S": 4}, {"N": 3, "S": 9})),
    "real nvp": Model(plain.RealNVP, one("N", 6)),
    "fourier": Model(plain.FourierNet, one("N", 1, 12, 16)),
    "dlrm": Model(plain.DLRM, {"dense": Draw(("N", 5)), "sparse": Draw(("N", 3, 2), high=20)}),
    "deepfm": Model(plain.DeepFM, one("N", 4, name="ids", high=30)),
    "graph": Model(
        plain.GraphConv, {"x": Draw(("N", 5)), "edges": Draw((2, "E"), high=4)},
        ({"N": 5, "E": 7}, {"N": 9, "E": 20}),
    ),
    "experts": Model(plain.MixtureOfExperts, one("N", "T", 8), STEPS),
    "attention": Model(plain.Attention, {"x": TOKENS}, STEPS),
    "heads": Model(plain.Heads, one("N", 6)),
    "unet": Model(plain.UNet, one("N", 3, 16, 16)),
    "lstm": Model(lambda: plain.Sequence(nn.LSTM), one("N", "T", 6), STEPS),
    "gru": Model(lambda: plain.Sequence(nn.GRU), one("N", "T", 6), STEPS),
}  # fmt: skip

MODELS = {
    **MODELS,
    "generator": Model(plain.generator, one("N", 16, 1, 1, name="input")),
    "discriminator": Model(plain.discriminator, one("N", 3, 16, 16, name="input")),
    "densenet": Model(plain.DenseNet, {"x": IMAGE}, SIZES),
    "inception": Model(plain.Inception, one("N", 8, "H", "W"), SIZES),
    "shufflenet": Model(plain.ShuffleNet, one("N", 12, "H", "W"), SIZES),
    "squeezenet": Model(plain.SqueezeNet, {"x": IMAGE}, SIZES),
    "se resnet": Model(plain.SqueezeExcite, one("N", 8, "H", "W"), SIZES),
    "resnext": Model(lambda: plain.SqueezeExcite(8, 4), one("N", 8, "H", "W"), SIZES),
    "vgg": Model(plain.vgg, {"input": IMAGE}, SIZES),
    "wavenet": Model(plain.WaveNet, one("N", 1, "T"), ({"N": 1, "T": 20}, {"N": 3, "T": 31})),
    "vae": Model(plain.VAE, {"x": Draw(("N", 12)), "noise": Draw(("N", 4))}),
    "pointnet": Model(plain.PointNet, one("N", 3, "P"), ({"N": 1, "P": 20}, {"N": 3, "P": 33})),
    "mixer": Model(plain.Mixer, one("N", 3, 16, 16)),
    "kan": Model(plain.KAN, one("N", 4)),
    "capsules": Model(plain.Capsules, one("N", 6, 4)),
    "highway": Model(plain.Highway, one("N", 8)),
    "spatial transformer": Model(plain.SpatialTransformer, one("N", 2, 12, 10)),
    "super resolution": Model(plain.super_resolution, one("N", 1, "H", "W", name="input"), SIZES),
    "crnn": Model(plain.CRNN, one("N", 1, 16, "W"), ({"N": 1, "W": 32}, {"N": 3, "W": 48})),
    "siamese": Model(plain.Siamese, {"x": Draw(("N", 6)), "y": Draw(("N", 6))}),
    "hypernetwork": Model(plain.HyperNetwork, {"x": Draw(("N", 4)), "task": Draw(("N", 3))}),
    "kalman": Model(plain.Kalman, one("N", 8, 2)),
    "rnn": Model(lambda: plain.Sequence(nn.RNN), one("N", "T", 6), STEPS),
    "cells": Model(plain.Cells, one("N", 4, 5)),
    "transformer": Model(
        plain.Transformer, {"source": TOKENS, "target": Draw(("N", "S", 16))},
        ({"N": 1, "T": 7, "S": 5}, {"N": 3, "T": 11, "S": 9}),
    ),
    "segnet": Model(plain.SegNet, one("N", 3, 16, 16)),
    "autoencoder": Model(
        lambda: nn.Sequential(nn.Linear(12, 4), nn.SELU(), nn.Linear(4, 12)),
        one("N", 12, name="input"),
    ),
}  # fmt: skip


QUICK = ("real nvp", "dlrm", "deepfm", "graph", "fourier", "heads")


@pytest.mark.parametrize("name", QUICK)
def test_quick(name):
    check(MODELS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in MODELS if n not in QUICK])
def test_slow(name):
    check(MODELS[name])
