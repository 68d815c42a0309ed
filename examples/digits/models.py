"""The two models, their data and their training, in plain PyTorch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from rich.progress import Progress
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F

import oarlock
from oarlock.clip import ClipGradByGlobalNorm

BATCH, RATE, CLIP = 64, 1e-2, 1.0
WARM = 5  # steps before the clock counts: compilation


class DigitsCNN(nn.Module):
    """Images f32[N,1,8,8] -> logits f32[N,10]; leaves early where it is sure of every image."""

    def __init__(self, threshold: float = 0.95) -> None:
        super().__init__()
        self.threshold = threshold
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.early = nn.Linear(16 * 4 * 4, 10)
        self.body = nn.Sequential(
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip
        self.head = nn.Linear(32, 10)

    def forward(self, image):
        x = self.stem(image)
        early = self.early(x.flatten(1))
        confidence = early.softmax(1).amax(1).min()
        if confidence > self.threshold:
            return early
        return self.head(self.body(x).flatten(1))

    def loss(self, image, label):
        x = self.stem(image)
        early, late = self.early(x.flatten(1)), self.head(self.body(x).flatten(1))
        return F.cross_entropy(early, label) + F.cross_entropy(late, label)


class DigitsLSTM(nn.Module):
    """Images f32[N,1,8,8], each row a time step -> logits f32[N,10]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 48, batch_first=True)
        self.head = nn.Linear(48, 10)

    def forward(self, image):
        steps, _ = self.lstm(image.squeeze(1))
        return self.head(steps[:, -1])

    def loss(self, image, label):
        return F.cross_entropy(self(image), label)


@dataclass(frozen=True)
class Digits:
    """1,797 images of 8x8, pixels in [0, 1]; a third held out."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: np.ndarray


def load() -> Digits:
    """The data set as it ships with scikit-learn, split with a fixed seed."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    parts = train_test_split(images, labels, test_size=1 / 3, random_state=0, stratify=labels)
    train, test, train_labels, test_labels = parts
    return Digits(
        torch.from_numpy(train), torch.from_numpy(train_labels), torch.from_numpy(test), test_labels
    )


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[..., torch.Tensor]:
    """A training step in plain PyTorch."""

    def step(images, labels):
        optimizer.zero_grad()
        loss = model.loss(images, labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def trainable(kind: type[nn.Module]) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A new model in training mode, and Adam with its gradients clipped by their global norm."""
    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    ClipGradByGlobalNorm(CLIP).attach(optimizer)
    return model.train(), optimizer


def train(kind: type[nn.Module], data: Digits, progress: Progress, epochs: int = 30) -> nn.Module:
    """Cross-entropy by static steps, the rate lowered over the run; a new model in eval mode."""
    model, optimizer = trainable(kind)
    rounds = len(data.train_images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, epochs * rounds)
    step = oarlock.to_static(step_of(model, optimizer))
    name = kind.__name__
    task = progress.add_task(f"training {name}", total=epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.train_images))[: rounds * BATCH].split(BATCH):
            loss = step(data.train_images[batch], data.train_labels[batch])
            schedule.step()
        progress.update(task, advance=1, description=f"training {name}, loss {loss:.3f}")
    return model.eval()


@dataclass(frozen=True)
class StepTimes:
    """Milliseconds of a training step, medians over rounds in which both take turns."""

    model: str
    eager_ms: float
    static_ms: float


def time_steps(kind: type[nn.Module], data: Digits, rounds: int = 40) -> StepTimes:
    """Eager and static steps on one batch."""
    images, labels = data.train_images[:BATCH], data.train_labels[:BATCH]
    steps = [step_of(*trainable(kind)), oarlock.to_static(step_of(*trainable(kind)))]
    found: list[list[float]] = [[], []]
    for _ in range(WARM + rounds):
        for step, times in zip(steps, found):
            start = time.perf_counter()
            step(images, labels)
            times.append((time.perf_counter() - start) * 1e3)
    return StepTimes(kind.__name__, *(statistics.median(times[WARM:]) for times in found))
