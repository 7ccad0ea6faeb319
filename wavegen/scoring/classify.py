"""Classes of recordings by Bayes' rule: p(class | recording) from p(recording | class)."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from wavegen.data.labels import Attributes, Labels, one_class_each
from wavegen.errors import ConfigError
from wavegen.models.base import Network
from wavegen.models.serialization import load_model
from wavegen.scoring.score import Score, score
from wavegen.scoring.sources import Source

# Default of the largest number of combinations of classes to score.
MOST_COMBINATIONS = 100


@dataclass(frozen=True)
class Classes:
    """The classes of a file; empty if it cannot be read.

    Args:
        score: bits of the file under each of the labels, or the error.
        posterior: attribute -> class -> probability.
        predicted: attribute -> most probable class.
    """

    score: Score
    posterior: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    predicted: Labels = field(default_factory=dict)


def classify(
    model: Network | str | Path,
    paths: str | Path | Sequence[str | Path | Source],
    labels: Labels | None = None,
    *,
    counts: Mapping[str, Mapping[str, int]] | None = None,
    combinations: int = MOST_COMBINATIONS,
    progress: Callable[[int], object] = int,
) -> Iterator[Classes]:
    """Classify files in their order; files that cannot be read are reported, not raised.

    Args:
        model: network in evaluation mode, or the path of a run folder or model directory.
        paths: files and folders, or results of `sources.find_sources`.
        labels: known labels; these attributes are not classified.
        counts: counts for the prior, see `posterior`. `wavegen.data.settings.class_counts` gives
            those of the training data.
        combinations: largest number of combinations of classes, see `class_kinds`.
        progress: called with the number of samples that have been scored.

    Returns:
        An iterator over the `Classes` of each file.

    Raises:
        ConfigError: no attribute is left to classify, or `counts` has no clips for one.
        DataError: a path does not exist, or a folder holds no audio.
        LabelError: a label is unknown.
        ModelError: the model is missing or damaged.
    """
    network = model if isinstance(model, Network) else load_model(model)
    kinds, attributes = class_kinds(network.config.labels, labels or {}, combinations)
    if not kinds:
        raise ConfigError("there is nothing to classify: the model has no other label attribute")
    # Checked before the long work begins.
    _priors(kinds, attributes, counts)
    scores = score(network, paths, kinds, progress=progress)
    return (_classes(each, kinds, attributes, counts) for each in scores)


def _classes(
    each: Score,
    kinds: Sequence[Labels],
    attributes: Attributes,
    counts: Mapping[str, Mapping[str, int]] | None,
) -> Classes:
    if each.error:
        return Classes(each)
    chances = posterior(each.bits, kinds, attributes, counts)
    return Classes(each, chances, {name: max(p, key=p.__getitem__) for name, p in chances.items()})


def class_kinds(
    attributes: Attributes, given: Labels, most: int = MOST_COMBINATIONS
) -> tuple[list[Labels], dict[str, tuple[str, ...]]]:
    """The labels under which to score recordings in order to classify them.

    Args:
        attributes: label attributes of the network.
        given: known labels; these attributes are not classified.
        most: largest number of combinations of classes.

    Returns:
        Every combination of classes of the other attributes; or, if there are too many, every
        class of each attribute with the others unspecified. And these attributes with their
        classes.
    """
    left = {name: tuple(classes) for name, classes in attributes.items() if name not in given}
    if not left:
        return [], {}
    if math.prod(map(len, left.values())) <= most:
        combinations = product(*left.values())
        return [{**given, **dict(zip(left, each, strict=True))} for each in combinations], left
    return one_class_each(attributes, given), left


def posterior(
    bits: np.ndarray,
    kinds: Sequence[Labels],
    attributes: Mapping[str, Sequence[str]],
    counts: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, dict[str, float]]:
    """Attribute -> class -> probability given the recording, by Bayes' rule.

    If `kinds` are combinations, the probability of a class is the sum over the other attributes.

    Args:
        bits: float64 (K,), bits under each of `kinds`.
        kinds: labels returned by `class_kinds`.
        attributes: attributes returned by `class_kinds`.
        counts: attribute -> class -> number of training clips, for the prior; by default the
            prior is uniform.

    Raises:
        ConfigError: training had no clips with one of the attributes.
    """
    with np.errstate(divide="ignore"):
        joint = np.log2(_priors(kinds, attributes, counts)) - bits
    result = {}
    for name, classes in attributes.items():
        of_class = [[kind.get(name) == each for kind in kinds] for each in classes]
        chances = np.array([np.logaddexp2.reduce(joint[rows]) for rows in of_class])
        chances = np.exp2(chances - chances.max())
        chances /= chances.sum()
        result[name] = dict(zip(classes, chances.tolist(), strict=True))
    return result


def _priors(
    kinds: Sequence[Labels],
    attributes: Mapping[str, Sequence[str]],
    counts: Mapping[str, Mapping[str, int]] | None,
) -> np.ndarray:
    """Prior of each of `kinds`, float64 (K,), without normalisation; see `posterior`."""
    if counts is None:
        return np.ones(len(kinds))

    def clips_of(name: str, each: str) -> float:
        # `counts` has no entry for a class without training clips.
        return float(counts.get(name, {}).get(each, 0))

    for name, classes in attributes.items():
        # A uniform prior would not be the one that the caller has asked for.
        if not any(clips_of(name, each) for each in classes):
            raise ConfigError(
                f"no training clip has the attribute {name}, so there is no prior for it: "
                "use --prior uniform"
            )
    asked = [[clips_of(name, kind[name]) for name in attributes if name in kind] for kind in kinds]
    return np.array([math.prod(each) for each in asked])
