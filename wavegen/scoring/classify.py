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

# Combinations of classes that are scored, unless asked otherwise.
MOST_COMBINATIONS = 100


@dataclass(frozen=True)
class Classes:
    """What a file is taken for; of a bad one, nothing.

    Args:
        score: its bits under each of the labels tried, or the error.
        posterior: attribute -> class -> probability.
        predicted: attribute -> the likeliest class.
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
    """Classify files, in their order; a bad file is no reason to stop.

    Args:
        model: a network in evaluation mode, or the path of a run folder or model directory.
        paths: files and folders, or what `sources.find_sources` found.
        labels: what is known already; those attributes are not asked about.
        counts: for the prior, as in `posterior`; those of the training data are
            `wavegen.data.settings.class_counts`.
        combinations: of classes that are scored at most, as in `class_kinds`.
        progress: told the samples as they are scored.

    Returns:
        `Classes` of each file, as they are asked for.

    Raises:
        ConfigError: there is no attribute left to ask about, or one that `counts` have none of.
        DataError, LabelError, ModelError: as their messages say.
    """
    network = model if isinstance(model, Network) else load_model(model)
    kinds, attributes = class_kinds(network.config.labels, labels or {}, combinations)
    if not kinds:
        raise ConfigError("there is nothing to classify: the model has no other label attribute")
    # Before anything takes long.
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
    """The labels under which to score in order to classify.

    Args:
        attributes: of the network.
        given: what is known already; those attributes are not asked about.
        most: combinations of classes that are scored at most.

    Returns:
        Every combination of classes of the attributes that are left; where they are too
        many, every class of each attribute with the others unspecified. And those
        attributes with their classes.
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

    The other attributes are summed over where `kinds` are combinations.

    Args:
        bits: float64 (K,) under each of `kinds`.
        kinds: of `class_kinds`.
        attributes: of `class_kinds`.
        counts: attribute -> class -> clips in training, for the prior; uniform without.

    Raises:
        ConfigError: there is an attribute of which training had no clips.
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
    """Of each of `kinds`, float64 (K,), not scaled to sum to 1; see `posterior`."""
    if counts is None:
        return np.ones(len(kinds))

    def heard(name: str, each: str) -> float:
        # A class that training had no clip of is not counted.
        return float(counts.get(name, {}).get(each, 0))

    for name, classes in attributes.items():
        # To take them all for alike would be a prior that nobody asked for.
        if not any(heard(name, each) for each in classes):
            raise ConfigError(
                f"no clip of training has a {name}, so that there is no prior for it: "
                "take --prior uniform"
            )
    asked = [[heard(name, kind[name]) for name in attributes if name in kind] for kind in kinds]
    return np.array([math.prod(each) for each in asked])
