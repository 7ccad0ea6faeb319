"""The model directory: `config.json` and `model.safetensors`, all one needs to generate.

Nothing in it is code: the config is checked field by field, the weights are plain
tensors, and their shapes must be those of the config. What only looks at a model loads
no torch.
"""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

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
    file = plain(find_model(path) / CONFIG)
    try:
        return config_from_json(read_text(file, ModelError))
    except ConfigError as error:
        raise ModelError(f"{file}: {error}") from error


def load_model(path: str | Path, device: "str | torch.device" = "cpu") -> "Network":
    """The network of a model directory or run folder, float32, in evaluation mode.

    Raises:
        ModelError: no model there, a damaged file, weights of other shapes than the
            config's, of a type that is not real, or such as are not finite.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    device = pick_device(device)
    folder = find_model(path)
    config = load_config(folder)
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
            for name in sorted(names):
                if (kind := stored.get_slice(name).get_dtype()) not in _REAL:
                    raise ModelError(
                        f"{file}: '{name}' is of type {kind}; weights must be real floating-point "
                        "numbers or integers"
                    )
                tensor = stored.get_tensor(name).to(torch.float32)
                if not torch.isfinite(tensor).all():
                    raise ModelError(
                        f"{file}: '{name}' holds NaN or infinity, which no model computes with; "
                        "the file is damaged or its training had failed: take an earlier model"
                    )
                weights[name] = tensor.to(device)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file}: damaged or not a safetensors file ({error})") from error
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False).eval()


def fingerprint(path: str | Path) -> str:
    """SHA-256 over config and weights of a model, to tell whether two are the same."""
    folder = find_model(path)
    parts = "".join(file_sha256(plain(folder / name), ModelError) for name in (CONFIG, WEIGHTS))
    return hashlib.sha256(parts.encode()).hexdigest()


def load_with_fingerprint(
    path: str | Path, device: "str | torch.device" = "cpu"
) -> tuple["Network", str]:
    """`load_model` and `fingerprint` of one and the same model, though training may save others.

    Raises:
        ModelError: as `load_model`.
    """
    while True:
        before = _states(path)
        network, known = load_model(path, device), fingerprint(path)
        if _states(path) == before:
            return network, known


def _states(path: str | Path) -> list[tuple[int, ...]]:
    """Of config and weights, what differs once another file has taken their place."""
    folder = find_model(path)
    return [
        (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        for about in (os.stat(folder / name) for name in (CONFIG, WEIGHTS))  # noqa: PTH116
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
        if all(os.path.isfile(folder / name) for name in (CONFIG, WEIGHTS)):  # noqa: PTH113
            return folder
    return None
