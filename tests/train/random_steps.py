"""Random training steps as source text: layers, losses, optimizers, clipping, schedules, accumulation.

A step is drawn from a seed; ``calls`` makes it, and changes state by eager code between its calls.
"""

from __future__ import annotations

import random
from typing import Any

HEADER = """\
import torch
import torch.nn.functional as F
from torch import nn

import oarlock


"""
LAYERS = {
    "flat": [
        "nn.Linear(6, 6)", "nn.Linear(6, 6, bias=False)", "nn.Tanh()", "nn.ReLU()", "nn.GELU()",
        "nn.BatchNorm1d(6)", "nn.BatchNorm1d(6, momentum=None)", "nn.LayerNorm(6)", "nn.Dropout(0.25)",
        "nn.Sigmoid()", "nn.SiLU()", "nn.Softplus()", "nn.ELU()", "nn.LeakyReLU(0.1)", "nn.PReLU()",
        "nn.GroupNorm(2, 6)", "nn.Softmax(-1)", "nn.Hardtanh()", "nn.LogSoftmax(1)", "nn.GLU()",
        "nn.Bilinear(6, 6, 6)", "nn.AlphaDropout(0.2)", "nn.BatchNorm1d(6, affine=False)",
        "nn.Mish()", "nn.RMSNorm(6)", "nn.Softsign()", "nn.Hardswish()",
    ],
    "image": [
        "nn.Conv2d(3, 3, 3, padding=1)", "nn.Conv2d(3, 3, 1, bias=False)", "nn.BatchNorm2d(3)",
        "nn.ReLU()", "nn.Dropout2d(0.25)", "nn.Tanh()", "nn.Conv2d(3, 3, 3, padding=1, groups=3)",
        "nn.MaxPool2d(3, 1, 1)", "nn.AvgPool2d(3, 1, 1)", "nn.GroupNorm(1, 3)", "nn.InstanceNorm2d(3)",
        "nn.ConvTranspose2d(3, 3, 3, padding=1)", "nn.Conv2d(3, 3, 3, padding=2, dilation=2)",
        "nn.ZeroPad2d(0)", "nn.ReflectionPad2d(0)", "nn.Conv2d(3, 3, 3, padding=1, padding_mode='circular')",
    ],
    "sequence": [
        "nn.Linear(6, 6)", "nn.LayerNorm(6)", "nn.Tanh()", "nn.Dropout(0.25)", "First(nn.GRU(6, 6, batch_first=True))",
        "First(nn.LSTM(6, 6, batch_first=True))", "First(nn.RNN(6, 6, batch_first=True))",
        "Turned(nn.Conv1d(6, 6, 3, padding=1))", "Attention()", "Cells()", "Turned(nn.BatchNorm1d(6))",
    ],
}  # fmt: skip
MODELS = """\
class First(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


class Turned(First):
    def forward(self, x):
        return self.layer(x.transpose(1, 2)).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        return x + self.inner(x, x, x, need_weights=False)[0]


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(6, 6)

    def forward(self, x):
        h, found = x.new_zeros(x.shape[0], 6), []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            found.append(h)
        return torch.stack(found, 1)


"""
LOSSES = {
    "classes": [
        "F.cross_entropy(y, c)", "F.cross_entropy(y, c, label_smoothing=0.1)",
        "F.nll_loss(F.log_softmax(y, -1), c)", "F.cross_entropy(y, c, reduction='sum')",
        "F.cross_entropy(y, c, weight=torch.tensor([1.0, 2.0, 0.5], dtype=y.dtype))",
        "F.multi_margin_loss(y, c)", "F.cross_entropy(y, c, ignore_index=1)",
        "F.binary_cross_entropy_with_logits(y, F.one_hot(c, 3).to(y.dtype))",
        "-y.log_softmax(-1).gather(1, c[:, None]).mean()",
    ],
    "values": [
        "F.mse_loss(y, t)", "F.l1_loss(y, t)", "F.smooth_l1_loss(y, t)", "F.huber_loss(y, t, delta=0.5)",
        "(y - t).pow(2).mean()", "(y - t).abs().sum(1).mean()", "F.kl_div(F.log_softmax(y, -1), F.softmax(t, -1), reduction='batchmean')",
        "(1 - F.cosine_similarity(y, t)).mean()", "torch.logsumexp((y - t).pow(2), 1).mean()",
        "F.gaussian_nll_loss(y, t, y.exp().clamp(max=2))", "F.poisson_nll_loss(y, t.abs())",
        "torch.dist(y, t)", "((y - t) ** 2 / y.shape[0]).sum()",
    ],
}  # fmt: skip
OPTIMIZERS = [
    "SGD({p}, lr=0.1)", "SGD({p}, lr=0.05, momentum=0.9)", "SGD({p}, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)",
    "SGD({p}, lr=0.05, momentum=0.5, dampening=0.1)", "SGD({p}, lr=0.05, maximize=True)", "SGD({p}, lr=0.05, momentum=0.9, foreach=True)",
    "Adam({p}, lr=0.01)", "Adam({p}, lr=0.01, amsgrad=True)", "Adam({p}, lr=0.01, weight_decay=0.1, foreach=True)",
    "Adam({p}, lr=0.01, fused=True)", "AdamW({p}, lr=0.01)", "AdamW({p}, lr=0.01, weight_decay=0.1, amsgrad=True)",
    "RMSprop({p}, lr=0.01)", "RMSprop({p}, lr=0.01, momentum=0.5, centered=True)", "RMSprop({p}, lr=0.01, weight_decay=0.01)",
    "Adagrad({p}, lr=0.05)", "Adagrad({p}, lr=0.05, lr_decay=0.1)", "NAdam({p}, lr=0.01)", "NAdam({p}, lr=0.01, decoupled_weight_decay=True, weight_decay=0.1)",
    "Adamax({p}, lr=0.01)", "Adadelta({p}, lr=0.5)",
]  # fmt: skip
SCHEDULES = [
    "ExponentialLR({o}, 0.8)", "StepLR({o}, 2, 0.5)", "CosineAnnealingLR({o}, 5)", "OneCycleLR({o}, 0.1, 20)",
    "LambdaLR({o}, lambda n: 1 / (1 + n))", "LinearLR({o}, 0.5, 1.0, 4)", "CyclicLR({o}, 0.01, 0.1, 2, cycle_momentum=False)",
]  # fmt: skip


class StepWriter:
    """Draws one step; ``source`` is its text, with ``made(seed)``: model, optimizers, schedule, step."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.kind = self.draw.choice(["flat", "flat", "flat", "image", "sequence"])
        self.dtype = self.draw.choice(["float64", "float64", "float32"])
        self.goal = self.draw.choice(["classes", "values"])
        self.tests = {n: self.draw.random() < p for n, p in self.chances.items()}
        self.source = HEADER + MODELS + self.network() + self.maker()

    chances = {
        "tied": 0.15, "frozen": 0.2, "groups": 0.3, "schedule": 0.4, "inside": 0.4, "accumulate": 0.25,
        "every": 0.2, "autocast": 0.12, "penalty": 0.2, "average": 0.2, "noise": 0.2, "two": 0.15,
        "first": 0.4, "zeros": 0.2, "slope": 0.1, "by_hand": 0.1, "shared": 0.2, "counted": 0.2, "attack": 0.1,
    }  # fmt: skip

    def network(self) -> str:
        layers = [self.draw.choice(LAYERS[self.kind]) for _ in range(self.draw.randint(1, 4))]
        lines = ["class Net(nn.Module):", "    def __init__(self):", "        super().__init__()"]
        body: list[str] = []
        for i, layer in enumerate(layers):
            lines.append(f"        self.l{i} = {layer}")
            call = f"self.l{i}({given_to(layer)})"
            body.append(
                f"        x = x + {call}" if self.draw.random() < 0.3 else f"        x = {call}"
            )
            if self.draw.random() < 0.15:
                body.append("        x = F.dropout(x, 0.2, self.training)")
        if self.tests["shared"]:
            body.append(f"        x = self.l0({given_to(layers[0])})")
        width = 3 if self.kind == "image" else 6
        lines.append(f"        self.out = nn.Linear({width}, 3)")
        lines += ["        self.calls = 0", "        self.register_buffer('seen', torch.zeros(3))"]
        if self.tests["tied"] and layers[0].startswith("nn.Linear(6"):
            lines += [
                "        self.tie = nn.Linear(6, 6)",
                "        self.tie.weight = self.l0.weight",
            ]
            body.append("        x = self.tie(x)")
        lines += ["", "    def forward(self, x):", *body]
        if self.kind != "flat":
            lines.append(f"        x = x.mean({'(2, 3)' if self.kind == 'image' else '1'})")
        lines.append("        y = self.out(x)")
        if self.draw.random() < 0.3:
            lines.append("        self.seen.mul_(0.9).add_(y.detach().mean(0), alpha=0.1)")
        if self.tests["counted"]:
            lines.append("        self.calls += 1")
        return "\n".join([*lines, "        return y", "", "", ""])

    def maker(self) -> str:
        t, draw = self.tests, self.draw
        lines = [
            "def made(seed):",
            "    torch.manual_seed(seed)",
            f"    net = Net().to(torch.{self.dtype})",
        ]
        if t["frozen"]:
            lines.append("    next(net.parameters()).requires_grad_(False)")
        p = "net.parameters()"
        if t["groups"]:
            p = "[{'params': [*net.out.parameters()], 'lr': 0.02}, {'params': [p for n, p in net.named_parameters() if not n.startswith('out.')]}]"
        parts = ["optimizer"]
        if t["two"]:
            p, parts = (
                "[p for n, p in net.named_parameters() if not n.startswith('out.')]",
                ["optimizer", "second"],
            )
            lines.append(
                f"    second = torch.optim.{draw.choice(OPTIMIZERS).format(p='net.out.parameters()')}"
            )
        optimizer = draw.choice(OPTIMIZERS)
        lines.append(f"    optimizer = torch.optim.{optimizer.format(p=p)}")
        schedule = draw.choice(SCHEDULES).format(o="optimizer")
        lines.append(
            f"    schedule = torch.optim.lr_scheduler.{schedule}"
            if t["schedule"]
            else "    schedule = None"
        )
        attach = draw.choice(
            ["", "", "ClipGradByGlobalNorm(0.5)", "ClipGradByNorm(0.3)", "ClipGradByValue(0.05)"]
        )
        if attach:
            lines.append(f"    oarlock.clip.{attach}.attach(optimizer)")
        lines += [
            "    average = [p.detach().clone() for p in net.parameters()]",
            "    count = 0",
            "",
        ]
        lines += [
            "    def step(x, c, t, scale=1.0):",
            *("        " + line for line in self.step(parts)),
        ]
        lines += ["", f"    return net, [{', '.join(parts)}], schedule, average, step", ""]
        return "\n".join(lines)

    def step(self, optimizers: list[str]) -> list[str]:
        """The lines of the step: gradients, clipping, update, results."""
        t, draw = self.tests, self.draw
        to_none = ", set_to_none=False" if t["zeros"] else ""
        zero = [f"{o}.zero_grad({to_none[2:]})" for o in optimizers]
        lines = ["nonlocal count", "count += 1"] if t["every"] else []
        lines += zero if t["first"] and not t["every"] else []
        if t["noise"]:
            lines.append("x = x + torch.randn_like(x) * 0.1")
        if t["attack"]:
            lines += ["x = x.clone().requires_grad_()"]
        loss = draw.choice(LOSSES[self.goal])
        indent = ""
        if t["autocast"]:
            lines.append("with torch.autocast('cpu', torch.bfloat16):")
            indent = "    "
        lines += [indent + "y = net(x)", indent + f"loss = {loss} * scale"]
        if t["penalty"]:
            lines.append(draw.choice([
                "loss = loss + 0.01 * sum(p.pow(2).sum() for p in net.parameters())",
                "loss = loss + 0.01 * net.out.weight.abs().sum()",
                "loss = loss + 0.01 * y.var()",
            ]))  # fmt: skip
        if t["slope"]:
            lines += ["(slope,) = torch.autograd.grad(loss, [net.out.weight], create_graph=True)"]
            lines += ["loss = loss + 0.1 * slope.pow(2).sum()"]
        lines.append("loss.backward()")
        if t["accumulate"]:
            lines += ["more = net(x * 0.5).pow(2).mean()", "more.backward()"]
        clip = draw.choice(
            [
                "",
                "",
                "nn.utils.clip_grad_norm_(net.parameters(), 0.5)",
                "nn.utils.clip_grad_value_(net.parameters(), 0.1)",
                "norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)",
            ]
        )
        lines += [clip] if clip else []
        update = [f"{o}.step()" for o in optimizers]
        update += zero if not (t["first"] and not t["every"]) else []
        if t["by_hand"]:
            update = [
                "with torch.no_grad():",
                "    for p in net.parameters():",
                "        if p.grad is not None:",
                "            p -= 0.05 * p.grad",
                "            p.grad = None",
            ]
        if t["schedule"] and t["inside"]:
            update.append("schedule.step()")
        if t["every"]:
            lines += ["if count % 2 == 0:", *("    " + line for line in update)]
        else:
            lines += update
        if t["average"]:
            lines += [
                "with torch.no_grad():",
                "    for a, p in zip(average, net.parameters()):",
                draw.choice(["        a.mul_(0.9).add_(p, alpha=0.1)", "        a.lerp_(p, 0.1)"]),
            ]
        results = ["loss.detach()"] + [
            r
            for r in ["y.detach()", "y.argmax(-1)", "float(scale)", "net.seen", "loss.item()"]
            if draw.random() < 0.25
        ]
        results += ["norm"] if clip.startswith("norm") else []
        results += ["x.grad"] if t["attack"] else []
        return [*lines, f"return {', '.join(results)}"]


def given_to(layer: str) -> str:
    """The arguments of a layer."""
    if "Bilinear" in layer:
        return "x, x.detach()"
    return "torch.cat([x, x], 1)" if layer == "nn.GLU()" else "x"


def batch(writer: StepWriter, draw: random.Random, values: Any, n: int) -> tuple[Any, Any, Any]:
    """Inputs, classes and values for a step."""
    import torch

    shape = {"flat": (n, 6), "image": (n, 3, 5, 5), "sequence": (n, 4, 6)}[writer.kind]
    dtype = getattr(torch, writer.dtype)
    x = torch.randn(shape, generator=values).to(dtype)
    if draw.random() < 0.15:
        x = torch.stack([x, x], -1)[..., 0]
    classes = torch.randint(3, (n,), generator=values)
    return x, classes, torch.randn((n, 3), generator=values).to(dtype)
