"""The model directory: `config.json` and `model.safetensors`, which are enough to generate.

It holds no code: the config is checked field by field, the weights are plain tensors, and their
shapes must be those of the config. Reading only the config does not load torch.
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
# Facts about the training data, see `wavegen.data.settings`; not needed to load the model.
TRAINING = "training.json"
# The file with the best validation of a run folder.
BEST = "best.json"
# Types of weights, by their names in safetensors, that are converted to float32.
_REAL = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8"}
# Larger than any count or figure of a model.
_MOST = 10**12


def find_model(path: str | Path) -> Path:
    """The model directory of `path`: `path` itself, or its `model/` if it is a run folder.

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
    """Write `network` as a model directory, one complete file after another, the config last."""
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
        path: model directory or run folder.
        device: device of the weights, see `wavegen.utils.device.pick_device`.

    Raises:
        ModelError: there is no model, a file is damaged, or weights have wrong shapes, are not
            real numbers or are not finite.
        ConfigError: there is no such device.
    """
    return _load(path, device)[0]


def fingerprint(path: str | Path) -> str:
    """SHA-256 of the config and weights of a model, to compare models."""
    folder = find_model(path)
    return _fingerprint(*(file_sha256(plain(folder / each), ModelError) for each in _FILES))


def load_with_fingerprint(
    path: str | Path, device: "str | torch.device" = "cpu"
) -> tuple["Network", str]:
    """Load a model with its fingerprint, even if a training replaces the model meanwhile.

    Raises:
        ModelError, ConfigError: as for `load_model`.
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
    """The network and the JSON of its config; `seen` receives all bytes of the file of weights."""
    import torch
    from safetensors import SafetensorError, safe_open

    device = pick_device(device)
    folder = find_model(path)
    config, text = _read_config(folder)
    file = plain(folder / WEIGHTS)
    # Shapes are compared before memory is allocated, so a config cannot ask for more memory than
    # the file of weights needs.
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
                        f"{file}: '{name}' has shape {shapes.get(name)}, but {CONFIG} needs "
                        f"{expected.get(name)}; copy both files from the same model"
                    )
            weights = {}
            header = _header(file)
            seen(header)
            # Tensors in the order of the file, which has no gaps.
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
                        f"{file}: '{name}' holds NaN or infinity; the file is damaged or its "
                        "training failed: use an earlier model"
                    )
                weights[name] = tensor.to(device)
    except (SafetensorError, OSError, LookupError, ValueError) as error:
        # The last two are raised if another file has replaced it before its header is read again.
        raise ModelError(f"{file}: damaged or not a safetensors file ({error})") from error
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False).eval(), text


def _header(file: Path) -> bytes:
    """The bytes before the numbers in a valid file of safetensors."""
    with file.open("rb") as opened:
        size = opened.read(8)
        return size + opened.read(int.from_bytes(size, "little"))


def _fingerprint(*digests: str) -> str:
    """The fingerprint from the digests of config and weights."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _states(path: str | Path) -> list[tuple[int, ...]]:
    """Facts about the files of config and weights that change when one is replaced."""
    folder = find_model(path)
    return [
        (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        for about in (os.stat(folder / name) for name in _FILES)  # noqa: PTH116
    ]


def best_figures(run: str | Path) -> dict[str, float]:
    """The step and figures of the best validation of a run folder; empty if there was none.

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
    """Return the file if it is no symbolic link, which could lead anywhere.

    Raises:
        ModelError: the file is a symbolic link.
    """
    if file.is_symlink():
        raise ModelError(f"{file}: is a symbolic link; put the file itself there")
    return file


def _model_folder(path: Path) -> Path | None:
    for folder in (path, path / "model"):
        # Paths may be too long for any file, for which pathlib would raise an error.
        if all(os.path.isfile(folder / name) for name in _FILES):  # noqa: PTH113
            return folder
    return None
