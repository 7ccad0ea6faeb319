"""How well a model predicts held-out clips: bits per sample, and classes by likelihood."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from wavegen.audio import writing
from wavegen.codecs.codec import Codec
from wavegen.codecs.counts import entropy, histogram
from wavegen.data.labels import Attributes, Labels
from wavegen.evaluation.counterparts import ClipFigures
from wavegen.evaluation.intervals import Figure, bootstrap, share_of
from wavegen.evaluation.recognition import confusion


def bits_per_sample(
    each: Sequence[ClipFigures], waves: Sequence[np.ndarray], rate: int, codec: Codec
) -> dict[str, Any]:
    """Bits per sample of whole clips by the model, a uniform guess, a histogram and FLAC."""
    bits = np.array([one.bits for one in each])
    samples = np.array([one.samples for one in each])
    counts = np.stack([histogram(codec.encode(wave), codec) for wave in waves])
    figures: dict[str, Any] = {
        "bits_per_sample": bootstrap(lambda n: bits[n].sum() / samples[n].sum(), len(bits)),
        "uniform": float(np.log2(codec.codes)),
        "order0": bootstrap(lambda n: entropy(counts[n].sum(axis=0)), len(bits)),
    }
    if writing.has_rate("FLAC", rate):
        # The size of the whole file, including its headers.
        flac = np.array([8 * len(writing.encoded(wave, rate, "FLAC")) for wave in waves])
        lengths = np.array([len(wave) for wave in waves])
        figures["flac_16_bit"] = bootstrap(lambda n: flac[n].sum() / lengths[n].sum(), len(bits))
    return figures


def classes_by_likelihood(
    each: Sequence[ClipFigures],
    labels: Sequence[Labels],
    asked: Iterable[int],
    attributes: Attributes,
) -> tuple[dict[str, Figure], dict[str, list[list[int]]]]:
    """How often Bayes' rule finds the class of the clips that were classified.

    Args:
        each: figures of the clips.
        labels: labels of the clips.
        asked: numbers of the clips that were classified.
        attributes: label attributes of the network.

    Returns:
        By attribute the share that is right, and a confusion matrix as `confusion` makes it.
    """
    shares: dict[str, Figure] = {}
    matrices: dict[str, list[list[int]]] = {}
    for attribute, classes in attributes.items():
        pairs = [
            (labels[number][attribute], each[number].taken_for[attribute])
            for number in sorted(asked)
            if attribute in labels[number]
        ]
        if pairs:
            shares[attribute] = share_of([true == taken for true, taken in pairs])
            matrices[attribute] = confusion(pairs, classes)
    return shares, matrices
