"""From requests to waveforms, in chunks."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from wavegen.data import labels as labelling
from wavegen.data.clip_features import ComputedFrames
from wavegen.data.labels import Labels
from wavegen.distributions.sampling import Sampling, stream_noise
from wavegen.engines import memory
from wavegen.engines.base import Engine
from wavegen.engines.choice import choose
from wavegen.errors import ConfigError
from wavegen.generation.conditions import Conditions
from wavegen.models.base import Network
from wavegen.models.config import ModelConfig
from wavegen.models.serialization import load_model
from wavegen.utils.device import free_memory
from wavegen.utils.numbers import whole_number

T = TypeVar("T")

# Most streams generated at a time. More are generated in rounds, so that memory and the number of
# open files do not grow with the request.
_ROUND = {"cpu": 64, "cuda": 4096}
# Samples between two writes and between two updates of the progress.
_CHUNK = 1024
# A WAV has its size in bytes as a number of 32 bits.
MOST_SAMPLES = (2**32 - 1024) // 2


@dataclass(frozen=True)
class Stream:
    """One sequence to generate.

    Args:
        labels: attribute -> class; an attribute that is left out is unspecified.
        index: number of the stream, 0 to 2^64 - 1; with the seed it determines the noise.

    Raises:
        ConfigError: the labels or the index have a wrong type.
    """

    labels: Labels = field(default_factory=dict)
    index: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.labels, Mapping):
            raise ConfigError(f"labels are {self.labels!r:.40}: give attribute -> class")
        object.__setattr__(self, "index", whole_number("index", self.index, 0, 2**64 - 1))


def generate(
    model: Network | str | Path,
    labels: Labels | Sequence[Labels] | None = None,
    *,
    count: int = 1,
    seconds: float = 1.0,
    seed: int = 0,
    prompt: np.ndarray | None = None,
    sampling: Sampling | None = None,
    engine: str = "auto",
    precision: str = "float32",
) -> np.ndarray:
    """Generate waveforms.

    Args:
        model: a network, or the path of a run folder or model directory.
        labels: attribute -> class for all streams, or several such dictionaries; an attribute
            that is left out is unspecified.
        count: number of streams for each dictionary of labels.
        seconds: length of each stream.
        seed: seed of the noise, together with the number of a stream among those of its labels.
        prompt: waveform (time,) at the rate of the model to continue; not part of the result.
        sampling: how codes are drawn; by default at temperature 1 without limits.
        engine: one of `wavegen.engines.choice.ENGINES`; "auto" may generate few streams on the
            CPU even if the network is on a GPU.
        precision: precision of the weights, one of `wavegen.engines.precision.PRECISIONS`.

    Returns:
        float32 (streams, time); the first `count` streams have the first labels.

    Raises:
        ConfigError: an argument is out of range.
        LabelError: a label is unknown.
        ModelError: the model is missing or damaged.
    """
    network = model if isinstance(model, Network) else load_model(model)
    kinds = [labels or {}] if labels is None or isinstance(labels, Mapping) else labels
    streams = [Stream(kind, index) for kind in kinds for index in range(count)]
    samples = sample_count(seconds, network.config.sample_rate)
    chosen = choose(network, engine, precision, len(streams))
    return whole_streams(chosen, streams, samples, seed, sampling, prompt)


def whole_streams(
    engine: Engine,
    streams: Sequence[Stream],
    samples: int,
    seed: int = 0,
    sampling: Sampling | None = None,
    prompt: np.ndarray | None = None,
    frames: Sequence[Any] | None = None,
) -> np.ndarray:
    """Generate any number of whole streams, see `stream_chunks`: float32 (streams, samples)."""
    waveforms, done = [], 0
    for part in rounds(streams, engine.network):
        own = frames if frames is None or len(frames) == 1 else frames[done : done + len(part)]
        chunks = stream_chunks(engine, part, samples, seed, sampling, prompt, frames=own)
        waveforms.append(np.concatenate(list(chunks), axis=1))
        done += len(part)
    return np.concatenate(waveforms) if waveforms else np.empty((0, samples), dtype=np.float32)


def stream_chunks(
    engine: Engine,
    streams: Sequence[Stream],
    samples: int,
    seed: int = 0,
    sampling: Sampling | None = None,
    prompt: np.ndarray | None = None,
    chunk: int = _CHUNK,
    frames: Sequence[Any] | None = None,
) -> Iterator[np.ndarray]:
    """Generate streams together, one chunk of time after another.

    Args:
        engine: engine of a network in evaluation mode.
        streams: B streams, with any labels.
        samples: length of each stream.
        seed: 0 to 2^64 - 1.
        sampling: how codes are drawn; by default at temperature 1 without limits.
        prompt: waveform (time,) at the rate of the network to continue.
        chunk: samples of a chunk; the result does not depend on it.
        frames: frames float32 (F, D) of each stream, or of one for all; only slices are read. They
            start with the prompt, and the last one is repeated. By default those of features that
            depend only on the time are computed, and others are unspecified.

    Yields:
        float32 (B, chunk); the last one is shorter if `chunk` does not divide `samples`.

    Raises:
        ConfigError: the network takes no frames, or frames of another size.
    """
    sampling = sampling or Sampling()
    network, config = engine.network, engine.network.config
    check_seed(seed)
    rows = [tuple(labelling.encode(stream.labels, config.labels)) for stream in streams]
    features = config.feature_set
    if frames is None and features is not None and features.of_time:
        # A recording without end, whose sound is not needed.
        frames = [ComputedFrames(features, range(2**62))]
    codes, past, skipped = None, 0, 0
    if prompt is not None:
        if prompt.ndim != 1 or prompt.dtype.kind != "f":
            shape = f"{prompt.dtype} {prompt.shape}"
            raise ConfigError(f"the prompt is {shape}: it must be float (time,)")
        # Samples before the receptive field have no influence. Whole frames of them are left out,
        # so that the other frames keep their places.
        hop = 1 if frames is None else network.hop or 1
        field = config.receptive_field or len(prompt)
        skipped = max(0, len(prompt) - field) // hop
        codes = _prompt_codes(prompt[skipped * hop :], config)
        codes = codes.to(network.device).expand(len(streams), -1)
        past = codes.shape[1]
    conditions = Conditions(network, rows, frames, skipped, past)
    bias, unspecified = conditions.start(min(chunk, samples))
    engine.start(bias, sampling, unspecified=unspecified, prompt=codes)
    indices = [stream.index for stream in streams]
    for start in range(0, samples, chunk):
        stop = min(start + chunk, samples)
        conditions.extend(engine, stop)
        yield draw(engine, seed, indices, start, stop)


def draw(engine: Engine, seed: int, indices: Sequence[int], start: int, stop: int) -> np.ndarray:
    """Generate the samples `start` to `stop` - 1 of running streams, float32 (B, samples)."""
    noise = stream_noise(seed, indices, start, stop - start)
    drawn = engine.generate(torch.from_numpy(noise))
    return engine.network.config.codec.decode(drawn.cpu().numpy())


def _prompt_codes(prompt: np.ndarray, config: ModelConfig) -> torch.Tensor:
    """Codes (time,) of a prompt; `ConfigError` if it is not finite."""
    if not np.isfinite(prompt).all():
        raise ConfigError("the prompt holds NaN or infinity: repair it or leave it out")
    return torch.from_numpy(config.codec.encode(prompt))


def sample_count(seconds: float, sample_rate: int) -> int:
    """Number of samples in `seconds`, at least one; `ConfigError` if `seconds` is invalid."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"seconds is {seconds}: it must be above 0")
    if seconds * sample_rate > MOST_SAMPLES:
        most = MOST_SAMPLES // sample_rate
        raise ConfigError(f"seconds is {seconds}: a WAV file at {sample_rate} Hz holds {most}")
    return max(1, round(seconds * sample_rate))


def check_seed(seed: int) -> None:
    """Raise `ConfigError` if the seed is not from 0 to 2^64 - 1."""
    whole_number("seed", seed, 0, 2**64 - 1)


def rounds(
    streams: Sequence[T], network: Network, most: int | None = None
) -> Iterable[Sequence[T]]:
    """Split streams, or a sequence with an item for each, into parts to generate together.

    Args:
        streams: all streams.
        network: the network; the memory of its device limits the size of a part.
        most: another limit on the streams of a part.
    """
    device = network.device
    size = _ROUND.get(device.type, _ROUND["cpu"])
    if device.type == "cuda":
        each, besides = memory.of_streams(network)
        # Only half of the memory, since the needs of other parts are not known.
        size = max(1, min(size, (free_memory(device) - besides) // 2 // each))
    size = min(size, most or size)
    return (streams[first : first + size] for first in range(0, len(streams), size))
