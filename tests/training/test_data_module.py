"""What the DataModule trains and validates on."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small import network

from wavegen.codecs import mulaw
from wavegen.codecs.counts import CodeCounts
from wavegen.codecs.mulaw import MuLaw
from wavegen.data.batches import TrainingCrops
from wavegen.data.splits import hold_out_ends
from wavegen.errors import ConfigError
from wavegen.models.config import WaveNetConfig
from wavegen.models.wavenet import WaveNet
from wavegen.training.data_module import AudioDataModule


def write_noise(path: Path, seconds: float) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Louder towards its end, so that order-0 bits tell which part was counted.
    time = np.arange(round(seconds * 8000))
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, len(time)) * (time + 1) / len(time)
    soundfile.write(path, wave, 8000)
    return soundfile.read(path, dtype="float32")[0]


def matched(folder: Path) -> AudioDataModule:
    data = AudioDataModule(str(folder))
    data.match(network())
    return data


def test_the_end_of_one_long_file_is_held_out(tmp_path: Path) -> None:
    wave = write_noise(tmp_path / "one" / "a.wav", 20)
    data = matched(tmp_path / "one")
    assert data.training.tolist() == [[0, 0, 144_000]]
    assert data.validation.tolist() == [[0, 144_000, 160_000]]
    counts = CodeCounts(MuLaw())
    counts.add(wave[:144_000])
    assert data.order0_bits == counts.figures()["order0_bits"]
    assert "the ends of 1 clip are, 2.0 s together" in data.remarks()[0]
    # The first sample that validates is predicted from the samples before it.
    pieces = data.corpus.pieces(data.validation, 8192)
    batch = data.corpus.batch(pieces[:1], 8192)
    before = data.corpus.receptive_field
    codes = mulaw.encode(wave[144_000 - before : 144_000], 256)
    np.testing.assert_array_equal(batch["inputs"][0, :before].numpy(), codes)


def test_short_files_are_not_cut(tmp_path: Path) -> None:
    write_noise(tmp_path / "one" / "a.wav", 2)
    data = matched(tmp_path / "one")
    assert data.training.tolist() == data.validation.tolist() == [[0, 0, 16_000]]
    assert "validation repeats the training clips" in data.remarks()[0]


def test_held_out_clips_leave_the_others_whole(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_noise(tmp_path / "some" / f"{name}.wav", 11)
    data = matched(tmp_path / "some")
    assert len(data.validation) == 1
    assert len(data.training) == 2
    assert {*data.training[:, 2], *data.validation[:, 2]} == {88_000}
    assert not data.training[:, 1].any()
    assert not data.validation[:, 1].any()


def test_of_very_long_clips_a_minute_is_held_out() -> None:
    hour, short = 3600 * 100, 999
    parts = np.array([[4, 0, hour], [7, 0, short], [9, 0, 1000]])
    training, validation = hold_out_ends(parts, 0.1, 100)
    assert validation.tolist() == [[4, hour - 6000, hour], [9, 900, 1000]]
    assert training.tolist() == [[4, 0, hour - 6000], [7, 0, short], [9, 0, 900]]


def test_without_a_trainer_it_gives_the_same_batches(tone_folder) -> None:
    data = AudioDataModule(str(tone_folder), crop=300, batch_size=4)
    for early in (data.setup, data.train_dataloader, data.val_dataloader, lambda: data.corpus):
        with pytest.raises(ConfigError, match=r"call match\(network\)"):
            early()
    config = WaveNetConfig(layers=4, stacks=2, sample_rate=8000, labels=data.clip_set.attributes)
    network = WaveNet(config)
    data.match(network)
    loader = data.train_dataloader()
    epochs = [[batch["inputs"] for batch in loader] for _ in range(2)]
    assert len(epochs[0]) == len(loader) > 1
    assert not all(map(torch.equal, *epochs)), "every epoch has an order of its own"
    crops = TrainingCrops(data.corpus, data.training, 300, 4, data.label_dropout, data.seed)
    assert all(torch.equal(each, crops[0, at]["inputs"]) for at, each in enumerate(epochs[0]))
    held_out = sum(int((batch["targets"] >= 0).sum()) for batch in data.val_dataloader())
    assert held_out == (data.validation[:, 2] - data.validation[:, 1]).sum()
