"""wavegen: train, generate from and score with autoregressive models of audio.

    model = wavegen.load("runs/digits")
    model.generate(digit="7", seconds=0.6).save("seven.wav")
    print(model.score("a.wav"))

Importing this package loads neither torch nor any other heavy dependency: a name is imported
when it is first used. For users of plain PyTorch and Lightning it also offers the network, the
LightningModule and the data module.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavegen.api.audio import Audio
    from wavegen.api.looking import Info, info
    from wavegen.api.model import Model, load
    from wavegen.api.results import Classification, Detection, Score
    from wavegen.api.running import Run, train
    from wavegen.distributions.sampling import Sampling
    from wavegen.engines.choice import choose as choose_engine
    from wavegen.errors import WavegenError
    from wavegen.models.config import WaveNetConfig
    from wavegen.models.wavenet import WaveNet
    from wavegen.training.data_module import AudioDataModule
    from wavegen.training.lightning_module import LitModel, LitWaveNet

__version__ = "0.1.0"

# Where each name is; the module, and its name there where it is another.
_PLACES = {
    "Audio": "wavegen.api.audio",
    **dict.fromkeys(("load", "Model"), "wavegen.api.model"),
    **dict.fromkeys(("Score", "Classification", "Detection"), "wavegen.api.results"),
    **dict.fromkeys(("info", "Info"), "wavegen.api.looking"),
    **dict.fromkeys(("train", "Run"), "wavegen.api.running"),
    "Sampling": "wavegen.distributions.sampling",
    "WaveNet": "wavegen.models.wavenet",
    "WaveNetConfig": "wavegen.models.config",
    "LitModel": "wavegen.training.lightning_module",
    "LitWaveNet": "wavegen.training.lightning_module",
    "AudioDataModule": "wavegen.training.data_module",
    "WavegenError": "wavegen.errors",
    "choose_engine": "wavegen.engines.choice:choose",
}

__all__ = [
    "Audio",
    "AudioDataModule",
    "Classification",
    "Detection",
    "Info",
    "LitModel",
    "LitWaveNet",
    "Model",
    "Run",
    "Sampling",
    "Score",
    "WaveNet",
    "WaveNetConfig",
    "WavegenError",
    "choose_engine",
    "info",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'wavegen' has no attribute {name!r}")
    module, _, other = _PLACES[name].partition(":")
    value = getattr(import_module(module), other or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
