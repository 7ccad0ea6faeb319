"""`wavegen.info`: the contents of a folder of recordings or of a model, without loading torch."""

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
    """The contents of a folder of recordings or of a model; prints as `wavegen info` does."""

    path: Path
    sample_rate: int
    labels: Mapping[str, tuple[str, ...]]
    text: str

    def __str__(self) -> str:
        """The text that `wavegen info` prints."""
        return self.text


def info(
    path: str | Path, *, labels: Sequence[str] | None = None, label_pattern: str | None = None
) -> Info:
    """Describe a folder of recordings, or a model.

    Args:
        path: folder of recordings, run folder or model directory.
        labels: label attributes to use; all by default.
        label_pattern: regular expression with named groups, searched in the path of each file.

    Raises:
        ConfigError: there is no such folder.
        DataError: the folder cannot be used as training data.
        ModelError: the model is damaged or incomplete.
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
