"""Splits: what they are called, and what is held out where the data does not say it.

The choice of validation clips is stable and keeps every class.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np

SPLITS = ("train", "validation", "test")
# As folders and metadata name them.
SPLIT_NAMES = {name: name for name in SPLITS} | dict.fromkeys(
    ("valid", "val", "dev", "eval"), "validation"
)
# Seconds of a clip whose end can be held out, and of that end.
_LONG, _MOST_HELD_OUT = 10.0, 60.0


def choose_validation(
    names: Sequence[str], labels: Sequence[Mapping[str, str]], fraction: float, seed: int
) -> set[int]:
    """Choose the positions of the clips that validate; the others train.

    Each clip is drawn by a hash of (seed, name), so it keeps its side when files come and
    go or are listed in another order. Then clips are added until every class of two clips
    or more is in validation, and every combination of classes with 1 / `fraction` clips.
    A clip that is the last of a class in train stays there, whatever that leaves out of
    validation: a class of one clip only trains.

    Args:
        names: one per clip, each different.
        labels: attribute -> class name, one mapping per clip.
        fraction: of the clips to validate, between 0 and 1, before additions.
        seed: another seed gives another choice.
    """
    draws = [_uniform(seed, name) for name in names]
    order = sorted(range(len(names)), key=draws.__getitem__)
    # Every clip is also in the class of all clips, so that neither side stays empty.
    classes = [[("", ""), *sorted(label.items())] for label in labels]
    training = Counter(one for group in classes for one in group)
    chosen: set[int] = set()
    covered: set[object] = set()

    def take(clip: int) -> bool:
        if any(training[one] < 2 for one in classes[clip]):
            return False
        chosen.add(clip)
        training.subtract(classes[clip])
        covered.update(classes[clip], [tuple(classes[clip])])
        return True

    combinations: defaultdict[object, list[int]] = defaultdict(list)
    singles: defaultdict[object, list[int]] = defaultdict(list)
    for clip in order:
        if draws[clip] < fraction:
            take(clip)
        combinations[tuple(classes[clip])].append(clip)
        for one in classes[clip]:
            singles[one].append(clip)
    large = {key: clips for key, clips in combinations.items() if len(clips) * fraction >= 1}
    for groups in (large, singles):
        for key, clips in groups.items():
            if key not in covered:
                any(take(clip) for clip in clips)
    return chosen


def hold_out_ends(
    parts: np.ndarray, fraction: float, sample_rate: int
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out the ends of long clips, for data of which no whole clip can be spared.

    Args:
        parts: int64 (clips, 3) of clip, start and stop in samples.
        fraction: of a clip that is held out, `_MOST_HELD_OUT` seconds of it at most. A clip of
            less than `_LONG` seconds stays whole.
        sample_rate: Hz.

    Returns:
        What is left to train on, int64 (clips, 3), and what validates, int64 (long clips, 3).
    """
    lengths = parts[:, 2] - parts[:, 1]
    most = round(_MOST_HELD_OUT * sample_rate)
    ends = np.minimum(np.floor(lengths * fraction).astype(np.int64), most)
    ends[lengths < _LONG * sample_rate] = 0
    training, validation = parts.copy(), parts.copy()
    training[:, 2] -= ends
    validation[:, 1] = training[:, 2]
    return training, validation[ends > 0]


def _uniform(seed: int, name: str) -> float:
    digest = blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
