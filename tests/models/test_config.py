import dataclasses
import json

import pytest
import small

from wavegen.errors import ConfigError
from wavegen.models.config import FORMAT, ModelConfig, WaveNetConfig
from wavegen.models.registry import config_from_json, register


def test_it_survives_json_with_the_order_of_classes() -> None:
    config = WaveNetConfig(labels={"b": ("2", "10"), "a": ("x",)})
    again = config_from_json(config.to_json())
    assert again == config
    assert list(again.labels) == ["b", "a"]


def test_nothing_can_change_it() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        WaveNetConfig().layers = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "samples"),
    [
        ({"layers": 1, "stacks": 1}, 2),
        ({"layers": 20, "stacks": 2}, 2047),
        ({"layers": 30, "stacks": 3}, 3070),
        ({"layers": 4, "stacks": 2, "kernel_size": 3}, 13),
    ],
)
def test_receptive_field(fields: dict[str, int], samples: int) -> None:
    config = WaveNetConfig(**fields)  # type: ignore[arg-type]
    assert config.receptive_field == samples
    assert f"{samples} samples" in config.describe()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"layers": 10**9}, "layers is 1000000000"),
        ({"layers": True}, "layers is True"),
        ({"layers": 2.0}, "layers is 2.0"),
        ({"kernel_size": 1}, "kernel_size is 1: it must be a whole number from 2"),
        ({"layers": 7, "stacks": 2}, "multiple of stacks"),
        ({"gate_channels": 63}, "must be even"),
        ({"gate": "relu"}, "gate is 'relu': it must be linear or tanh"),
        ({"layers": 40, "stacks": 1}, "receptive field"),
        ({"quantization_channels": 1}, "quantization_channels"),
        ({"labels": {"a": ()}}, "at least one class"),
        ({"labels": {"a": ("x", "x")}}, "twice"),
        ({"labels": {"a": "xy"}}, "'a' must list"),
        ({"labels": {"a": 5}}, "'a' must list"),
        ({"labels": {"a": {"x": 1}}}, "'a' must list"),
        ({"labels": [1]}, "must map"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        WaveNetConfig(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 10**5])
def test_json_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        config_from_json(text)


def test_unknown_and_missing_fields_are_named() -> None:
    values = json.loads(WaveNetConfig().to_json())
    with pytest.raises(ConfigError, match="unknown fields class_path"):
        config_from_json(json.dumps({**values, "class_path": "os.system"}))
    del values["layers"]
    with pytest.raises(ConfigError, match="missing fields layers"):
        config_from_json(json.dumps(values))


def test_the_first_format_had_neither_a_number_nor_a_network() -> None:
    values = json.loads(WaveNetConfig(layers=4).to_json())
    assert (values.pop("format"), values.pop("network")) == (2, "wavenet")
    assert config_from_json(json.dumps(values)) == WaveNetConfig(layers=4)


def test_the_third_format_has_features_and_the_second_has_none() -> None:
    values = json.loads(WaveNetConfig(sample_rate=8000).to_json())
    assert values["format"] == 2
    assert "features" not in values
    config = WaveNetConfig(sample_rate=8000, features=small.FEATURES)
    values = json.loads(config.to_json())
    assert values["format"] == FORMAT == 3
    assert config_from_json(config.to_json()) == config
    assert config_from_json(config.to_json()).feature_set.name == "loudness,position"
    with pytest.raises(ConfigError, match="missing fields features"):
        config_from_json(json.dumps({n: v for n, v in values.items() if n != "features"}))
    with pytest.raises(ConfigError, match="unknown fields features"):
        config_from_json(json.dumps({**values, "format": 2}))


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ("loudness", "list of feature definitions"),
        ([{"kind": "smell"}], "none of the kinds log_mel"),
        ([{**small.FEATURES[0], "floor": 1.0}], "from -200 to 0"),
        ([{**small.FEATURES[0], "sample_rate": 16000}], "both must be the same"),
        ([small.FEATURES[0]] * 2, "each kind once"),
        ([{**small.FEATURES[0], "extra": 1}], "has the fields"),
    ],
)
def test_wrong_features_are_refused(features: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        WaveNetConfig(sample_rate=8000, features=features)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": FORMAT + 1}, "newer than this wavegen reads.*upgrade"),
        ({"format": "2"}, "format is '2'"),
        ({"format": True}, "format is True"),
        ({"network": "transformer"}, r"'transformer' is not among.*wavenet.*upgrade"),
        ({"network": ["wavenet"]}, "is not among"),
    ],
)
def test_formats_and_networks_that_are_not_known_say_what_to_do(
    change: dict[str, object], says: str
) -> None:
    values = json.loads(WaveNetConfig().to_json())
    with pytest.raises(ConfigError, match=says):
        config_from_json(json.dumps({**values, **change}))


def test_a_name_belongs_to_one_config() -> None:
    class Other(ModelConfig):
        network = "wavenet"

    with pytest.raises(ValueError, match="'wavenet' is registered already"):
        register(Other)(WaveNetConfig)  # type: ignore[type-var]


def test_the_description_of_a_model_with_features_says_how_late_its_streams_are() -> None:
    features = [{"kind": "loudness", "sample_rate": 8000, "hop_length": 64, "floor": -80.0}]
    said = WaveNetConfig(sample_rate=8000, features=features).describe()
    assert "loudness, 1 number every 8.0 ms; a stream is 24.0 ms later than its features" in said
    assert "features" not in WaveNetConfig().describe()
