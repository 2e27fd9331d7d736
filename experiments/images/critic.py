"""A small classifier of images: its features and its answers judge images that models draw."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from experiments.images.data import Split

__all__ = ["NUM_FEATURES", "Critic", "trained_critic"]

NUM_FEATURES = 32
NUM_CLASSES = 10


class Critic(nn.Module):
    """Two convolutions and a hidden layer, whose values before the last are the features."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(32 * (side // 2) ** 2, NUM_FEATURES),
            nn.Tanh(),
        )
        self.classes = nn.Linear(NUM_FEATURES, NUM_CLASSES)
        self.float()  # whatever the default is

    def forward(self, images: Tensor) -> Tensor:
        """``(*batch, 10)`` logits from ``(*batch, n)`` pixels in [0, 1]."""
        return self.classes(self.features(self._as_pictures(images)))

    def _as_pictures(self, images: Tensor) -> Tensor:
        return images.reshape(-1, 1, self.side, self.side)

    @torch.no_grad()
    def judge(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(images, 32)`` features and ``(images,)`` classes of ``(images, n)`` pixels."""
        pictures = self._as_pictures(torch.as_tensor(np.asarray(images), dtype=torch.float32))
        features = torch.cat([self.features(part) for part in pictures.split(1000)])
        return features.double().numpy(), self.classes(features).argmax(-1).numpy()


def trained_critic(split: Split, path: Path | None = None, steps: int = 1500) -> Critic:
    """The same critic for all methods and seeds, trained on the training images.

    Args:
        split: the images.
        path: kept there, and read from there if it exists.
        steps: of Adam, with batches of 128.
    """
    critic = Critic(split.side)
    if path is not None and path.exists():
        critic.load_state_dict(torch.load(path, weights_only=True))
        return critic.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        critic = _train(Critic(split.side), split, steps)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(critic.state_dict(), path)
    return critic.eval()


def _train(critic: Critic, split: Split, steps: int) -> Critic:
    images = torch.as_tensor(split.train, dtype=torch.float32)
    labels = torch.as_tensor(split.train_labels)
    optimiser = torch.optim.Adam(critic.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        rows = torch.randint(len(images), (128,))
        levels = images[rows]
        logits = critic((levels + torch.rand_like(levels)) / split.levels)
        loss = nn.functional.cross_entropy(logits, labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return critic
