"""Places and names of generated files, such that no recording is overwritten by another."""

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
        folder: of them.
        name: of the only WAV; empty where the streams give the names.
        overwrite: whether a recording that was generated with other settings is replaced.
    """

    folder: Path
    name: str
    overwrite: bool

    def path(self, stem: str, recipe: Recipe) -> Path:
        """Path of the WAV of a recipe; `stem` is its name where `out` gave none."""
        path = self.folder / (self.name or f"{stem}.wav")
        return path if self.overwrite else free_path(path, recipe)


def place_for(out: Path, streams: int, overwrite: bool) -> Place:
    """The place that `out` means: a folder, or for one stream the WAV file itself."""
    if out.suffix.lower() != ".wav" or out.is_dir():
        return Place(out, "", overwrite)
    if streams > 1:
        raise ConfigError(f"{out}: is one file, and {streams} are asked for; name a folder")
    return Place(out.parent, out.name, overwrite)


def free_path(path: Path, recipe: Recipe) -> Path:
    """`path`, or `path` with `-2`, `-3`, ... before its suffix: the first that may be written.

    A WAV may be written where there is none, or where one lies that was generated with the same
    settings by the same model.

    Args:
        path: of the WAV.
        recipe: what will be written there; its position is that of the stream.
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
        # Without a recipe it is a recording of unknown origin.
        return False


def _settings(recipe: Recipe) -> dict[str, Any]:
    """All that a recording follows from, but for the place of its model and its neighbours."""
    neighbours = ("streams", "position", "model", "prompt", "threads", "versions")
    settings = {k: v for k, v in asdict(recipe).items() if k not in neighbours}
    return settings | {"stream": asdict(recipe.streams[recipe.position])}
