"""Generation with features: in parts, in batches, after prompts, and as frames arrive."""

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import small
import torch

from wavegen.audio.features import parse
from wavegen.codecs import mulaw
from wavegen.data.labels import label_ids
from wavegen.distributions.sampling import Sampling, stream_noise
from wavegen.engines.cpu.wavenet_engine import NumbaCPU
from wavegen.engines.reference import TorchQueue
from wavegen.errors import ConfigError
from wavegen.generation.conditions import Conditions
from wavegen.generation.generate import Stream, stream_chunks, whole_streams
from wavegen.generation.live import latency, live_chunks
from wavegen.models.condition import Condition

LABELS = {"digit": "1"}


def frames_of(count: int, streams: int = 1, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((count, 8)).astype(np.float32) for _ in range(streams)]


@pytest.fixture(params=[TorchQueue, NumbaCPU])
def engine(request: pytest.FixtureRequest) -> Any:
    network = small.network(labels=small.LABELS, features=small.FEATURES)
    return request.param(network)


def waveform(engine: Any, samples: int, frames: Any, **options: Any) -> np.ndarray:
    streams = [Stream(LABELS, index) for index in range(options.pop("streams", 1))]
    chunks = stream_chunks(engine, streams, samples, 3, frames=frames, **options)
    return np.concatenate(list(chunks), axis=1)


@pytest.mark.parametrize("chunk", [7, 16, 100, 1000])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_samples_do_not_depend_on_chunks(engine: Any, chunk: int, guidance: float) -> None:
    frames, sampling = frames_of(12), Sampling(guidance=guidance)
    whole = waveform(engine, 250, frames, sampling=sampling)
    parts = waveform(engine, 250, frames, sampling=sampling, chunk=chunk)
    assert np.array_equal(parts, whole)
    other = waveform(engine, 250, frames_of(12, seed=1), sampling=sampling)
    assert not np.array_equal(other, whole)


def test_streams_have_their_own_frames(engine: Any) -> None:
    """Also where they are of different lengths: the last one is repeated."""
    frames = frames_of(9, streams=3)
    frames[1] = frames[1][:4]
    together = waveform(engine, 144, frames, streams=3, chunk=50)
    for index, own in enumerate(frames):
        (alone,) = waveform_of(engine, index, own)
        assert (alone == together[index]).mean() > 0.98


def waveform_of(engine: Any, index: int, own: np.ndarray) -> np.ndarray:
    chunks = stream_chunks(engine, [Stream(LABELS, index)], 144, 3, frames=[own])
    return np.concatenate(list(chunks), axis=1)


def test_frames_begin_with_the_prompt(engine: Any) -> None:
    """A prompt longer than the receptive field is cut by whole frames."""
    network, frames = engine.network, frames_of(30)
    whole = waveform(engine, 400, frames)[0]
    labels = label_ids([LABELS], network.config.labels)
    bias = network.conditioning(Condition(labels, torch.from_numpy(frames[0])[None]))
    noise = torch.from_numpy(stream_noise(3, [0], 0, 60))
    for length in (1, 16, 50, 111, 300):
        prompt = whole[:length]
        rest = waveform(engine, 60, frames, prompt=prompt, chunk=9)[0]
        engine.start(bias, Sampling(), prompt=torch.from_numpy(mulaw.encode(prompt))[None])
        expected = mulaw.decode(engine.generate(noise).numpy())[0]
        assert (rest == expected).mean() > 0.98, length


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_frames_that_arrive_give_the_samples_of_all_frames(engine: Any, at_once: int) -> None:
    frames = frames_of(11)[0]
    asked: list[int] = []

    def arriving() -> Iterator[np.ndarray]:
        for begin in range(0, len(frames), at_once):
            asked.append(begin)
            yield frames[begin : begin + at_once]

    chunks = []
    for chunk in live_chunks(engine, arriving(), LABELS, seed=3):
        chunks.append(chunk)
        if at_once == 1 and len(chunks) == 1:
            # The look-ahead of two frames, and the frame itself.
            assert len(asked) == 3
            assert latency(engine.network) == 3 * 16
    expected = waveform(engine, 11 * 16, [frames])
    assert np.array_equal(np.concatenate(chunks), expected[0])


def test_wrong_frames_are_one_line(engine: Any) -> None:
    with pytest.raises(ConfigError, match=r"\(frames, 3\), but the model needs \(frames, 8\)"):
        waveform(engine, 10, [np.zeros((4, 3), np.float32)])
    with pytest.raises(ConfigError, match="at least one"):
        waveform(engine, 10, [np.zeros((0, 8), np.float32)])
    plain = type(engine)(small.network(labels=small.LABELS))
    with pytest.raises(ConfigError, match="has no features"):
        waveform(plain, 10, frames_of(3))
    with pytest.raises(ConfigError, match="has no features"):
        list(live_chunks(plain, frames_of(3)))


def test_rounds_keep_the_frames_of_their_streams(engine: Any, monkeypatch) -> None:
    from wavegen.generation import generate

    frames, streams = frames_of(5, streams=5), [Stream(LABELS, index) for index in range(5)]
    whole = whole_streams(engine, streams, 80, 3, frames=frames)
    monkeypatch.setitem(generate._ROUND, "cpu", 2)
    parts = whole_streams(engine, streams, 80, 3, frames=frames)
    assert (parts == whole).mean() > 0.98


@pytest.mark.parametrize("past", [0, 37])
def test_a_model_of_time_alone_needs_no_features(past: int) -> None:
    """Its frames are those of the time since the beginning, also after a prompt."""
    definition = ({"kind": "position", "sample_rate": 8000, "hop_length": 16},)
    engine = NumbaCPU(small.network(labels=small.LABELS, features=definition))
    features = engine.network.config.feature_set
    frames = [features.compute(np.zeros(400, np.float32))]
    prompt = 0.1 * np.random.default_rng(0).standard_normal(past).astype(np.float32)
    options = {"prompt": prompt if past else None, "chunk": 50, "streams": 2}
    known = waveform(engine, 300, frames, **options)
    assert np.array_equal(waveform(engine, 300, None, **options), known)
    elsewhere = waveform(engine, 300, [frames[0][10:]], **options)
    assert not np.array_equal(elsewhere, known)


class Endless:
    """Frames of an hour, of which only slices are made; it remembers the longest one."""

    longest = 0

    def __len__(self) -> int:
        return 3600 * 8000 // 16

    def __getitem__(self, part: slice) -> np.ndarray:
        begin, end, _ = part.indices(len(self))
        self.longest = max(self.longest, end - begin)
        return np.full((end - begin, 8), 0.1, np.float32)


@pytest.mark.parametrize("arriving", [False, True])
def test_an_hour_of_features_takes_the_memory_of_a_chunk(arriving: bool) -> None:
    """The bias is computed for a chunk of frames at a time, and the past is forgotten."""
    engine, hour = NumbaCPU(small.network(labels=small.LABELS, features=small.FEATURES)), Endless()
    if arriving:
        frames = (hour[number : number + 1] for number in range(len(hour)))
        chunks = live_chunks(engine, frames, LABELS)
    else:
        chunks = stream_chunks(engine, [Stream(LABELS)], 3600 * 8000, frames=[hour])
    sizes = []
    for _ in range(6):
        for _ in range(20):
            next(chunks)
        sizes.append(sum(x.numel() for x in gc.get_objects() if type(x) is torch.Tensor))
    assert hour.longest < 100
    assert max(sizes[2:]) <= 1.01 * sizes[1]


class Given:
    """Stands for an engine, and keeps the bias that it gets."""

    def __init__(self, bias: torch.Tensor) -> None:
        self.parts = [bias]

    def extend(self, bias: torch.Tensor, unspecified: torch.Tensor) -> None:
        self.parts.append(bias)


def test_the_bias_of_a_frame_is_the_same_alone_and_with_others() -> None:
    """To the last bit, in a network of usual size, whose products round by their shapes."""
    features = parse("log_mel:hifigan", 22050)
    network = small.network(
        layers=20, residual_channels=48, gate_channels=96, sample_rate=22050,
        features=features.to_json(),
    )  # fmt: skip
    frames = [np.random.default_rng(0).standard_normal((60, 80)).astype(np.float32)]
    whole, _ = Conditions(network, [()], frames).start(60 * 256)
    one_by_one = Conditions(network, [()], frames)
    given = Given(one_by_one.start(256)[0])
    for frame in range(1, 60):
        one_by_one.extend(given, (frame + 1) * 256)
    assert [part.shape[1] for part in given.parts] == [1] * 60
    assert torch.equal(torch.cat(given.parts, dim=1), whole)
