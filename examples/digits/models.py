"""The two models, their data and their training, in plain PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from rich.progress import Progress
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

BATCH, RATE = 64, 1e-2


class DigitsCNN(nn.Module):
    """Images f32[N,1,8,8] -> logits f32[N,10]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip
        self.head = nn.Linear(32, 10)

    def forward(self, image):
        return self.head(self.features(image).flatten(1))


class DigitsLSTM(nn.Module):
    """Images f32[N,1,8,8], each row a time step -> logits f32[N,10]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 48, batch_first=True)
        self.head = nn.Linear(48, 10)

    def forward(self, image):
        steps, _ = self.lstm(image.squeeze(1))
        return self.head(steps[:, -1])


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


def train(kind: type[nn.Module], data: Digits, progress: Progress, epochs: int = 30) -> nn.Module:
    """Adam on cross-entropy, its rate lowered over the run; a new model in eval mode."""
    torch.manual_seed(0)
    model = kind()
    rounds = -(-len(data.train_images) // BATCH)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, epochs * rounds)
    name = kind.__name__
    task = progress.add_task(f"training {name}", total=epochs)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(data.train_images)).split(BATCH):
            loss = nn.functional.cross_entropy(
                model(data.train_images[batch]), data.train_labels[batch]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        progress.update(task, advance=1, description=f"training {name}, loss {loss:.3f}")
    return model.eval()
