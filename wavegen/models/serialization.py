"""The model directory: `config.json` and `model.safetensors`, all one needs to generate.

Nothing in it is code: the config is checked field by field, the weights are plain
tensors, and their shapes must be those of the config. What only looks at a model loads
no torch.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavegen.errors import ConfigError, ModelError
from wavegen.models.config import ModelConfig
from wavegen.models.registry import build, config_from_json
from wavegen.utils.device import pick_device
from wavegen.utils.files import (
    file_sha256,
    make_folder,
    read_json,
    read_text,
    write_bytes,
    write_text,
)
from wavegen.utils.json_shape import fits, number

if TYPE_CHECKING:
    import torch

    from wavegen.models.base import Network

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_FILES = (CONFIG, WEIGHTS)
# What scoring may want to know of the training data (`wavegen.data.settings`); not needed to
# load the model.
TRAINING = "training.json"
# Of the run that the model is from.
BEST = "best.json"
# Types of weights, as safetensors names them, that become float32 without losing a part.
_REAL = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8"}
# No count and no figure beside a model is larger.
_MOST = 10**12


def find_model(path: str | Path) -> Path:
    """The model directory of `path`, itself or its `model/` (a run folder).

    Raises:
        ModelError: neither holds a model.
    """
    path = Path(path)
    if (folder := _model_folder(path)) is not None:
        return folder
    if not os.path.exists(path):  # noqa: PTH110
        raise ModelError(f"{path}: no such folder; name a run folder or its model folder")
    raise ModelError(
        f"{path}: holds no model ({CONFIG} and {WEIGHTS}); a run has one in model/ "
        "after its first validation"
    )


def is_model(path: str | Path) -> bool:
    """Whether `path` is a model directory or a run folder that has one."""
    return _model_folder(Path(path)) is not None


def save_model(network: "Network", folder: str | Path) -> None:
    """Write `network` as a model directory; each file appears whole, the config last."""
    import torch
    from safetensors.torch import save

    folder = make_folder(folder)
    weights = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in network.state_dict().items()
    }
    write_bytes(folder / WEIGHTS, save(weights, metadata={"format": "pt"}))
    write_text(folder / CONFIG, network.config.to_json())


def load_config(path: str | Path) -> ModelConfig:
    """The config of a model directory or run folder, without its weights.

    Raises:
        ModelError: no model there, or its config is damaged.
    """
    return _read_config(find_model(path))[0]


def _read_config(folder: Path) -> tuple[ModelConfig, str]:
    """The config of a model directory, and its JSON."""
    file = plain(folder / CONFIG)
    text = read_text(file, ModelError)
    try:
        return config_from_json(text), text
    except ConfigError as error:
        raise ModelError(f"{file}: {error}") from error


def load_model(path: str | Path, device: "str | torch.device" = "cpu") -> "Network":
    """The network of a model directory or run folder, float32, in evaluation mode.

    Args:
        path: of the folder.
        device: for its weights, as of `wavegen.utils.device.pick_device`.

    Raises:
        ModelError: no model there, a damaged file, weights of other shapes than the
            config's, of a type that is not real, or such as are not finite.
        ConfigError: the device is not there.
    """
    return _load(path, device)[0]


def fingerprint(path: str | Path) -> str:
    """SHA-256 over config and weights of a model, to tell whether two are the same."""
    folder = find_model(path)
    return _fingerprint(*(file_sha256(plain(folder / each), ModelError) for each in _FILES))


def load_with_fingerprint(
    path: str | Path, device: "str | torch.device" = "cpu"
) -> tuple["Network", str]:
    """`load_model` and `fingerprint` of one and the same model, though training may save others.

    Raises:
        ModelError, ConfigError: as `load_model`.
    """
    while True:
        before = _states(path)
        weights = hashlib.sha256()
        network, config = _load(path, device, weights.update)
        if _states(path) == before:
            digest = hashlib.sha256(config.encode()).hexdigest()
            return network, _fingerprint(digest, weights.hexdigest())


def _load(
    path: str | Path,
    device: "str | torch.device",
    seen: Callable[[Any], object] = len,
) -> tuple["Network", str]:
    """The network and the JSON of its config; `seen` is shown all bytes of the weights' file."""
    import torch
    from safetensors import SafetensorError, safe_open

    device = pick_device(device)
    folder = find_model(path)
    config, text = _read_config(folder)
    file = plain(folder / WEIGHTS)
    # Shapes are compared before memory is taken: a config cannot ask for more than the
    # weights that lie beside it.
    with torch.device("meta"):
        network = build(config)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    try:
        with safe_open(file, framework="pt") as stored:
            names = set(stored.keys())
            shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in names}
            for name in sorted(names | set(expected)):
                if shapes.get(name) != expected.get(name):
                    raise ModelError(
                        f"{file}: '{name}' has shape {shapes.get(name)}, but {CONFIG} asks for "
                        f"{expected.get(name)}; the two files are not of one model"
                    )
            weights = {}
            header = _header(file)
            seen(header)
            # In the order in which they lie in the file, without gaps.
            places = json.loads(header[8:])
            for name in sorted(names, key=lambda name: places[name]["data_offsets"]):
                if (kind := stored.get_slice(name).get_dtype()) not in _REAL:
                    raise ModelError(
                        f"{file}: '{name}' is of type {kind}; weights must be real floating-point "
                        "numbers or integers"
                    )
                given = stored.get_tensor(name)
                seen(given.reshape(-1).view(torch.uint8).numpy())
                tensor = given.to(torch.float32)
                if not torch.isfinite(tensor).all():
                    raise ModelError(
                        f"{file}: '{name}' holds NaN or infinity, which no model computes with; "
                        "the file is damaged or its training had failed: take an earlier model"
                    )
                weights[name] = tensor.to(device)
    except (SafetensorError, OSError, LookupError, ValueError) as error:
        # The last two: another file has taken its place before its header was read again.
        raise ModelError(f"{file}: damaged or not a safetensors file ({error})") from error
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False).eval(), text


def _header(file: Path) -> bytes:
    """What stands before the numbers in a file of safetensors, which was found sound."""
    with file.open("rb") as opened:
        size = opened.read(8)
        return size + opened.read(int.from_bytes(size, "little"))


def _fingerprint(*digests: str) -> str:
    """Of the digests of config and weights."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _states(path: str | Path) -> list[tuple[int, ...]]:
    """Of config and weights, what differs once another file has taken their place."""
    folder = find_model(path)
    return [
        (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        for about in (os.stat(folder / name) for name in _FILES)  # noqa: PTH116
    ]


def best_figures(run: str | Path) -> dict[str, float]:
    """Step and figures of the best validation of a run folder; empty if there was none.

    Returns:
        "step", and in bits per sample "val_bits", "uniform_bits" and "order0_bits".
    """
    try:
        figures = read_json(Path(run) / BEST, ModelError)
    except ModelError:
        return {}
    names = ("step", "val_bits", "uniform_bits", "order0_bits")
    sound = fits(figures, dict.fromkeys(names, number(-_MOST, _MOST)))
    return {name: figures[name] for name in names} if sound else {}


def plain(file: Path) -> Path:
    """The file, if it is no link: one in a model from elsewhere may lead anywhere.

    Raises:
        ModelError: it is one.
    """
    if file.is_symlink():
        raise ModelError(f"{file}: is a symbolic link; put the file itself there")
    return file


def _model_folder(path: Path) -> Path | None:
    for folder in (path, path / "model"):
        # Paths from elsewhere may be too long for any file; pathlib raises for them.
        if all(os.path.isfile(folder / name) for name in _FILES):  # noqa: PTH113
            return folder
    return None
