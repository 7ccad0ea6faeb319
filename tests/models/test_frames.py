"""Conditions that change with time in the WaveNet: windows, gradients, the encoder, the frames."""

import json

import pytest
import small
import torch

from wavegen.audio.features import parse
from wavegen.models.condition import Condition, FramesOf, stack
from wavegen.models.frame_encoder import FrameEncoder
from wavegen.models.frames import Frames
from wavegen.models.serialization import load_model, save_model

HOP, TIME = 16, 200


def condition() -> Condition:
    """Labels of three streams, and frames for 208 samples."""
    frames = torch.randn((3, 13, 8), generator=torch.Generator().manual_seed(1))
    return Condition(torch.tensor([[1, 2], [0, 0], [2, 1]]), frames)


def codes() -> torch.Tensor:
    return torch.randint(0, 256, (3, TIME), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("gate", ["linear", "tanh"])
@pytest.mark.parametrize("dropped", [0, 2])
def test_a_window_is_predicted_as_in_the_whole(gate: str, dropped: int) -> None:
    """Also with the frames of the window alone, and a margin on both sides."""
    network = small.network(labels=small.LABELS, features=small.FEATURES, kernel_size=3, gate=gate)
    given = condition()
    expected = network(codes(), given.labels, given.frames)
    inputs, history = network.inputs(codes()), network.history
    for start in (history, history + 1, history + 37, 150):
        first = start - history
        begin = max(0, first // HOP - network.margin) if dropped else 0
        bias = network.conditioning(Condition(given.labels, given.frames[:, begin:]))
        # The frames before the margin of the first one are changed by the cut.
        numbers = torch.full((3,), first - begin * HOP)
        got = network.predict(inputs[:, first:], bias, first=numbers)
        difference = (got - expected[:, start:]).abs().max()
        assert difference < 1e-4 * expected.abs().max(), start


def test_rows_of_a_batch_may_begin_at_different_samples() -> None:
    network = small.network(labels=small.LABELS, features=small.FEATURES)
    given, history = condition(), network.history
    expected = network(codes(), given.labels, given.frames)
    starts = torch.tensor([history, history + 5, history + 40])
    inputs = network.inputs(codes())
    rows = [inputs[n, start - history :][: history + 60] for n, start in enumerate(starts)]
    bias = network.conditioning(given)
    got = network.predict(torch.stack(rows), bias, first=starts - history)
    for number, start in enumerate(starts):
        part = expected[number, start : start + 60]
        assert (got[number] - part).abs().max() < 1e-4 * expected.abs().max()


def test_gradients_of_a_bias_that_changes_with_time() -> None:
    network = small.network(labels=small.LABELS, features=small.FEATURES).double()
    network.requires_grad_(True)
    given = condition()
    inputs = network.inputs(codes()[:, :60])
    bias = network.conditioning(Condition(given.labels, given.frames.double())).detach()

    def total(bias: torch.Tensor) -> torch.Tensor:
        return network.predict(inputs, bias, beginning=True)[:, :, :3].sum()

    (gradient,) = torch.autograd.grad(total(bias.requires_grad_()), bias)
    chance = torch.Generator().manual_seed(3)
    for _ in range(5):
        step = torch.randn(bias.shape, generator=chance, dtype=torch.float64)
        slope = (total(bias + 1e-5 * step) - total(bias - 1e-5 * step)) / 2e-5
        assert slope.item() == pytest.approx((gradient * step).sum().item(), rel=1e-4, abs=1e-6)


def test_the_encoder_normalises_and_takes_nan_for_unspecified() -> None:
    encoder = FrameEncoder(2, 4)
    torch.nn.init.normal_(encoder.unspecified)
    frames = torch.randn(3, 7, 2)
    plain = encoder(frames, 3)
    encoder.fit(torch.tensor([5.0, -1.0]), torch.tensor([2.0, 0.0]))
    # A deviation of 0 does not scale.
    scaled = frames * torch.tensor([2.0, 1.0]) + torch.tensor([5.0, -1.0])
    torch.testing.assert_close(encoder(scaled, 3), plain)
    scaled[1, 3, 0] = torch.nan
    mixed = encoder(scaled, 3)
    torch.testing.assert_close(mixed[[0, 2]], plain[[0, 2]])
    assert (mixed[1] == encoder.unspecified).all()
    assert (encoder(None, 3) == encoder.unspecified).all()
    assert encoder(None, 3).shape == (3, 1, 4)


def test_frames_are_used_for_a_hop_each_and_the_last_one_for_ever() -> None:
    frames = Frames(torch.arange(3.0).view(1, 3, 1), hop=4, time=6)
    spans = [(int(bias), count) for bias, count in frames.spans(9)]
    assert spans == [(1, 2), (2, 4), (2, 3)]
    frames.extend(torch.full((1, 1, 1), 9.0))
    # Sample 15 belongs to frame 3, which has arrived too late for samples 12 to 14.
    assert [(int(bias), count) for bias, count in frames.spans(3)] == [(2, 1), (9, 2)]
    with pytest.raises(ValueError, match="they must be"):
        frames.extend(torch.zeros(2, 1, 1))
    with pytest.raises(ValueError, match="labels only"):
        Frames(torch.zeros(1, 1, 1), hop=None).extend(torch.zeros(1, 1, 1))


def test_frames_of_a_part_and_of_a_batch() -> None:
    whole = FramesOf(torch.arange(10.0).view(10, 1).numpy(), first=3)
    part = whole.between(40, 60, hop=10, margin=1)
    # Codes 43 to 62 are in frames 4 to 6.
    assert part.frames[:, 0].tolist() == [3, 4, 5, 6, 7]
    assert part.first + 40 == 13
    late = whole.between(500, 510, hop=10, margin=1)
    assert late.frames[:, 0].tolist() == [8, 9]
    frames, first = stack([part, late])
    assert frames.shape == (2, 5, 1)
    assert frames[1, :, 0].tolist() == [8, 9, 9, 9, 9]
    assert first.tolist() == [part.first, late.first]


def test_waves_over_the_octave_tell_near_pitches_apart() -> None:
    """An octave apart the waves are alike; a small part of a semitone changes them a lot."""
    encoder = FrameEncoder(2, 4, column=0, waves=5).requires_grad_(False)
    with torch.no_grad():
        encoder.first.weight[:, :2] = 0

    def encoded(pitch: float) -> torch.Tensor:
        return encoder(torch.tensor([[[pitch, 1.0]]]).expand(1, 5, -1), 1)

    low = encoded(7.3)
    assert torch.allclose(encoded(8.3), low, atol=1e-4)
    plain = FrameEncoder(2, 4).requires_grad_(False)
    frames = torch.tensor([[[7.3, 1.0]]]).expand(1, 5, -1)
    near = frames + torch.tensor([0.25 / 12, 0])
    moved = (encoded(7.3 + 0.25 / 12) - low).abs().max()
    assert moved > 5 * (plain(near, 1) - plain(frames, 1)).abs().max()
    assert encoder(torch.full((1, 5, 2), torch.nan), 1).isfinite().all()


def test_models_with_pitch_from_before_the_waves_still_load(tmp_path) -> None:
    definition = parse("pitch,loudness", 8000).to_json()
    save_model(small.network(features=definition), tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    values = json.loads(config.read_text())
    assert values.pop("pitch_waves") == 0
    config.write_text(json.dumps(values))
    assert load_model(tmp_path / "model").config.pitch_waves == 0
    save_model(small.network(features=definition, pitch_waves=5), tmp_path / "new")
    assert load_model(tmp_path / "new").frame_encoder.first.in_channels == 3 + 10
    save_model(small.network(), tmp_path / "without")
    assert "pitch_waves" not in (tmp_path / "without" / "config.json").read_text()
