"""Contract C6: the model directory is all one needs, and nothing in it can do harm."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from mutations import mutated, no_file, survives
from safetensors.torch import load_file, save_file
from small import LABELS

from wavegen.commands.main import main
from wavegen.errors import LabelError, ModelError
from wavegen.generation.generate import generate
from wavegen.models import serialization


@pytest.fixture
def model(make_network, tmp_path: Path) -> Path:
    serialization.save_model(make_network(labels=LABELS), tmp_path / "run" / "model")
    return tmp_path / "run" / "model"


def test_a_model_comes_back_as_it_was(make_network, model: Path) -> None:
    network = make_network(labels=LABELS)
    for path in (model, model.parent):
        again = serialization.load_model(path)
        assert again.config == network.config
        codes, labels = torch.randint(0, 256, (2, 30)), torch.tensor([[1, 2], [0, 1]])
        assert torch.equal(again(codes, labels), network(codes, labels))
        assert not again.training
    assert sorted(path.name for path in model.iterdir()) == ["config.json", "model.safetensors"]


def test_the_model_directory_alone_generates(model: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(model, moved)
    shutil.rmtree(tmp_path / "run")
    config = serialization.load_config(moved)
    assert (config.sample_rate, config.quantization_channels) == (8000, 256)
    assert generate(moved, {"digit": "2"}, seconds=0.01).shape == (1, 80)
    assert generate(moved, seconds=0.01).shape == (1, 80)
    with pytest.raises(LabelError, match="unknown digit '9': choose one of 0, 1, 2"):
        generate(moved, {"digit": "9"}, seconds=0.01)


def test_a_model_that_training_replaces_meanwhile_keeps_its_fingerprint(
    make_network, model: Path, monkeypatch
) -> None:
    load, later = serialization._load, make_network(labels=LABELS, seed=7)

    def slowly(*arguments: object) -> object:
        loaded = load(*arguments)
        monkeypatch.setattr(serialization, "_load", load)
        serialization.save_model(later, model)
        return loaded

    monkeypatch.setattr(serialization, "_load", slowly)
    network, sha256 = serialization.load_with_fingerprint(model)
    assert torch.equal(network.output.weight, later.output.weight)
    assert sha256 == serialization.fingerprint(model)


def bytes_read() -> int:
    """That this process has asked the system for; what is mapped into memory does not count."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def test_a_model_is_read_once(make_network, tmp_path: Path) -> None:
    serialization.save_model(make_network(skip_channels=1024), tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size > 4e6
    serialization.load_with_fingerprint(tmp_path)  # imports
    for load in (serialization.load_model, serialization.load_with_fingerprint):
        before = bytes_read()
        loaded = load(tmp_path)
        # The weights are mapped once, and hashed as they are looked at.
        assert bytes_read() - before < 1e5
        assert loaded
    assert loaded[1] == serialization.fingerprint(tmp_path)


def test_weights_of_every_real_type_become_float32(model: Path) -> None:
    names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint64 uint32 uint16 uint8"
    weights = load_file(model / "model.safetensors")
    for name in names.split():
        weights["skip.bias"] = torch.arange(10).to(getattr(torch, name))
        save_file(weights, model / "model.safetensors")
        network, sha256 = serialization.load_with_fingerprint(model)
        assert network.skip.bias.tolist() == list(range(10))
        assert sha256 == serialization.fingerprint(model)


def test_a_changed_model_has_another_fingerprint(make_network, model: Path) -> None:
    before = serialization.fingerprint(model)
    assert serialization.fingerprint(model.parent) == before
    serialization.save_model(make_network(seed=1, labels=LABELS), model)
    assert serialization.fingerprint(model) != before


def break_weights(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\xff" * 100)


def cut_weights(model: Path) -> None:
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def drop_a_tensor(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    del weights["output.bias"]
    save_file(weights, model / "model.safetensors")


def break_a_number(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights["hidden.weight"][2, 3] = torch.nan
    save_file(weights, model / "model.safetensors")


def overflow(model: Path) -> None:
    """Finite as it is stored, but not as it is computed with."""
    weights = load_file(model / "model.safetensors")
    weights["skip.bias"] = weights["skip.bias"].double() + 1e39
    save_file(weights, model / "model.safetensors")


def make_weights_complex(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights["skip.bias"] = weights["skip.bias"].to(torch.complex64)
    save_file(weights, model / "model.safetensors")


def ask_for_more_layers(model: Path) -> None:
    values = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**values, "layers": 500, "stacks": 100}))


def ask_for_a_billion_layers(model: Path) -> None:
    values = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**values, "layers": 10**9}))


def break_config(model: Path) -> None:
    (model / "config.json").write_bytes(b"\xff\xfe{")


def remove_config(model: Path) -> None:
    (model / "config.json").unlink()


def claim_a_header_of_gigabytes(model: Path) -> None:
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes((3 << 30).to_bytes(8, "little") + data[8:])


def write_gigabytes_of_config(model: Path) -> None:
    with (model / "config.json").open("ab") as file:
        file.truncate(3 << 30)


def link_the_config(model: Path) -> None:
    (model / "config.json").rename(model / "other.json")
    (model / "config.json").symlink_to("other.json")


def link_the_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("/dev/zero")


def make_the_weights_a_pipe(model: Path) -> None:
    (model / "model.safetensors").unlink()
    os.mkfifo(model / "model.safetensors")


def pickle_the_weights(model: Path) -> None:
    torch.save({"output.bias": torch.zeros(1)}, model / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (claim_a_header_of_gigabytes, "damaged or not a safetensors file"),
        (write_gigabytes_of_config, "too many for such a file"),
        (link_the_config, "config.json: is a symbolic link"),
        (link_the_weights, "is a symbolic link|holds no model"),
        (make_the_weights_a_pipe, "holds no model"),
        (pickle_the_weights, "damaged or not a safetensors file"),
        (break_weights, "damaged or not a safetensors file"),
        (cut_weights, "damaged or not a safetensors file"),
        (break_a_number, "safetensors: 'hidden.weight' holds NaN or infinity"),
        (overflow, "safetensors: 'skip.bias' holds NaN or infinity"),
        (make_weights_complex, "safetensors: 'skip.bias' is of type C64"),
        (drop_a_tensor, "'output.bias' has shape None"),
        (ask_for_more_layers, "config.json needs"),
        (ask_for_a_billion_layers, "layers is 1000000000"),
        (break_config, "config.json"),
        (remove_config, "holds no model"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_a_damaged_model_gets_one_clear_line(model: Path, damage, says: str) -> None:
    damage(model)
    with pytest.raises(ModelError, match=says) as caught:
        serialization.load_model(model)
    assert str(model) in str(caught.value)


def test_a_config_from_elsewhere_gets_one_clear_line(model: Path) -> None:
    file = model / "config.json"
    good = json.loads(file.read_text())

    def describe() -> None:
        config = serialization.load_config(model)
        print(config.describe(), config.receptive_field, config.to_json())

    assert survives(describe, ModelError, file, good, 300) > 150


def test_figures_of_a_run_from_elsewhere_are_figures_or_none(model: Path, capsys) -> None:
    file = model.parent / "best.json"
    good = {"step": 12, "val_bits": 3.5, "uniform_bits": 8.0, "order0_bits": 6.1}
    read = []
    for text in mutated(good, 100):
        file.write_text(text)
        read.append(main(["info", str(model.parent)]))
        assert all(map(math.isfinite, serialization.best_figures(model.parent).values()))
    assert set(read) == {0}
    assert "held out" in capsys.readouterr().out
    for name in no_file(file):
        assert serialization.best_figures(model.parent) == {}, name
