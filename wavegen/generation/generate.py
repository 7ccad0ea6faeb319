"""From requests to waveforms, in chunks."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from wavegen.data import labels as labelling
from wavegen.data.labels import Labels
from wavegen.distributions.sampling import Sampling, stream_noise
from wavegen.engines import memory
from wavegen.engines.base import Engine
from wavegen.engines.choice import choose
from wavegen.errors import ConfigError
from wavegen.models.base import Network
from wavegen.models.condition import Condition
from wavegen.models.config import ModelConfig
from wavegen.models.serialization import load_model
from wavegen.utils.device import free_memory
from wavegen.utils.numbers import whole_number

T = TypeVar("T")

# Streams generated side by side at most; more are done in rounds, so that neither memory nor
# the number of open files grows with the request.
_ROUND = {"cpu": 64, "cuda": 4096}
# Samples between two writes and two looks at the progress.
_CHUNK = 1024
# A WAV counts its bytes in 32 bits.
MOST_SAMPLES = (2**32 - 1024) // 2


@dataclass(frozen=True)
class Stream:
    """One sequence to generate.

    Args:
        labels: attribute -> class; what is left out is unspecified.
        index: which of the streams with these labels, 0 to 2^64 - 1; with the seed it gives the
            noise.

    Raises:
        ConfigError: labels or an index of another kind.
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
        labels: attribute -> class for all streams, or one such dictionary for each kind of
            stream wanted; attributes left out are unspecified.
        count: streams for each dictionary of labels.
        seconds: length of each.
        seed: with a stream's number among those of its labels it determines the noise.
        prompt: waveform (time,) at the model's rate to go on from; not part of the result.
        sampling: how codes are drawn; plain sampling if not given.
        engine: one of `wavegen.engines.choice.ENGINES`; "auto" takes few streams to the CPU
            though the network may lie on a GPU.
        precision: of the weights, one of `wavegen.engines.precision.PRECISIONS`.

    Returns:
        float32 (streams, time), `count` of the first labels first.

    Raises:
        ConfigError, LabelError, ModelError: as their messages say.
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
) -> np.ndarray:
    """What `stream_chunks` yields of any number of streams, float32 (streams, samples)."""
    waveforms = [
        np.concatenate(list(stream_chunks(engine, part, samples, seed, sampling, prompt)), axis=1)
        for part in rounds(streams, engine.network)
    ]
    return np.concatenate(waveforms) if waveforms else np.empty((0, samples), dtype=np.float32)


def stream_chunks(
    engine: Engine,
    streams: Sequence[Stream],
    samples: int,
    seed: int = 0,
    sampling: Sampling | None = None,
    prompt: np.ndarray | None = None,
    chunk: int = _CHUNK,
) -> Iterator[np.ndarray]:
    """Generate streams side by side, a chunk of time after another.

    Args:
        engine: whose network, in evaluation mode, speaks.
        streams: B of them, of any labels.
        samples: length of each.
        seed: 0 to 2^64 - 1.
        sampling: how codes are drawn; plain sampling if not given.
        prompt: waveform (time,) at the network's rate to go on from.
        chunk: samples of a chunk; the result does not depend on it.

    Yields:
        float32 (B, chunk), the last one shorter where `chunk` does not divide `samples`.
    """
    sampling = sampling or Sampling()
    network, config = engine.network, engine.network.config
    check_seed(seed)
    device = network.device
    rows = [tuple(labelling.encode(stream.labels, config.labels)) for stream in streams]
    # Each kind once: what streams of equal labels begin from is equal to the last bit.
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(rows))}
    kinds = torch.tensor(list(numbers), dtype=torch.int64, device=device)
    codes = None
    if prompt is not None:
        codes = _heard(prompt, config).to(device).expand(len(streams), -1)
    with torch.inference_mode():
        bias = network.conditioning(Condition(kinds))[[numbers[row] for row in rows]]
        unspecified = network.conditioning(network.unspecified()).expand_as(bias)
    engine.start(bias, sampling, unspecified=unspecified, prompt=codes)
    indices = [stream.index for stream in streams]
    for start in range(0, samples, chunk):
        noise = stream_noise(seed, indices, start, min(chunk, samples - start))
        drawn = engine.generate(torch.from_numpy(noise))
        yield config.codec.decode(drawn.cpu().numpy())


def _heard(prompt: np.ndarray, config: ModelConfig) -> torch.Tensor:
    """Codes (time,) of a prompt, its last receptive field; `ConfigError` if it is no waveform."""
    if prompt.ndim != 1 or prompt.dtype.kind != "f":
        raise ConfigError(f"the prompt is {prompt.dtype} {prompt.shape}: it must be float (time,)")
    # What was longer ago changes nothing.
    heard = prompt if config.receptive_field is None else prompt[-config.receptive_field :]
    if not np.isfinite(heard).all():
        raise ConfigError("the prompt holds NaN or infinity: repair it or leave it out")
    return torch.from_numpy(config.codec.encode(heard))


def sample_count(seconds: float, sample_rate: int) -> int:
    """Samples in `seconds`, at least one; `ConfigError` where that makes no sense."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"seconds is {seconds}: it must be above 0")
    if seconds * sample_rate > MOST_SAMPLES:
        most = MOST_SAMPLES // sample_rate
        raise ConfigError(f"seconds is {seconds}: a WAV file at {sample_rate} Hz holds {most}")
    return max(1, round(seconds * sample_rate))


def check_seed(seed: int) -> None:
    """`ConfigError` where noise cannot be made from the seed."""
    whole_number("seed", seed, 0, 2**64 - 1)


def rounds(
    streams: Sequence[T], network: Network, most: int | None = None
) -> Iterable[Sequence[T]]:
    """The streams, or what stands for them, in parts that are generated side by side.

    Args:
        streams: all of them.
        network: where it lies decides how many fit.
        most: streams of a part, if there is a limit besides.
    """
    device = network.device
    size = _ROUND.get(device.type, _ROUND["cpu"])
    if device.type == "cuda":
        each, besides = memory.of_streams(network)
        # Half of it: of what the rest needs nothing is known.
        size = max(1, min(size, (free_memory(device) - besides) // 2 // each))
    size = min(size, most or size)
    return (streams[first : first + size] for first in range(0, len(streams), size))
