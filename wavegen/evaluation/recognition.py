"""Whether generated clips are of the class that was asked for, by a classifier of real ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wavegen.data.labels import Labels
from wavegen.evaluation import label_classifier
from wavegen.evaluation.intervals import Figure, share_of


@dataclass(frozen=True)
class Recognition:
    """What a label classifier of one attribute takes clips for.

    Args:
        classes: that training has clips of; none where nothing could be asked.
        shares: by column, how often it finds the class that the clips should be of.
        matrices: by column, a confusion matrix as `confusion` makes it.
    """

    classes: Sequence[str] = ()
    shares: Mapping[str, Figure] = field(default_factory=dict)
    matrices: Mapping[str, list[list[int]]] = field(default_factory=dict)


def recognition(
    attribute: str,
    columns: Mapping[str, Sequence[np.ndarray]],
    labels: Sequence[Labels],
    trained: Sequence[np.ndarray],
    known: Sequence[Labels],
    rate: int,
) -> Recognition:
    """Train a label classifier on real clips, and let it say the classes of others.

    Args:
        attribute: that is asked about.
        columns: by name, waveforms (time,) to classify, the same number in each.
        labels: that each of them should have.
        trained: waveforms (time,) of training.
        known: their labels.
        rate: of all waveforms, in Hz.
    """
    classes = sorted({kind[attribute] for kind in known if attribute in kind})
    asked = [n for n, kind in enumerate(labels) if kind.get(attribute) in classes]
    heard = [n for n, kind in enumerate(known) if attribute in kind]
    if len(classes) < 2 or not asked:
        return Recognition()
    number = {name: place for place, name in enumerate(classes)}
    targets = np.array([number[known[n][attribute]] for n in heard])
    classifier = label_classifier.train([trained[n] for n in heard], targets, rate)
    right = np.array([number[labels[n][attribute]] for n in asked])
    shares, matrices = {}, {}
    for name, waves in columns.items():
        found = label_classifier.predict(classifier, [waves[n] for n in asked])
        shares[name] = share_of(found == right)
        pairs = [(classes[a], classes[b]) for a, b in zip(right, found, strict=True)]
        matrices[name] = confusion(pairs, classes)
    return Recognition(classes, shares, matrices)


def confusion(pairs: Iterable[tuple[str, str]], classes: Sequence[str]) -> list[list[int]]:
    """How many clips of each class, by row, were taken for each class, by column."""
    place = {name: number for number, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    for true, taken in pairs:
        matrix[place[true], place[taken]] += 1
    return matrix.tolist()
