"""The names of splits, and the choice of validation clips if the data has no splits.

The choice is stable, and keeps clips of every class in training.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np

SPLITS = ("train", "validation", "test")
# Names of splits in folders and metadata.
SPLIT_NAMES = {name: name for name in SPLITS} | dict.fromkeys(
    ("valid", "val", "dev", "eval"), "validation"
)
# Least seconds of a clip whose end can be held out, and most seconds of that end.
_LONG, _MOST_HELD_OUT = 10.0, 60.0


def choose_validation(
    names: Sequence[str], labels: Sequence[Mapping[str, str]], fraction: float, seed: int
) -> set[int]:
    """Choose the positions of the clips for validation; the others are for training.

    Each clip is drawn by a hash of (seed, name), so it stays in its split when files are added,
    removed or listed in another order. Then clips are added until validation has every class
    with two clips or more, and every combination of classes with 1 / `fraction` clips or more.
    The last clip of a class always stays in training, so a class with one clip is in training
    only.

    Args:
        names: names of the clips, each different.
        labels: attribute -> class name of each clip.
        fraction: share of the clips, between 0 and 1, before clips are added.
        seed: seed of the choice.
    """
    draws = [_uniform(seed, name) for name in names]
    order = sorted(range(len(names)), key=draws.__getitem__)
    # Every clip is also in a class of all clips, so that neither split stays empty.
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
    """Hold out the ends of long clips, for data that has too few clips to hold out whole ones.

    Args:
        parts: int64 (clips, 3): clip, start and stop in samples.
        fraction: share of a clip to hold out, but at most `_MOST_HELD_OUT` seconds. A clip
            shorter than `_LONG` seconds is not cut.
        sample_rate: rate of the clips in Hz.

    Returns:
        Parts for training, int64 (clips, 3), and parts for validation, int64 (long clips, 3).
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
