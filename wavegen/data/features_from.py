"""Features of clips from files, such as those that a text-to-speech system has predicted."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wavegen.audio.feature_files import SUFFIX, feature_files, open_features, read_features
from wavegen.audio.features import FeatureSet
from wavegen.data.clips import some
from wavegen.data.folders import OnBadFile, count
from wavegen.errors import DataError, WavegenError
from wavegen.utils.text import display, writable

# Frames more or fewer than the definition gives. A system that makes several frames at a time pads
# the last ones.
_MORE, _FEWER = 8, 2


class FramesFromFiles:
    """Returns the frames of a clip by its number, from the `.npy` files of a folder.

    The file of the recording `a/b.wav` is `a/b.npy` below the folder; or `b.npy`, if no other
    recording is called `b`.

    Args:
        folder: the folder.
        features: definition of the features.
        names: names of all clips.
        lengths: their lengths in samples, at the rate of the features.
        on_bad_file: "skip" leaves out a clip without usable features, "fail" raises.

    Attributes:
        unusable: numbers of the clips without usable features.
        remarks: remarks for the user on the files.

    Raises:
        DataError: the folder does not exist or holds no `.npy` files; no clip has usable features,
            or one has none and `on_bad_file` is "fail".
    """

    def __init__(
        self,
        folder: str | Path,
        features: FeatureSet,
        names: Sequence[str],
        lengths: Sequence[int],
        on_bad_file: OnBadFile = "skip",
    ) -> None:
        self._root, self._features = Path(folder), features
        self._names, self._lengths = names, lengths
        if not self._root.is_dir():
            raise DataError(f"--data.features_from {display(folder)}: no such folder")
        found = feature_files(self._root)
        if not found:
            raise DataError(f"--data.features_from {display(folder)}: holds no {SUFFIX} files")
        files = {
            writable(path.relative_to(self._root).with_suffix("").as_posix()): path
            for path in found
        }
        stems = [Path(name).with_suffix("") for name in names]
        # A name without its folders must be that of one recording.
        alike = Counter(stem.name for stem in stems)
        self._paths = [
            files.get(stem.as_posix()) or (files.get(stem.name) if alike[stem.name] == 1 else None)
            for stem in stems
        ]
        errors: dict[int, WavegenError] = {}
        for clip in range(len(names)):
            try:
                self._check(clip)
            except WavegenError as error:
                errors[clip] = error
                if on_bad_file == "fail":
                    raise
        self.unusable = list(errors)
        self.remarks = []
        if errors:
            first = next(iter(errors.values()))
            if len(errors) == len(names):
                raise first
            number = count(len(errors), "clip")
            self.remarks.append(f"{number} without usable features are left out; first: {first}")
        unused = sorted(set(found) - set(filter(None, self._paths)))
        if unused:
            number = count(len(unused), "file")
            listed = some(str(path.relative_to(self._root)) for path in unused)
            self.remarks.append(f"{number} of features without a recording: {listed}")

    def __call__(self, clip: int) -> np.ndarray:
        """The frames (F, D) of a clip, mapped into memory."""
        path = self._paths[clip]
        assert path is not None
        return open_features(path, self._features)

    def _check(self, clip: int) -> None:
        name, path, samples = display(self._names[clip]), self._paths[clip], self._lengths[clip]
        if path is None:
            raise DataError(f"{name}: has no {SUFFIX} file in {display(self._root)}")
        frames = len(read_features(path, self._features))
        expected = self._features.frames(samples)
        if not expected - _FEWER <= frames <= expected + _MORE:
            raise DataError(
                f"{display(path)}: holds {frames} frames, but {name} has {samples} samples, which "
                f"are {expected} frames of {self._features.hop_length}"
            )
