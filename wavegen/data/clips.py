"""Finds the clips of a folder with their labels and splits, and lists the files left out."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wavegen.audio.reading import AudioInfo, probe
from wavegen.data.folders import LeftOut, OnBadFile, Skipped, count, walk
from wavegen.data.metadata import Description, describe
from wavegen.data.settings import DEFAULT_SETTINGS, DataSettings
from wavegen.data.splits import choose_validation
from wavegen.errors import AudioFileError, ConfigError, DataError, LabelError
from wavegen.utils.text import display, writable


@dataclass(frozen=True)
class Clip:
    """One recording of a data set.

    `name` is its path below the folder, printable, with `/` between folders. `labels`
    maps attribute to class name; an attribute that is missing is unspecified. `size`
    (bytes) and `mtime_ns` show whether the file has changed since.
    """

    path: Path
    name: str
    labels: dict[str, str]
    split: str
    info: AudioInfo
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class ClipSet:
    """The clips of a folder, sorted by name.

    `attributes` maps each label attribute, in the order of the columns or of the user, to its
    class names in natural order ("2" before "10"). `notes` are remarks to print once. `settings`
    are those that the folder was read with.
    """

    folder: Path
    clips: tuple[Clip, ...]
    attributes: dict[str, tuple[str, ...]]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    settings: DataSettings = DEFAULT_SETTINGS

    def of(self, split: str) -> tuple[Clip, ...]:
        """Return the clips of "train", "validation" or "test"."""
        return tuple(clip for clip in self.clips if clip.split == split)

    def class_counts(self, split: str) -> dict[str, dict[str, int]]:
        """Return attribute -> class -> number of clips in a split, for all classes of the set."""
        counts = {key: dict.fromkeys(names, 0) for key, names in self.attributes.items()}
        for clip in self.of(split):
            for key in counts.keys() & clip.labels.keys():
                counts[key][clip.labels[key]] += 1
        return counts

    def without(self, skipped: Sequence[Skipped]) -> "ClipSet":
        """Return the set without clips that cannot be decoded, and without empty classes."""
        names = {bad.name for bad in skipped}
        clips = tuple(clip for clip in self.clips if clip.name not in names)
        left = classes_of(clips)
        return replace(
            self,
            clips=clips,
            attributes={key: left[key] for key in self.attributes if key in left},
            skipped=(*self.skipped, *skipped),
        )

    def with_labels_of(self, other: "ClipSet") -> "ClipSet":
        """Return the set with the labels that its clips have in another set of the same folder."""
        labels = {clip.name: clip.labels for clip in other.clips}
        clips = tuple(replace(clip, labels=labels.get(clip.name, {})) for clip in self.clips)
        return replace(self, clips=clips, attributes=other.attributes)

    def commonest_sample_rate(self, limit: int = 16_000) -> int:
        """Return the most common rate (Hz), the higher one of a tie, but at most `limit`."""
        rates = Counter(clip.info.sample_rate for clip in self.clips)
        return min(limit, max(rates, key=lambda rate: (rates[rate], rate)))


def find_clips(
    folder: str | os.PathLike[str],
    settings: DataSettings = DEFAULT_SETTINGS,
    on_bad_file: OnBadFile = "skip",
) -> ClipSet:
    """Find every clip below `folder`, with its labels and its split (see `metadata.describe`).

    Links to folders are followed, but each folder is read once. Hidden files and folders are
    skipped. Only headers are read, so damage after the header is found when decoding. If no clip
    is in validation, some are chosen from train (`choose_validation`). There is a test split only
    if the data has one.

    Args:
        folder: folder of recordings.
        settings: the labels to use and their source, and the share to hold out.
        on_bad_file: "skip" lists a file that cannot be used, "fail" raises.

    Raises:
        DataError: there is no usable clip, or the metadata cannot be used.
        LabelError: an attribute in `settings.labels` does not exist.
        ConfigError: `on_bad_file` is unknown, or the pattern has no named groups.
        AudioFileError: a file cannot be used, and `on_bad_file` is "fail".
    """
    if on_bad_file not in ("skip", "fail"):
        raise ConfigError(f"--data.on_bad_file is {on_bad_file!r}; give skip or fail")
    root = Path(folder)
    left_out = LeftOut(root, on_bad_file)
    names, notes = walk(root, left_out, skip_runs=True)
    try:
        described = describe(root, names, settings.labels, settings.label_pattern)
    except (DataError, LabelError) as error:
        raise type(error)(f"{display(root)}: {display(str(error))}") from error
    present = set(names)
    for name, reason in described.left_out:
        left_out.add(name, reason, there=name in present)
    clips = _probed(root, described.files, left_out)
    if not clips:
        first = left_out.skipped[0]
        raise DataError(
            f"{display(root)}: none of its {len(names)} audio files can be used;"
            f" {first.name} {first.reason}"
        )
    clips = _with_validation(clips, settings.validation_fraction, settings.seed)
    if not any(clip.split == "train" for clip in clips):
        raise DataError(f"{display(root)}: no clip is in the train split; put some there")
    classes = classes_of(clips)
    # In the order of the columns, not of the clips.
    attributes = {
        key: classes[key] for key in map(writable, described.attributes) if key in classes
    }
    return ClipSet(
        folder=root,
        clips=tuple(clips),
        attributes=attributes,
        skipped=tuple(left_out.skipped),
        notes=(*notes, *described.notes, *_remarks(clips, attributes)),
        settings=settings,
    )


def _probed(root: Path, files: Mapping[str, Description], left_out: LeftOut) -> list[Clip]:
    clips = []
    for name, description in files.items():
        path = root / name
        try:
            info = probe(path)
            status = path.stat()
        except AudioFileError as error:
            left_out.add(name, error.reason, AudioFileError, split=description.split)
            continue
        clips.append(
            Clip(
                path=path,
                name=writable(name),
                # Names may hold any bytes, but labels can be printed and written as JSON.
                labels={writable(key): writable(it) for key, it in description.labels.items()},
                split=description.split or "train",
                info=info,
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
            )
        )
    return clips


def _with_validation(clips: Sequence[Clip], fraction: float, seed: int) -> list[Clip]:
    if any(clip.split == "validation" for clip in clips):
        return list(clips)
    train = [position for position, clip in enumerate(clips) if clip.split == "train"]
    names = [clips[position].name for position in train]
    labels = [clips[position].labels for position in train]
    chosen = {train[i] for i in choose_validation(names, labels, fraction, seed)}
    return [
        replace(clip, split="validation") if position in chosen else clip
        for position, clip in enumerate(clips)
    ]


def classes_of(clips: Iterable[Clip]) -> dict[str, tuple[str, ...]]:
    """Attribute -> class names of these clips, in natural order."""
    classes: defaultdict[str, set[str]] = defaultdict(set)
    for clip in clips:
        for attribute, name in clip.labels.items():
            classes[attribute].add(name)
    return {key: tuple(sorted(names, key=_natural)) for key, names in classes.items()}


def _natural(name: str) -> tuple[list[object], str]:
    """Sort key in which runs of digits count as numbers."""
    parts = re.split(r"([0-9]+)", name.casefold())
    numbers = [part.lstrip("0") for part in parts]
    # Text and digits alternate, so that text is only compared with text, and digits with digits.
    return [(len(n), n) if i % 2 else parts[i] for i, n in enumerate(numbers)], name


def _remarks(clips: Sequence[Clip], attributes: Mapping[str, Sequence[str]]) -> list[str]:
    notes = []
    several = sum(clip.info.channels > 1 for clip in clips)
    if several:
        notes.append(f"{count(several, 'file')} with several channels: mixed to mono by their mean")
    trained, validated = (
        [clip.labels for clip in clips if clip.split == split] for split in ("train", "validation")
    )
    if not validated:
        notes.append("nothing is in validation: no clip can be spared from training")
    for attribute, names in attributes.items():
        unspecified = sum(attribute not in clip.labels for clip in clips)
        if unspecified:
            notes.append(f"{count(unspecified, 'clip')} without {attribute}: left unspecified")
        missing = set(names) - {labels.get(attribute) for labels in trained}
        if missing:
            notes.append(f"{attribute} not in train, so never learned: {some(missing)}")
        missing = set(names) - {labels.get(attribute) for labels in validated}
        if missing and validated:
            notes.append(f"{attribute} not in validation: {some(missing)}")
    return notes


def some(names: Iterable[str]) -> str:
    """The first five names in natural order, and how many more there are."""
    listed = sorted(names, key=_natural)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
