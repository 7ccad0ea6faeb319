import numpy as np
import pytest
import torch
from small import LABELS

from wavegen.codecs import mulaw
from wavegen.distributions.sampling import Sampling
from wavegen.engines.choice import choose
from wavegen.errors import ConfigError, LabelError
from wavegen.generation import generate as generating
from wavegen.generation.generate import Stream, generate, rounds, sample_count, stream_chunks


def test_kinds_and_counts_come_in_order(make_network) -> None:
    network = make_network(labels=LABELS)
    kinds = [{"digit": "1"}, {"speaker": "bob"}]
    waveforms = generate(network, kinds, count=2, seconds=0.02, seed=3)
    assert waveforms.shape == (4, 160)
    assert waveforms.dtype == np.float32
    assert set(np.unique(waveforms)) <= set(mulaw.decode(np.arange(256)))
    alone = generate(network, {"speaker": "bob"}, count=2, seconds=0.02, seed=3)
    assert np.array_equal(waveforms[2:, :50], alone[:, :50])
    assert not np.array_equal(alone[0], alone[1])
    assert generate(network, seconds=0.02, count=0).shape == (0, 160)


def test_seed_and_chunk(make_network) -> None:
    network = make_network()
    one = generate(network, seconds=0.05, seed=1)
    assert np.array_equal(one, generate(network, seconds=0.05, seed=1))
    assert not np.array_equal(one, generate(network, seconds=0.05, seed=2))
    parts = list(stream_chunks(choose(network), [Stream()], 400, seed=1, chunk=7))
    assert [part.shape[1] for part in parts] == [7] * 57 + [1]
    assert np.array_equal(np.concatenate(parts, axis=1), one)


def test_a_prompt_is_gone_on_from(make_network) -> None:
    """Going on from the codes of a stream's beginning gives what follows the noise shifted."""
    network = make_network()
    prompt = mulaw.decode(torch.randint(0, 256, (500,)).numpy())
    greedy = Sampling(temperature=0)
    whole = generate(network, seconds=0.05, prompt=prompt, sampling=greedy)[0]
    more = generate(
        network, seconds=0.025, prompt=np.concatenate([prompt, whole[:200]]), sampling=greedy
    )[0]
    assert np.array_equal(more, whole[200:])
    codes = torch.from_numpy(mulaw.encode(np.concatenate([prompt, whole])))[None]
    likeliest = network(codes)[0, 500:].argmax(-1).numpy()
    assert np.array_equal(likeliest, mulaw.encode(whole))


def test_of_a_prompt_only_what_is_heard_is_encoded(make_network, monkeypatch) -> None:
    network = make_network()
    prompt = mulaw.decode(torch.randint(0, 256, (500,)).numpy())
    whole = generate(network, count=2, seconds=0.01, prompt=prompt)
    encode, lengths = mulaw.encode, []
    monkeypatch.setattr(
        mulaw, "encode", lambda wave, *rest: (lengths.append(len(wave)), encode(wave, *rest))[1]
    )
    again = generate(network, count=2, seconds=0.01, prompt=np.concatenate([-prompt, prompt]))
    assert np.array_equal(again, whole)
    assert lengths == [network.config.receptive_field]


def test_more_streams_than_a_round_holds(make_network, monkeypatch) -> None:
    monkeypatch.setitem(generating._ROUND, "cpu", 2)
    network = make_network()
    streams = [Stream(index=index) for index in range(5)]
    assert [len(part) for part in rounds(streams, network)] == [2, 2, 1]
    waveforms = generate(network, count=5, seconds=0.01)
    assert waveforms.shape == (5, 80)
    assert len({waveform.tobytes() for waveform in waveforms}) == 5


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e9])
def test_lengths_without_meaning_are_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="seconds is"):
        sample_count(seconds, 8000)


def test_short_lengths_are_one_sample() -> None:
    assert sample_count(1e-9, 8000) == 1
    assert sample_count(0.5, 8000) == 4000


def test_bad_requests(make_network) -> None:
    network = make_network(labels=LABELS)
    with pytest.raises(LabelError, match="unknown digit"):
        generate(network, {"digit": "9"}, seconds=0.01)
    with pytest.raises(ConfigError, match="seed is -1"):
        generate(network, seconds=0.01, seed=-1)


@pytest.mark.parametrize("index", [-1, 2**64, 0.5, None, True, "0"])
def test_streams_of_no_number_are_refused(index) -> None:
    with pytest.raises(ConfigError, match="index is"):
        Stream(index=index)
    assert type(Stream(index=np.int64(3)).index) is int
    with pytest.raises(ConfigError, match="labels are"):
        Stream(labels=["digit"])


@pytest.mark.parametrize(
    "prompt", [np.zeros((2, 50)), np.zeros(5, np.int16), np.array([np.nan]), np.array("a")]
)
def test_a_prompt_is_a_waveform(make_network, prompt) -> None:
    with pytest.raises(ConfigError, match="the prompt"):
        generate(make_network(), seconds=0.01, prompt=prompt)
