"""The registered networks, by name, with their configs.

A call of `register` adds a network, in this package or in another one:

    @register(MyConfig)
    class MyNetwork(Network): ...
"""

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from wavegen.errors import ConfigError
from wavegen.models.config import FORMAT, OF_FEATURES, ModelConfig, WaveNetConfig

if TYPE_CHECKING:
    from wavegen.models.base import Network

Make = TypeVar("Make", bound="Callable[[Any], Network]")

_NETWORKS: "dict[str, tuple[type[ModelConfig], Callable[[Any], Network]]]" = {}


def register(config: type[ModelConfig]) -> Callable[[Make], Make]:
    """Decorate the class of a network, or a function that makes one from a config.

    Args:
        config: class of the config, a frozen dataclass; its `network` is the registered name.

    Raises:
        ValueError: another network has this name.
    """

    def add(make: Make) -> Make:
        known, _ = _NETWORKS.setdefault(config.network, (config, make))
        if known is not config:
            raise ValueError(f"a network '{config.network}' is registered already")
        return make

    return add


def build(config: ModelConfig, fused: bool = False) -> "Network":
    """Make a network with initial weights.

    Args:
        config: config of a registered network.
        fused: whether to use fused kernels in training, see `Network.fuse`.

    Raises:
        ConfigError: there is no such network, or it has no fused kernels.
    """
    _, make = _known(config.network)
    network = make(config)
    if fused:
        network.fuse()
    return network


def config_from_json(text: str) -> ModelConfig:
    """Read the JSON of `ModelConfig.to_json`, in this format or an earlier one.

    Raises:
        ConfigError: this is no JSON object, its format is newer, its network is not registered, a
            field is unknown or missing, or a value is out of range.
    """
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError("not a JSON object")
    # The first format has neither a number nor a network, which was always a WaveNet.
    written = values.pop("format", 1)
    if isinstance(written, bool) or not isinstance(written, int) or written < 1:
        raise ConfigError(f"format is {written!r:.40}: it must be a whole number from 1")
    if written > FORMAT:
        raise ConfigError(
            f"format {written} is newer than this wavegen reads ({FORMAT}): upgrade wavegen"
        )
    config, _ = _known(values.pop("network", WaveNetConfig.network))
    names = {f.name for f in dataclasses.fields(config)}
    if written < 3:  # without features
        names -= set(OF_FEATURES)
    if unknown := sorted(set(values) - names):
        raise ConfigError(f"unknown fields {', '.join(unknown)}")
    # The first models with features do not have it.
    if missing := sorted(names - set(values) - {"pitch_waves"}):
        raise ConfigError(f"missing fields {', '.join(missing)}")
    return config(**values)


def _known(name: object) -> "tuple[type[ModelConfig], Callable[[Any], Network]]":
    if not isinstance(name, str) or name not in _NETWORKS:
        raise ConfigError(
            f"network {name!r:.60} is not among the registered ones ({', '.join(_NETWORKS)}): "
            "upgrade wavegen, or import the package that registers it"
        )
    return _NETWORKS[name]


@register(WaveNetConfig)
def _wavenet(config: WaveNetConfig) -> "Network":
    # Imported here, so that reading a config does not load torch.
    from wavegen.models.wavenet import WaveNet

    return WaveNet(config)
