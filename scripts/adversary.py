"""A small classifier of recordings, and audio changed a little to fool it."""

from collections.abc import Sequence

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MELS = 40
_BATCH = 32


class Classifier(nn.Module):
    """Three convolutions over log-mel energies, averaged over time.

    Args:
        sample_rate: in Hz.
        classes: how many.
    """

    def __init__(self, sample_rate: int, classes: int) -> None:
        super().__init__()
        self.frame, self.hop = round(0.032 * sample_rate), round(0.01 * sample_rate)
        mels = librosa.filters.mel(sr=sample_rate, n_fft=self.frame, n_mels=_MELS)
        self.register_buffer("mels", torch.from_numpy(mels))
        self.register_buffer("window", torch.hann_window(self.frame))
        self.layers = nn.Sequential(
            *_layer(_MELS, 64), *_layer(64, 64), *_layer(64, 64), nn.Dropout(0.3)
        )
        self.output = nn.Linear(2 * 64, classes)

    def forward(self, waves: Tensor) -> Tensor:
        """Logits (B, classes) of waveforms float32 (B, time), padded with zeros."""
        spectrum = torch.stft(
            waves,
            self.frame,
            self.hop,
            window=self.window,
            return_complex=True,
            pad_mode="constant",
        )
        energy = self.mels @ (spectrum.real**2 + spectrum.imag**2)
        hidden = self.layers((energy + 1e-6).log())
        return self.output(torch.cat([hidden.mean(-1), hidden.amax(-1)], dim=-1))


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv1d(inputs, outputs, 5, stride=2, padding=2)
    return convolution, nn.BatchNorm1d(outputs), nn.ReLU()


def train(
    waves: Sequence[np.ndarray], targets: np.ndarray, sample_rate: int, epochs: int = 20
) -> Classifier:
    """A classifier of waveforms (time,) by class numbers int64 (N,)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(sample_rate, int(targets.max()) + 1)
        optimiser = torch.optim.AdamW(classifier.parameters(), weight_decay=1e-2)
        steps = epochs * -(-len(waves) // _BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
        for _ in range(epochs):
            for part in torch.randperm(len(waves)).split(_BATCH):
                batch = padded([waves[n] for n in part])
                # Not so used to one loudness that a change of it fools it.
                batch = batch * 10 ** torch.empty(len(part), 1).uniform_(-0.5, 0.5)
                loss = F.cross_entropy(classifier(batch), torch.from_numpy(targets[part]))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return classifier.requires_grad_(False).eval()


def accuracy(classifier: Classifier, waves: Sequence[np.ndarray], targets: np.ndarray) -> float:
    """Share of waveforms that are given their class."""
    parts = np.array_split(np.arange(len(waves)), -(-len(waves) // _BATCH))
    given = [classifier(padded([waves[n] for n in part])).argmax(-1) for part in parts]
    return float(np.mean(torch.cat(given).numpy() == targets))


def attacked(
    classifier: Classifier,
    waves: Sequence[np.ndarray],
    targets: np.ndarray,
    strength: float,
    steps: int = 20,
) -> list[np.ndarray]:
    """The waveforms, each sample moved by at most `strength` so that the classifier errs.

    Projected gradient descent within the L-infinity ball (Madry et al. 2018, "Towards deep
    learning models resistant to adversarial attacks"), from a random point of it.
    """
    result: list[np.ndarray] = []
    generator = torch.Generator().manual_seed(0)
    for part in np.array_split(np.arange(len(waves)), -(-len(waves) // _BATCH)):
        clean = padded([waves[n] for n in part])
        inside = padded([np.ones(len(waves[n])) for n in part])
        change = strength * (2 * torch.rand(clean.shape, generator=generator) - 1)
        for _ in range(steps):
            change.requires_grad_(True)
            # What comes after the end of a recording is not the adversary's to change.
            logits = classifier((clean + change * inside).clamp(-1, 1))
            loss = F.cross_entropy(logits, torch.from_numpy(targets[part]))
            (gradient,) = torch.autograd.grad(loss, change)
            change = change.detach() + 4 * strength / steps * gradient.sign()
            change = change.clamp(-strength, strength)
        moved = (clean + change).clamp(-1, 1).numpy()
        result += [moved[row, : len(waves[n])] for row, n in enumerate(part)]
    return result


def padded(waves: Sequence[np.ndarray]) -> Tensor:
    """Waveforms (time,) as one float32 (B, time)."""
    batch = torch.zeros(len(waves), max(map(len, waves)))
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(np.asarray(wave, np.float32))
    return batch
