"""Files with damage at random are read or refused in one line, in bounded time and memory."""

from collections.abc import Callable
from pathlib import Path

import audio_files as odd
import numpy as np
import pytest
import torch
import yaml
from mutants import bounded, mutants
from mutations import survives
from small import LABELS

from wavegen.audio import reading
from wavegen.data.clips import find_clips
from wavegen.errors import AudioFileError, DataError, ModelError, WavegenError
from wavegen.models.serialization import load_config, load_model, save_model
from wavegen.training.checkpoints import WholeCheckpoints
from wavegen.training.run_config import read_config

FEW_OR_MANY = [0, pytest.param(1, marks=pytest.mark.slow)]


def attack(
    path: Path, count: int, seed: int, read: Callable[[], object], error: type[WavegenError]
) -> list[str]:
    """Read mutants of a file: nothing but `error` comes, and names the folder; its messages."""
    refused = []
    with bounded(megabytes=500):
        for mutant in mutants(path.read_bytes(), count, seed):
            path.write_bytes(mutant)
            try:
                read()
            except error as caught:
                refused.append(str(caught))
            except Exception as caught:
                # Kept with the temporary files of the test.
                pytest.fail(f"{caught!r} of {path}, {mutant[:60]!r}")
    assert all(str(path.parent) in message for message in refused)
    return refused


def recording(suffix: str) -> np.ndarray:
    """Half a second of two channels, half of it silence."""
    waveform = np.stack([odd.noise(seed=1), odd.noise(seed=2)], axis=1)
    waveform[2000:] = 0
    return waveform[:, 0] if suffix == "mp3" else waveform


@pytest.mark.parametrize("seed", FEW_OR_MANY)
@pytest.mark.parametrize("kind", ["wav", "float", "flac", "streamed", "ogg", "mp3"])
def test_audio(tmp_path: Path, kind: str, seed: int, capfd) -> None:
    suffix = {"float": "wav", "streamed": "flac"}.get(kind, kind)
    subtype = "FLOAT" if kind == "float" else None
    path = odd.save(tmp_path / f"a.{suffix}", recording(suffix), subtype=subtype)
    if kind == "streamed":
        odd.claim_flac_frames(path, 0)
    rates = iter([None, 11_025] * 5000)

    def read() -> None:
        info = reading.probe(path)
        frames = 0
        for block in reading.blocks(path, next(rates)):
            assert block.dtype == np.float32
            assert np.isfinite(block).all()
            frames += len(block)
        assert frames
        assert reading.LOWEST_RATE <= info.sample_rate <= reading.HIGHEST_RATE

    refused = attack(path, 1500 if seed else 400, seed, read, AudioFileError)
    assert len(refused) > (500 if seed else 120)
    assert all(message.isprintable() for message in refused)


@pytest.mark.parametrize("seed", FEW_OR_MANY)
def test_weights(make_network, tmp_path: Path, seed: int) -> None:
    save_model(make_network(labels=LABELS), tmp_path)
    path = tmp_path / "model.safetensors"
    refused = attack(path, 500 if seed else 100, seed, lambda: load_model(tmp_path), ModelError)
    assert len(refused) > (200 if seed else 30)


@pytest.mark.parametrize("seed", FEW_OR_MANY)
def test_config(make_network, tmp_path: Path, seed: int) -> None:
    save_model(make_network(labels=LABELS), tmp_path)
    path = tmp_path / "config.json"
    refused = attack(path, 2000 if seed else 400, seed, lambda: load_config(tmp_path), ModelError)
    assert len(refused) > (1000 if seed else 200)


RUN = """seed_everything: 0
data:
  folder: "tones"
  labels: null
  validation_fraction: 0.1
  on_bad_file: "skip"
model:
  network:
    layers: 20
    labels:
      label: ["high", "1e5"]
  learning_rate: 1.0e-3
trainer:
  precision: "bf16-mixed"
  max_time: "00:01:30:00"
  devices: [0, 1]
  callbacks: null
"""


@pytest.mark.parametrize("seed", FEW_OR_MANY)
def test_config_of_a_run(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(RUN)
    settings = yaml.safe_load(RUN)
    assert yaml.safe_load(read_config(tmp_path)) == settings

    def read() -> None:
        assert isinstance(yaml.safe_load(read_config(tmp_path)), dict)

    refused = attack(path, 1000 if seed else 200, seed, read, ModelError)
    assert len(refused) > (300 if seed else 60)
    survives(read, ModelError, path, settings, 500 if seed else 100)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("seed", FEW_OR_MANY)
def test_checkpoint(make_network, tmp_path: Path, seed: int) -> None:
    path = tmp_path / "last.ckpt"
    network = make_network(labels=LABELS)
    optimizer = torch.optim.Adam(network.parameters())
    content = {"state_dict": network.state_dict(), "optimizer_states": [optimizer.state_dict()]}
    torch.save({**content, "global_step": 3, "loops": {"fit": {"done": True}}}, path)

    def read() -> None:
        WholeCheckpoints().load_checkpoint(path)

    refused = attack(path, 1000 if seed else 100, seed, read, ModelError)
    assert len(refused) > (300 if seed else 30)


CSV = '''file_name,digit,speaker,split
0.wav,7,"Theo, the first",train
1.wav,7,"Ann ""A""",validation
sub/../2.wav,0,Theo,test
3.wav,,\u00e9\u4e2d,train
'''
JSON_LINES = """{"file_name": "0.wav", "digit": 7, "speaker": "theo", "split": "train"}
{"file_name": "1.wav", "digit": null, "speaker": "ann", "loud": true}
{"file_name": "./2.wav", "digit": 0.5, "speaker": "\\u00e9"}
"""


@pytest.mark.parametrize("seed", FEW_OR_MANY)
@pytest.mark.parametrize(("name", "text"), [("csv", CSV), ("jsonl", JSON_LINES)])
def test_metadata(tmp_path: Path, name: str, text: str, seed: int) -> None:
    for number in range(4):
        odd.save(tmp_path / f"{number}.wav", np.zeros(100, np.float32))
    path = tmp_path / f"metadata.{name}"
    path.write_text(text)

    def read() -> None:
        found = find_clips(tmp_path)
        assert found.clips

    refused = attack(path, 1000 if seed else 150, seed, read, DataError)
    assert len(refused) > (200 if seed else 20)
