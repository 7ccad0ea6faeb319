"""A small classifier of recordings, independent of the models that are evaluated."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavegen.audio.mel import MELS, LogMel

_BATCH = 32


class Classifier(nn.Module):
    """Three convolutions over log-mel energies, averaged over time.

    Args:
        sample_rate: rate of the recordings in Hz.
        classes: number of classes.
    """

    def __init__(self, sample_rate: int, classes: int) -> None:
        super().__init__()
        self.log_mel = LogMel(sample_rate)
        self.layers = nn.Sequential(
            *_layer(MELS, 64), *_layer(64, 64), *_layer(64, 64), nn.Dropout(0.3)
        )
        self.output = nn.Linear(2 * 64, classes)

    def forward(self, waves: Tensor) -> Tensor:
        """Logits (B, classes) of waveforms float32 (B, time), padded with zeros."""
        hidden = self.layers(self.log_mel(waves))
        return self.output(torch.cat([hidden.mean(-1), hidden.amax(-1)], dim=-1))


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv1d(inputs, outputs, 5, stride=2, padding=2)
    return convolution, nn.BatchNorm1d(outputs), nn.ReLU()


def train(
    waves: Sequence[np.ndarray], targets: np.ndarray, sample_rate: int, epochs: int = 20
) -> Classifier:
    """Train a classifier on N waveforms (time,) and class numbers int64 (N,)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(sample_rate, int(targets.max()) + 1)
        optimiser = torch.optim.AdamW(classifier.parameters(), weight_decay=1e-2)
        steps = epochs * -(-len(waves) // _BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
        for _ in range(epochs):
            for part in _batches(torch.randperm(len(waves)).numpy()):
                batch = padded([waves[n] for n in part])
                # Random loudness, so that the classifier does not depend on loudness.
                batch = batch * 10 ** torch.empty(len(part), 1).uniform_(-0.5, 0.5)
                loss = F.cross_entropy(classifier(batch), torch.from_numpy(targets[part]))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return classifier.requires_grad_(False).eval()


def predict(classifier: Classifier, waves: Sequence[np.ndarray]) -> np.ndarray:
    """The class number of each waveform (time,): int64 (N,)."""
    if not len(waves):
        return np.empty(0, np.int64)
    parts = _batches(np.arange(len(waves)))
    given = [classifier(padded([waves[n] for n in part])).argmax(-1) for part in parts]
    return torch.cat(given).numpy()


def _batches(order: np.ndarray) -> list[np.ndarray]:
    """Split into equal parts, since batch normalisation cannot train on a single clip."""
    return np.array_split(order, -(-len(order) // _BATCH))


def padded(waves: Sequence[np.ndarray]) -> Tensor:
    """Waveforms (time,) as one zero-padded float32 (B, time)."""
    batch = torch.zeros(len(waves), max(map(len, waves)))
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(np.asarray(wave, np.float32))
    return batch
