"""The methods of a model that generate waveforms."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavegen.api.audio import Audio, is_several, read_waveform
from wavegen.data import labels as labelling
from wavegen.data.clip_features import ComputedFrames
from wavegen.distributions.sampling import Sampling
from wavegen.engines.base import Engine
from wavegen.engines.choice import FEW_STREAMS, choose
from wavegen.errors import ConfigError
from wavegen.generation.conditions import check_frames
from wavegen.generation.generate import Stream, sample_count, stream_chunks, whole_streams
from wavegen.generation.live import latency, live_chunks
from wavegen.generation.resynthesis import feature_set_of, of_similar_lengths
from wavegen.generation.transposition import transposed
from wavegen.models.base import Network
from wavegen.models.config import ModelConfig

Recording = str | Path | np.ndarray | torch.Tensor | Sequence[float]
Recordings = Recording | Sequence[Recording]


class Generating:
    """A network that generates; `wavegen.Model` inherits this.

    Attributes:
        network: the `torch.nn.Module`.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        # Engines that no call is using, by whether they are for few streams.
        self._idle: dict[bool, list[Engine]] = {False: [], True: []}
        self._versions: list[int] = []

    @property
    def config(self) -> ModelConfig:
        """The architecture, the rate and the labels."""
        return self.network.config

    @property
    def sample_rate(self) -> int:
        """The sample rate of the model in Hz."""
        return self.config.sample_rate

    @property
    def latency(self) -> float:
        """Seconds from the beginning of a frame of features to the first sample that uses it.

        When `stream` gets features that arrive, it waits for the frames that it looks ahead at.
        """
        return latency(self.network) / self.sample_rate

    def generate(
        self,
        *,
        count: int | None = None,
        seconds: float | None = None,
        seed: int = 0,
        prompt: Recording | None = None,
        prompt_rate: int | None = None,
        features: Any = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance: float = 1.0,
        labels: Mapping[str, object] | None = None,
        **attributes: object,
    ) -> Audio:
        """Generate waveforms; equal arguments give equal samples.

        Args:
            count: number of waveforms; without it a single waveform is returned.
            seconds: length of each waveform; by default 1, or the length of the features.
            seed: seed of the random numbers.
            prompt: recording to continue; it is not part of the result.
            prompt_rate: rate in Hz of a prompt that is a waveform; by default the model's.
            features: frames float (F, D) that condition a model with features, for all waveforms;
                they start with the prompt. By default unspecified. See `features`.
            temperature: below 1, likely codes become likelier; 0 always takes the likeliest.
            top_k: draw only from this many of the likeliest codes.
            top_p: draw only from the fewest likeliest codes that together have this probability.
            guidance: above 1, the labels have more influence than they had in training.
            labels: attribute -> class.
            attributes: attribute=class, instead of `labels`.

        Returns:
            float32 (time,), or (count, time) if `count` is given.

        Raises:
            ConfigError: an argument is out of range.
            LabelError: an attribute or a class is unknown.
            AudioFileError: the prompt cannot be read.
        """
        kind = self._kind(labels, attributes)
        sampling = Sampling(temperature, top_k, top_p, guidance)
        frames = None if features is None else [self._frames(features)]
        given = None if prompt is None else read_waveform(prompt, prompt_rate, self.sample_rate)
        if seconds is not None or frames is None:
            samples = sample_count(1.0 if seconds is None else seconds, self.sample_rate)
        else:
            past = 0 if given is None else len(given)
            samples = max(1, len(frames[0]) * (self.network.hop or 1) - past)
        streams = [Stream(kind, index) for index in range(1 if count is None else count)]
        with self._engine(len(streams)) as engine:
            waves = whole_streams(engine, streams, samples, seed, sampling, given, frames)
        return Audio(waves[0] if count is None else waves, self.sample_rate)

    def stream(
        self,
        *,
        seed: int = 0,
        chunk: int = 1024,
        prompt: Recording | None = None,
        prompt_rate: int | None = None,
        features: Iterable[Any] | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance: float = 1.0,
        labels: Mapping[str, object] | None = None,
        **attributes: object,
    ) -> Iterator[Audio]:
        """Generate without end; yields each chunk, float32 (chunk,), as soon as it is made.

        The arguments and the samples are those of `generate`. `features` may be an iterator of
        arrays (F, D), which arrive one after another. Then a chunk is yielded as soon as the
        frames allow it, and the stream ends with them. It takes no prompt.
        """
        kind = self._kind(labels, attributes)
        sampling = Sampling(temperature, top_k, top_p, guidance)
        given = None if prompt is None else read_waveform(prompt, prompt_rate, self.sample_rate)
        if features is not None and given is not None:
            raise ConfigError("features that arrive take no prompt: leave one of them out")

        def chunks() -> Iterator[Audio]:
            with self._engine(1) as engine:
                if features is not None:
                    for each in live_chunks(engine, features, kind, seed, sampling):
                        yield Audio(each, self.sample_rate)
                    return
                parts = stream_chunks(engine, [Stream(kind)], 2**62, seed, sampling, given, chunk)
                for each in parts:
                    yield Audio(each[0], self.sample_rate)

        # The arguments have been checked here, before the first chunk is asked for.
        return chunks()

    def features(self, recording: Recording, sample_rate: int | None = None) -> np.ndarray:
        """Compute the features of a recording, float32 (F, D), by the definition of the model.

        Raises:
            ConfigError: the model has no features.
            AudioFileError: the recording cannot be read.
        """
        waveform = read_waveform(recording, sample_rate, self.sample_rate)
        return feature_set_of(self.network).compute(waveform)

    def resynthesize(
        self,
        recordings: Recordings,
        sample_rate: int | None = None,
        *,
        transpose: float | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance: float = 1.0,
        labels: Mapping[str, object] | None = None,
        **attributes: object,
    ) -> Any:
        """Generate recordings again from their features: an `Audio`, or a list of them.

        The result has the length of the recording. It does not depend on the other recordings.

        Args:
            recordings: one recording, or a list of several.
            sample_rate: rate of waveforms in Hz.
            transpose: semitones to move the pitch by, if the features have a pitch; by default it
                is moved by whole octaves into the range of the training data.
            seed: seed of the random numbers.
            temperature, top_k, top_p, guidance, labels, attributes: as in `generate`.

        Raises:
            ConfigError: the model has no features, or an argument is out of range.
            LabelError: an attribute or a class is unknown.
            AudioFileError: a recording cannot be read.
        """
        kind = self._kind(labels, attributes)
        sampling = Sampling(temperature, top_k, top_p, guidance)
        definition = feature_set_of(self.network)
        several = is_several(recordings)
        parts: Any = recordings if several else [recordings]
        waves = [read_waveform(each, sample_rate, self.sample_rate) for each in parts]
        made: dict[int, Audio] = {}
        for chosen in of_similar_lengths(list(map(len, waves))):
            computed = [ComputedFrames(definition, waves[number]) for number in chosen]
            frames = [transposed(each, self.network, transpose)[0] for each in computed]
            longest = len(waves[chosen[-1]])
            with self._engine(len(chosen)) as engine:
                streams = [Stream(kind)] * len(chosen)
                rows = whole_streams(engine, streams, longest, seed, sampling, frames=frames)
            for number, row in zip(chosen, rows, strict=True):
                made[number] = Audio(row[: len(waves[number])], self.sample_rate)
        results = [made[number] for number in range(len(waves))]
        return results if several else results[0]

    def _frames(self, features: Any) -> np.ndarray:
        """Frames of the caller as float32 (F, D)."""
        if isinstance(features, torch.Tensor):
            features = features.detach().cpu().numpy()
        frames = np.asarray(features, dtype=np.float32)
        check_frames([frames], self.network)
        if not np.isfinite(frames).all():
            raise ConfigError("the features hold NaN or infinity: repair them")
        return frames

    @contextmanager
    def _engine(self, streams: int) -> Iterator[Engine]:
        """Lend one caller the fastest engine for so many streams, and keep it for the next."""
        # Few streams may be generated on the CPU although the network is on a GPU.
        few = self.network.device.type != "cpu" and streams < FEW_STREAMS
        # An engine may hold a copy of the weights, which is out of date after further training.
        versions = [weight._version for weight in self.network.parameters()]
        if versions != self._versions:
            self._versions, self._idle = versions, {False: [], True: []}
        kept = self._idle[few]
        engine = kept.pop() if kept else choose(self.network, streams=streams)
        try:
            yield engine
        finally:
            kept.append(engine)

    def _kind(
        self, labels: Mapping[str, object] | None, attributes: Mapping[str, object]
    ) -> dict[str, str]:
        if labels is not None and not isinstance(labels, Mapping):
            raise ConfigError(f"labels are {labels!r:.40}: give attribute -> class")
        given = {**(labels or {}), **attributes}
        kind = {name: str(each) for name, each in given.items() if each is not None}
        labelling.encode(kind, self.config.labels)
        return kind
