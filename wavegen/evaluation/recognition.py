"""Whether generated clips are of the requested class, by a classifier trained on real clips."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wavegen.data.labels import Labels
from wavegen.evaluation import label_classifier
from wavegen.evaluation.intervals import Figure, share_of


@dataclass(frozen=True)
class Recognition:
    """The results of a label classifier of one attribute.

    Args:
        classes: classes with training clips; empty if no clips have the attribute.
        shares: by column, the share of clips for which it finds the requested class.
        matrices: by column, a confusion matrix from `confusion`.
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
    """Train a label classifier on real clips, and classify others with it.

    Args:
        attribute: attribute to classify.
        columns: by name, waveforms (time,) to classify, the same number in each.
        labels: labels that each of them should have.
        trained: waveforms (time,) of training clips.
        known: labels of these.
        rate: rate of all waveforms in Hz.
    """
    classes = sorted({kind[attribute] for kind in known if attribute in kind})
    asked = [n for n, kind in enumerate(labels) if kind.get(attribute) in classes]
    labelled = [n for n, kind in enumerate(known) if attribute in kind]
    if len(classes) < 2 or not asked:
        return Recognition()
    number = {name: place for place, name in enumerate(classes)}
    targets = np.array([number[known[n][attribute]] for n in labelled])
    classifier = label_classifier.train([trained[n] for n in labelled], targets, rate)
    right = np.array([number[labels[n][attribute]] for n in asked])
    shares, matrices = {}, {}
    for name, waves in columns.items():
        found = label_classifier.predict(classifier, [waves[n] for n in asked])
        shares[name] = share_of(found == right)
        pairs = [(classes[a], classes[b]) for a, b in zip(right, found, strict=True)]
        matrices[name] = confusion(pairs, classes)
    return Recognition(classes, shares, matrices)


def confusion(pairs: Iterable[tuple[str, str]], classes: Sequence[str]) -> list[list[int]]:
    """Confusion matrix: number of clips by true class (rows) and by found class (columns)."""
    place = {name: number for number, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    for true, taken in pairs:
        matrix[place[true], place[taken]] += 1
    return matrix.tolist()
