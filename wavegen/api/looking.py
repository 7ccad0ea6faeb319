"""What is in a folder of recordings or in a model; torch is not loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wavegen.data.clips import find_clips
from wavegen.data.settings import DataSettings
from wavegen.data.summary import summary
from wavegen.errors import ConfigError
from wavegen.models.serialization import best_figures, is_model, load_config
from wavegen.utils.text import display


@dataclass(frozen=True)
class Info:
    """What is in a folder of recordings or in a model; printed as `wavegen info` prints it."""

    path: Path
    sample_rate: int
    labels: Mapping[str, tuple[str, ...]]
    text: str

    def __str__(self) -> str:
        """A few lines."""
        return self.text


def info(
    path: str | Path, *, labels: Sequence[str] | None = None, label_pattern: str | None = None
) -> Info:
    """Look at a folder of recordings, or at a model.

    Args:
        path: of the folder, run folder or model directory.
        labels: attributes of metadata to use; all by default.
        label_pattern: regular expression with named groups, searched in the path of each file.

    Raises:
        ConfigError: there is no such folder.
        DataError, ModelError: as their messages say.
    """
    if is_model(path):
        config = load_config(path)
        text = config.describe()
        if best := best_figures(path):
            text += (
                f"\nheld out  {best['val_bits']:.3f} bits per sample at step {best['step']} "
                f"(uniform {best['uniform_bits']:.1f}, order-0 {best['order0_bits']:.2f})"
            )
        rate, attributes = config.sample_rate, config.labels
    elif not Path(path).is_dir():
        raise ConfigError(f"{display(path)}: no such file or folder")
    else:
        settings = DataSettings(None if labels is None else tuple(labels), label_pattern)
        clips = find_clips(path, settings)
        rate, attributes = clips.commonest_sample_rate(), clips.attributes
        text = summary(clips, rate)
    return Info(Path(path), rate, {name: tuple(each) for name, each in attributes.items()}, text)
