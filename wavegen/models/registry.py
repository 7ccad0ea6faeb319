"""The networks that there are: which config belongs to which, by name.

Another network joins by one call of `register`, from this package or from elsewhere:

    @register(MyConfig)
    class MyNetwork(Network): ...
"""

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from wavegen.errors import ConfigError
from wavegen.models.config import FORMAT, ModelConfig, WaveNetConfig

if TYPE_CHECKING:
    from wavegen.models.base import Network

Make = TypeVar("Make", bound="Callable[[Any], Network]")

_NETWORKS: "dict[str, tuple[type[ModelConfig], Callable[[Any], Network]]]" = {}


def register(config: type[ModelConfig]) -> Callable[[Make], Make]:
    """Decorates what makes a network of such a config: its class, or a function.

    Args:
        config: a frozen dataclass; its `network` is the name in `config.json`.

    Raises:
        ValueError: the name belongs to another config.
    """

    def add(make: Make) -> Make:
        known, _ = _NETWORKS.setdefault(config.network, (config, make))
        if known is not config:
            raise ValueError(f"there is a network '{config.network}' already")
        return make

    return add


def build(config: ModelConfig, fused: bool = False) -> "Network":
    """A network with fresh weights.

    Args:
        config: of a registered network.
        fused: whether to train it by fused kernels, see `Network.fuse`.

    Raises:
        ConfigError: there is no such network, or it has no fused kernels.
    """
    _, make = _known(config.network)
    network = make(config)
    if fused:
        network.fuse()
    return network


def config_from_json(text: str) -> ModelConfig:
    """Read what `ModelConfig.to_json` wrote, in this format or an earlier one.

    Raises:
        ConfigError: not a JSON object, a newer format, a network that is not registered, an
            unknown or missing field, or a value out of range.
    """
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError("not a JSON object")
    # The first format names neither itself nor the network, which was always a WaveNet.
    written = values.pop("format", 1)
    if isinstance(written, bool) or not isinstance(written, int) or written < 1:
        raise ConfigError(f"format is {written!r:.40}: it must be a whole number from 1")
    if written > FORMAT:
        raise ConfigError(
            f"format {written} is newer than this wavegen reads ({FORMAT}): upgrade wavegen"
        )
    config, _ = _known(values.pop("network", WaveNetConfig.network))
    names = {f.name for f in dataclasses.fields(config)}
    if unknown := sorted(set(values) - names):
        raise ConfigError(f"unknown fields {', '.join(unknown)}")
    if missing := sorted(names - set(values)):
        raise ConfigError(f"missing fields {', '.join(missing)}")
    return config(**values)


def _known(name: object) -> "tuple[type[ModelConfig], Callable[[Any], Network]]":
    if not isinstance(name, str) or name not in _NETWORKS:
        raise ConfigError(
            f"network {name!r:.60} is not among those known here ({', '.join(_NETWORKS)}): "
            "upgrade wavegen, or import the package that registers it"
        )
    return _NETWORKS[name]


@register(WaveNetConfig)
def _wavenet(config: WaveNetConfig) -> "Network":
    # Here, so that reading a config loads no torch.
    from wavegen.models.wavenet import WaveNet

    return WaveNet(config)
