"""Places and names of generated files, chosen so that no recording is overwritten by another."""

from collections.abc import Collection
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

    def path(self, stem: str, recipe: Recipe, reserved: Collection[Path] = ()) -> Path:
        """Path of the WAV of a recipe.

        Args:
            stem: name of the file if `name` is empty.
            recipe: the recipe.
            reserved: paths of other files, which get no number of this one.
        """
        path = self.folder / (self.name or f"{stem}.wav")
        return path if self.overwrite else free_path(path, recipe, reserved)


def place_for(out: Path, streams: int, overwrite: bool) -> Place:
    """The place that `out` names: a folder, or the WAV file itself for a single stream."""
    if out.suffix.lower() != ".wav" or out.is_dir():
        return Place(out, "", overwrite)
    if streams > 1:
        raise ConfigError(f"{out}: is one file, but {streams} will be generated; name a folder")
    return Place(out.parent, out.name, overwrite)


def free_path(path: Path, recipe: Recipe, reserved: Collection[Path] = ()) -> Path:
    """`path`, or `path` with `-2`, `-3`, ... before its suffix: the first that may be written.

    A WAV may be written to a path without a file, also of its recipe or picture, or with a file
    that the same model generated with the same settings.

    Args:
        path: path of the WAV.
        recipe: recipe of the WAV to write.
        reserved: other paths that are not taken, except `path` itself.
    """
    for number in count(1):
        place = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        if number > 1 and place in reserved:
            continue
        beside = (place, place.with_suffix(".json"), place.with_suffix(".png"))
        if not any(each.exists() for each in beside) or _same_take(place, recipe):
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
