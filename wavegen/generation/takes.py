"""Places and names of generated files, chosen so that no recording is overwritten by another."""

from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from wavegen.errors import ConfigError, ModelError
from wavegen.generation.recipe import Recipe, read_recipe


@dataclass(frozen=True)
class Place:
    """Where generated files are written.

    Args:
        folder: folder of the files.
        name: name of a single WAV; empty if the streams give the names.
        overwrite: whether to replace a recording that was generated with other settings.
    """

    folder: Path
    name: str
    overwrite: bool

    def path(self, stem: str, recipe: Recipe) -> Path:
        """Path of the WAV of a recipe; `stem` is its name if `name` is empty."""
        path = self.folder / (self.name or f"{stem}.wav")
        return path if self.overwrite else free_path(path, recipe)


def place_for(out: Path, streams: int, overwrite: bool) -> Place:
    """The place that `out` names: a folder, or the WAV file itself for a single stream."""
    if out.suffix.lower() != ".wav" or out.is_dir():
        return Place(out, "", overwrite)
    if streams > 1:
        raise ConfigError(f"{out}: is one file, but {streams} will be generated; name a folder")
    return Place(out.parent, out.name, overwrite)


def free_path(path: Path, recipe: Recipe) -> Path:
    """`path`, or `path` with `-2`, `-3`, ... before its suffix: the first that may be written.

    A WAV may be written to a path without a file, or with a file that the same model generated
    with the same settings.

    Args:
        path: path of the WAV.
        recipe: recipe of the WAV to write.
    """
    for number in count(1):
        place = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        if not place.exists() or _same_take(place, recipe):
            return place
    raise AssertionError("there is always a further number")


def _same_take(path: Path, recipe: Recipe) -> bool:
    try:
        return _settings(read_recipe(path.with_suffix(".json"))) == _settings(recipe)
    except ModelError:
        # Without a recipe the origin of the recording is unknown.
        return False


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Everything that a recording depends on, except paths and the other streams."""
    neighbours = ("streams", "sources", "position", "model", "prompt", "threads", "versions")
    settings = {k: v for k, v in asdict(recipe).items() if k not in neighbours}
    settings["stream"] = asdict(recipe.streams[recipe.position])
    if recipe.sources is not None:
        source = recipe.sources[recipe.position]
        settings["source"] = source.sha256, source.transpose
    return settings
