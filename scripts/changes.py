"""The changes to a recipe that `ablation.py` tries, and training with one of them.

python scripts/changes.py NAME RESULT.json OPTIONS OF TRAINING ...

A change is a set of options of `wavegen train`, or a patch of the package. So ideas that do not
help stay out of the package, and can still be tried again.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from machine import run
from torch import Tensor, nn

from wavegen.audio import presets
from wavegen.data import batches
from wavegen.data.corpus import Batch, Corpus
from wavegen.models import wavenet
from wavegen.models.condition import Condition
from wavegen.models.config import WaveNetConfig
from wavegen.models.frame_encoder import FrameEncoder
from wavegen.models.wavenet import WaveNet
from wavegen.training import train as train_command
from wavegen.training.lightning_module import LitWaveNet


@dataclass(frozen=True)
class Change:
    """A change: its description, and the options or the patch that make it."""

    about: str
    options: str = ""
    patch: Callable[[], object] | None = None


def train(name: str, result: Path, options: list[str]) -> None:
    """Train with a change, and write held-out bits, steps and parameters as JSON."""
    torch.set_num_threads(1)
    change = CHANGES[name]
    if change.patch:
        change.patch()
    figures: dict[str, Any] = {}
    compute = LitWaveNet.validation_figures

    def recorded(self: LitWaveNet) -> dict[str, float]:
        found = compute(self)
        parameters = sum(each.numel() for each in self.network.parameters())
        figures.update(found, steps=self.trainer.global_step, parameters=parameters)
        return found

    _replace(LitWaveNet, "validation_figures", recorded)
    train_command.train([*options, *change.options.split()])
    result.write_text(json.dumps(figures))


def _replace(owner: object, name: str, value: object) -> None:
    """Patch an attribute; `AttributeError` where the owner no longer has it."""
    getattr(owner, name)
    setattr(owner, name, value)


def _labels_are_added() -> None:
    begin = WaveNet.__init__

    class Nothing(nn.Module):
        def forward(self, labels: Tensor) -> Tensor:
            return torch.zeros_like(labels)

    def made(self: WaveNet, config: WaveNetConfig, fused: bool = False) -> None:
        begin(self, config, fused)
        self.mixing = Nothing()  # type: ignore[assignment]

    _replace(WaveNet, "__init__", made)


def _shortcut() -> None:
    """The newest code goes straight to the skip sum."""
    begin = WaveNet.__init__

    def made(self: WaveNet, config: WaveNetConfig, fused: bool = False) -> None:
        begin(self, config, fused)
        self.shortcut = nn.Embedding(config.quantization_channels + 1, config.skip_channels)
        nn.init.zeros_(self.shortcut.weight)

    def predict(
        self: WaveNet,
        inputs: Tensor,
        bias: Tensor,
        beginning: bool = False,
        first: Tensor | None = None,
    ) -> Tensor:
        gates = [gate for _, gate in self.activations(inputs, bias, beginning, first)]
        time = len(gates[-1])
        total = self.skip(torch.cat([gate[-time:] for gate in gates], dim=-1))
        total = total + self.shortcut(inputs[:, -time:].t()).to(total.dtype)
        return self.output(F.relu(self.hidden(F.relu(total)))).transpose(0, 1)

    _replace(WaveNet, "__init__", made)
    _replace(WaveNet, "predict", predict)


def _dilations(*exponents: int) -> None:
    every = tuple(2**exponent for exponent in exponents)
    field = property(lambda self: 1 + (self.kernel_size - 1) * sum(self.dilations))
    _replace(WaveNetConfig, "dilations", property(lambda _: every))
    _replace(WaveNetConfig, "receptive_field", field)


class _Block:
    """`wavegen.models.wavenet_block.Block` by autograd, with another gate or a normalisation."""

    def __init__(self, gate: Callable[[Tensor, Tensor], Tensor], normalised: bool = False) -> None:
        self.gate, self.normalised = gate, normalised

    def apply(
        self,
        stream: Tensor,
        bias: Tensor,
        kernel: Tensor,
        weight: Tensor | None,
        projection_bias: Tensor | None,
        dilation: int,
        beginning: bool,
        _: str,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        back = (len(kernel) - 1) * dilation
        if beginning:
            stream = torch.cat([stream[:1].expand(back, -1, -1), stream])
        source = F.rms_norm(stream, stream.shape[-1:]) if self.normalised else stream
        time = len(stream) - back
        total = bias if rows is None else bias[rows].view(time, stream.shape[1], bias.shape[1])
        for tap, part in enumerate(kernel):
            total = total + source[tap * dilation :][:time] @ part.t()
        filtered, gate = (half.contiguous() for half in total.chunk(2, dim=2))
        gated = self.gate(filtered, gate)
        if weight is None:
            return stream[back:], gated
        return stream[back:] + gated @ weight.t() + projection_bias, gated


def _linear(filtered: Tensor, gate: Tensor) -> Tensor:
    return filtered * gate.sigmoid()


def _block(**otherwise: Any) -> None:
    _replace(wavenet, "Block", _Block(**{"gate": _linear, **otherwise}))


def _finer_frames(samples: int, learned: bool) -> None:
    """The bias changes after so many samples: frames are split or interpolated."""
    begin, rows, forward = FrameEncoder.__init__, WaveNet._rows, FrameEncoder.forward

    def made(self: FrameEncoder, features: int, channels: int, *pitch: int) -> None:
        begin(self, features, channels, *pitch)
        # The default hop of features at 8 kHz is 64 samples.
        self.parts = 64 // samples
        if learned:
            self.second = nn.Conv1d(channels, channels * self.parts, 3)
            self.unspecified = nn.Parameter(torch.zeros(channels * self.parts))

    def split(self: FrameEncoder, frames: Tensor | None, streams: int) -> Tensor:
        coarse = forward(self, frames, streams)
        parts = coarse.unflatten(2, (self.parts if learned else 1, -1))
        if frames is None:
            return parts.mean(2)
        if learned:
            return parts.flatten(1, 2)
        finer = F.interpolate(coarse.transpose(1, 2), scale_factor=self.parts, mode="linear")
        return finer.transpose(1, 2)

    def finer(self: WaveNet, bias: Tensor, time: int, first: Tensor | None) -> Tensor | None:
        with mock.patch.object(WaveNet, "hop", samples):
            return rows(self, bias, time, first)

    _replace(FrameEncoder, "__init__", made)
    _replace(FrameEncoder, "forward", split)
    _replace(WaveNet, "_rows", finer)


def _neighbours(share: float) -> None:
    """A share of the target is on the neighbouring codes; it falls to 0 during training."""

    def step(self: LitWaveNet, batch: Batch, _: int) -> Tensor:
        inputs, targets = batch["inputs"], batch["targets"]
        conditioning = self.network.conditioning(Condition(batch["labels"]))
        logits = self.network.predict(inputs, conditioning, batch["beginning"])
        there = targets >= 0
        likelihoods, codes = logits[there].float().log_softmax(-1), targets[there][:, None]
        beside = (codes + torch.tensor([-1, 1])).clamp(0, logits.shape[-1] - 1)
        left = share * (1 - self.progress(self.trainer.global_step))
        own, others = (likelihoods.gather(1, each).mean() for each in (codes, beside))
        loss = -((1 - left) * own + left * others)
        self._watch.look(loss, batch["clips"])
        return loss

    _replace(LitWaveNet, "training_step", step)


def _augmented(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> None:
    """Every crop is taken from a randomly changed recording."""
    begin = batches.TrainingCrops.__init__
    chance = np.random.default_rng(0)

    class Store:
        def __init__(self, store: Any) -> None:
            self.store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self.store, name)

        def waveform(self, clip: int) -> np.ndarray:
            return change(np.asarray(self.store.waveform(clip)), chance)

    def made(self: batches.TrainingCrops, corpus: Corpus, *rest: Any) -> None:
        begin(self, dataclasses.replace(corpus, store=Store(corpus.store)), *rest)  # type: ignore

    _replace(batches.TrainingCrops, "__init__", made)


def _louder(waveform: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    return waveform * 10 ** chance.uniform(-0.2, 0.2)


def _faster(waveform: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Resampled to another length, then cut or padded to the old one."""
    length = round(len(waveform) * chance.uniform(0.93, 1.07))
    spectrum = np.fft.rfft(waveform)
    spectrum = np.pad(spectrum, (0, max(0, length // 2 + 1 - len(spectrum))))[: length // 2 + 1]
    changed = np.fft.irfft(spectrum, length) * (length / len(waveform))
    changed = np.pad(changed, (0, max(0, len(waveform) - length)))[: len(waveform)]
    return changed.astype(np.float32)


def _dropout(chance: float) -> None:
    """Dropout on the gated outputs in the skip sum."""
    head = WaveNet.head
    _replace(
        WaveNet, "head", lambda self, gates: head(self, F.dropout(gates, chance, self.training))
    )


def _schedule(fall: Callable[[float], float]) -> None:
    """After the warm-up, the learning rate is a function of the completed share of training."""

    def factor(self: LitWaveNet, step: int) -> float:
        return min(1.0, (step + 1) / self.warmup_steps) * fall(self.progress(step))

    _replace(LitWaveNet, "_learning_rate_factor", factor)


_NET = "--model.network."
_MEL = "--data.features [log_mel]"
CHANGES = {
    "none": Change("the recipe as it is"),
    # The parts of the recipe.
    "tanh": Change("tanh gates", f"{_NET}gate tanh"),
    "adamw": Change("AdamW for everything", "--model.optimizer adamw"),
    "labels-added": Change("labels added, without a hidden layer", patch=_labels_are_added),
    "no-amplitude": Change(
        "no amplitudes in the embedding", patch=partial(_replace, wavenet, "_GAINS", ())
    ),
    # The network.
    "bilinear": Change("gates without a sigmoid", patch=partial(_block, gate=torch.mul)),
    "normalised": Change(
        "RMSNorm before every convolution", patch=partial(_block, normalised=True)
    ),
    "shortcut": Change("the newest code goes straight to the skip sum", patch=_shortcut),
    "wide": Change(
        "R64 G128 S256",
        f"{_NET}residual_channels 64 {_NET}gate_channels 128 {_NET}skip_channels 256",
    ),
    "wide-gates": Change("G128", f"{_NET}gate_channels 128"),
    "wide-skip": Change("S256", f"{_NET}skip_channels 256"),
    "deep": Change("L30, three stacks", f"{_NET}layers 30 {_NET}stacks 3"),
    "shallow": Change("L16, field 511", f"{_NET}layers 16"),
    "three-taps": Change("L20, three taps, field 4,093", f"{_NET}layers 20 {_NET}kernel_size 3"),
    "near": Change("L20, field 2,047", f"{_NET}layers 20"),
    "uneven": Change(
        "stacks of 12 and 10, field 5,119", patch=partial(_dilations, *range(12), *range(10))
    ),
    # Features that change with time.
    "mel": Change("log-mel, a bias for each frame", _MEL),
    "mel-long": Change(
        "log-mel, twice the hop and window", _MEL, partial(_replace, presets, "_hop", lambda _: 128)
    ),
    "mel-linear": Change("log-mel, interpolated", _MEL, partial(_finer_frames, 16, learned=False)),
    "mel-learned": Change(
        "log-mel, frames split by a convolution", _MEL, partial(_finer_frames, 16, learned=True)
    ),
    # Training.
    "slower": Change("learning rate 3e-3", "--model.learning_rate 3e-3"),
    "faster": Change("learning rate 1.2e-2", "--model.learning_rate 1.2e-2"),
    "linear-fall": Change(
        "learning rate falls linearly", patch=partial(_schedule, lambda share: 1 - share)
    ),
    "late-fall": Change(
        "learning rate falls linearly, over the last third",
        patch=partial(_schedule, lambda share: min(1.0, 3 * (1 - share))),
    ),
    "no-fall": Change("learning rate does not fall", patch=partial(_schedule, lambda _: 1.0)),
    "batch-1": Change("batches of half the size", "--data.batch_size 1"),
    "batch-4": Change("batches of twice the size", "--data.batch_size 4"),
    "short-crops": Change("crops of 2,048", "--data.crop 2048 --data.batch_size 4"),
    "no-average": Change("no averaged weights", "--ema_decay 0"),
    "long-average": Change("averaged over 5,000 steps", "--ema_decay 0.9998"),
    "little-decay": Change("weight decay 0.01", "--model.weight_decay 0.01"),
    "no-decay": Change("no weight decay", "--model.weight_decay 0"),
    "all-labels": Change("no label is left out", "--data.label_dropout 0"),
    "dropout": Change("a tenth of the gates left out", patch=partial(_dropout, 0.1)),
    "neighbours": Change("30 % on neighbouring codes at first", patch=partial(_neighbours, 0.3)),
    "gain": Change("4 dB louder or quieter by chance", patch=partial(_augmented, _louder)),
    "speed": Change("7 % faster or slower by chance", patch=partial(_augmented, _faster)),
}


def main() -> int:
    """Train with the named change."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("name", choices=CHANGES)
    parser.add_argument("result", type=Path)
    asked, options = parser.parse_known_args()
    train(asked.name, asked.result, options)
    return 0


if __name__ == "__main__":
    run(main)
