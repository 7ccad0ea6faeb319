"""Files with the bits of every sample of a recording: arrays (npz) and pictures (PNG)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wavegen.audio.plots import SurprisalPicture
from wavegen.data import labels as labelling
from wavegen.errors import ConfigError
from wavegen.scoring.score import Score
from wavegen.scoring.sources import Source
from wavegen.utils.files import appearing_whole, make_folder, write_bytes
from wavegen.utils.text import display


class Samples:
    """The `Watcher` of one file: collects its bits, draws its picture, or both.

    Args:
        sample_rate: rate of the network in Hz.
        most: largest number of samples that the file may have.
        keep: whether to collect the bits.
        draw: whether to draw the picture.
    """

    def __init__(self, sample_rate: int, most: int, keep: bool, draw: bool) -> None:
        self._keep = keep
        self.bits: list[np.ndarray] = []
        self.picture = SurprisalPicture(sample_rate, most) if draw else None

    def add(self, waveform: np.ndarray, surprisal: np.ndarray) -> None:
        """Add the next samples, float32 (time,), and their bits, float64 (time,)."""
        if self._keep:
            self.bits.append(surprisal)
        if self.picture is not None:
            self.picture.add(waveform, surprisal)


@dataclass(frozen=True)
class SampleFiles:
    """Writes the files; without folders it writes none.

    Args:
        sample_rate: rate of the network in Hz.
        arrays: folder for the arrays of bits.
        pictures: folder for the pictures.
    """

    sample_rate: int
    arrays: str | None = None
    pictures: str | None = None

    @property
    def wanted(self) -> bool:
        """Whether any file is written."""
        return bool(self.arrays or self.pictures)

    def make_folders(self) -> None:
        """Make the folders, before the long work begins."""
        for folder in filter(None, (self.arrays, self.pictures)):
            make_folder(folder)

    def watch(self, most: int) -> Samples:
        """Make the watcher of a file that has at most `most` samples."""
        return Samples(self.sample_rate, most, bool(self.arrays), bool(self.pictures))

    def names(self, paths: Sequence[str], sources: Sequence[Source]) -> list[str]:
        """Names of the files of each source, without suffix: its path relative to `paths`.

        Raises:
            ConfigError: two sources have the same name, and files are written.
        """
        roots = [Path(path) for path in paths]
        names = []
        for source in sources:
            above = (source.path, *source.path.parents)
            root = next((each for each in roots if each in above), None)
            # Metadata may name files outside of the folder.
            top = source.path.parent if root in (None, source.path) else root
            inside = source.path.relative_to(top)
            names.append("-".join(map(labelling.file_name, map(display, inside.parts))))
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice and self.wanted:
            raise ConfigError(f"two files would be written to {twice[0]}: score them one by one")
        return names

    def there(self, name: str) -> bool:
        """Whether all files of this name have been written."""
        written = ((self.arrays, "npz"), (self.pictures, "png"))
        return all((Path(folder) / f"{name}.{kind}").exists() for folder, kind in written if folder)

    def write(self, name: str, each: Score, spans: Sequence[tuple[float, float]] = ()) -> Score:
        """Write the files of a score with a watcher; return the score without samples.

        Args:
            name: name of the files.
            each: the score.
            spans: spans in seconds to shade in the picture.
        """
        if isinstance(each.watcher, Samples):
            if self.arrays:
                bits = np.concatenate(each.watcher.bits)
                with appearing_whole(Path(self.arrays) / f"{name}.npz") as file:
                    np.savez_compressed(file, surprisal=bits, sample_rate=self.sample_rate)
            if self.pictures and each.watcher.picture is not None:
                picture = each.watcher.picture.png(display(each.source.path), spans)
                write_bytes(Path(self.pictures) / f"{name}.png", picture)
        return each.without_samples()
