"""Contract C2: one likelihood, whatever the chunking, batching or padding."""

import math

import numpy as np
import pytest
import small
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import LABELS

from wavegen.codecs import mulaw, windows
from wavegen.codecs.mulaw import MuLaw
from wavegen.engines.reference_scorer import surprisal
from wavegen.scoring.likelihood import recording_bits

RNG = np.random.default_rng(1)
WAVEFORM = np.clip(0.2 * RNG.standard_normal(300), -1, 1).astype(np.float32)


@pytest.fixture
def network(make_network):
    return make_network(labels=LABELS)


def whole_bits(network, waveform, labels=None) -> float:
    """Straight from the definition: one parallel pass over the whole recording."""
    codes = torch.from_numpy(mulaw.encode(waveform))[None]
    chances = network(codes, labels).double().log_softmax(-1)
    return -chances.gather(-1, codes[..., None]).sum().item() / math.log(2)


@settings(max_examples=25, deadline=None)
@given(block=st.integers(1, 400), length=st.integers(1, 300))
def test_bits_do_not_depend_on_the_blocks(block: int, length: int) -> None:
    network = small.network(labels=LABELS)
    waveform = WAVEFORM[:length]
    expected = whole_bits(network, waveform, torch.tensor([[3, 0]]))
    got = recording_bits(network, waveform, {"digit": "2"}, block=block)
    assert got == pytest.approx(expected, rel=1e-6)


def test_bits_do_not_depend_on_batching_or_padding(network) -> None:
    recordings = [WAVEFORM[:40], WAVEFORM[40:300], WAVEFORM[:1]]
    rows = [windows.window(w, 0, len(w), network.history, MuLaw()) for w in recordings]
    inputs, targets = map(torch.from_numpy, windows.stack(rows, network.history))
    assert (targets >= 0).sum().item() == 40 + 260 + 1
    bits = surprisal(network, inputs, targets, network.unspecified(3)).sum(dim=1)
    for row, waveform in zip(bits.tolist(), recordings, strict=True):
        assert row == pytest.approx(whole_bits(network, waveform), rel=1e-6)


def test_a_window_from_mid_file_carries_true_history(network) -> None:
    codes = windows.window(WAVEFORM, 200, 260, network.history, MuLaw())
    true = mulaw.encode(WAVEFORM)[200 - network.history - 1 : 260]
    assert np.array_equal(codes, true)
    early = windows.window(WAVEFORM, 3, 10, network.history, MuLaw())
    assert (early[: network.history + 1 - 3] == network.start_symbol).all()
    assert np.array_equal(early[network.history + 1 - 3 :], mulaw.encode(WAVEFORM[:10]))


def test_the_first_sample_counts(network) -> None:
    bits = recording_bits(network, WAVEFORM[:1])
    assert bits == pytest.approx(whole_bits(network, WAVEFORM[:1]), rel=1e-6)
    assert bits > 0
