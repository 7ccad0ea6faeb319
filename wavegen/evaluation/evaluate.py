"""Evaluating a model: how well it predicts, and how its recordings compare with real ones.

A likelihood says nothing about how samples sound (Theis et al. 2016, "A note on the evaluation
of generative models"), so both are measured. For every held-out recording one is generated with
its labels and its length. All figures are computed for both, and those of the real recordings are
the reference.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wavegen.data import decoding
from wavegen.data import labels as labelling
from wavegen.data.clips import Clip, ClipSet
from wavegen.data.labels import Attributes, Labels
from wavegen.data.store import AudioStore
from wavegen.distributions.sampling import Sampling
from wavegen.engines.choice import choose
from wavegen.errors import DataError
from wavegen.evaluation.comparison import compared
from wavegen.evaluation.copies import compared_with_originals, rivals
from wavegen.evaluation.counterparts import ClipFigures, Work
from wavegen.evaluation.drift import drift
from wavegen.evaluation.prediction import bits_per_sample, classes_by_likelihood
from wavegen.evaluation.recognition import Recognition, recognition
from wavegen.evaluation.verdict import verdict
from wavegen.generation.generate import Stream
from wavegen.models.base import Network
from wavegen.scoring.classify import MOST_COMBINATIONS, class_kinds
from wavegen.utils.distributed import Kept, by_ranks, ranks

# Largest number of training clips to compare with.
_MOST_TRAINING = 4000
_LEAST = 8
# Default limit on the work of classifying, in seconds of clips times labels to score them under.
# More would take hours on a CPU.
_MOST_CLASSIFIED = 20_000


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation.

    Args:
        figures: figures by name, JSON with a `Figure` for each.
        real, generated: the held-out clips and their counterparts, float32 (time,) each.
        labels: labels of each clip.
        attributes: the label attributes.
        rivals: other copies of the clips by name, see `copies.rivals`; empty unless the network
            has features of the sound.
    """

    figures: dict[str, Any]
    real: list[np.ndarray]
    generated: list[np.ndarray]
    labels: Sequence[Labels]
    attributes: Attributes
    rivals: Mapping[str, list[np.ndarray]]


def evaluate(
    network: Network,
    clip_set: ClipSet,
    store: AudioStore,
    *,
    sampling: Sampling | None = None,
    seed: int = 0,
    most: int = 500,
    seconds: float = 5.0,
    combinations: int = MOST_COMBINATIONS,
    classified: int | None = None,
    engine: str = "auto",
    precision: str = "float32",
    stay: bool = False,
    kept: Kept | None = None,
    say: Callable[[str], object] = str,
) -> Evaluation | None:
    """Measure a network on the clips of the test split, or of validation if there is none.

    Args:
        network: network in evaluation mode.
        clip_set: the clips of `store`, with a training split to compare with.
        store: decoded clips at the rate of the network.
        sampling: how codes are drawn.
        seed: seed of the noise and of the choice of clips.
        most: largest number of held-out clips; if there are more, some are chosen at random.
        seconds: greatest length to generate and compare, from the beginning of a clip. Bits and
            classes are always those of whole clips.
        combinations, engine, precision: as in `classify` and `choose`.
        classified: largest number of clips to classify by likelihood; by default as many as make
            `_MOST_CLASSIFIED` seconds times labels.
        stay: generate on the device of the network, even if the CPU is faster for few streams.
        kept: keeps the `ClipFigures` of each pair of a number and a clip, for several ranks.
        say: called with a text about each part of the work.

    Returns:
        The results. Several ranks share the clips; only the first returns the results, and the
        others return None.

    Raises:
        DataError: too few clips are held out.
        ConfigError: an argument is out of range.
        LabelError: a label is unknown.
    """
    config, rate = network.config, network.config.sample_rate
    chance = np.random.default_rng(seed)
    split, held_out, training = _chosen(clip_set, most, chance)
    clips = [clip_set.clips[number] for number in held_out]
    labels = [labelling.among(clip.labels, config.labels) for clip in clips]
    # Copies can be recognised by labels that the network does not know.
    attributes = config.labels or (clip_set.attributes if network.hop else {})
    true = [labelling.among(clip.labels, attributes) for clip in clips]
    limit = max(1, round(seconds * rate))
    whole = [store.waveform(number) for number in held_out]
    real = [np.array(wave[:limit]) for wave in whole]
    made = choose(network, engine, precision, None if stay else -(-len(clips) // ranks()))
    # Numbers are unique over all classes, since streams of the same number have the same noise.
    streams = [Stream(kind, number) for number, kind in enumerate(labels)]
    kinds = len(class_kinds(config.labels, {}, combinations)[0])
    asked = _asked(clips, kinds, classified, chance, say)
    work = Work(network, made, labels, streams, whole, real, seed, sampling, combinations, asked)
    say(f"scoring {len(clips)} clips of the {split} split, generating their counterparts")
    each = _measured(work, clips, kept)
    if each is None:
        return None
    trained = [np.array(store.waveform(number)[:limit]) for number in training]
    known = [labelling.among(clip_set.clips[number].labels, attributes) for number in training]
    others = {}
    if config.sound_features is not None:
        say("making copies by Griffin-Lim")
        others = rivals(real, config.sound_features, config.codec)
    figures = {
        "split": split,
        **_figures(work, each, others, trained, (attributes, true, known), say),
    }
    generated = [one.generated for one in each]
    figures = {"verdict": verdict(figures), **figures}
    return Evaluation(figures, real, generated, true, attributes, others)


def _chosen(
    clip_set: ClipSet, most: int, chance: np.random.Generator
) -> tuple[str, list[int], list[int]]:
    """The held-out split, and numbers of its clips and of training clips."""
    numbers = {split: _numbers(clip_set, split) for split in ("train", "validation", "test")}
    split = "test" if numbers["test"] else "validation"
    held_out = _some(numbers[split], most, chance)
    training = _some(numbers["train"], _MOST_TRAINING, chance)
    if len(held_out) < _LEAST or len(training) < _LEAST:
        raise DataError(
            f"{clip_set.folder}: {len(held_out)} clips are held out and {len(training)} are for "
            f"training; figures need {_LEAST} of each"
        )
    return split, held_out, training


def _asked(
    clips: Sequence[Clip],
    kinds: int,
    classified: int | None,
    chance: np.random.Generator,
    say: Callable[[str], object],
) -> frozenset[int]:
    """Numbers of the clips to classify by likelihood, under so many labels each."""
    if classified is None:
        classified = _classified(clips, kinds)
    asked = frozenset(_some(range(len(clips)), classified if kinds else 0, chance))
    if kinds and len(asked) < len(clips):
        say(
            f"classifying {len(asked)} of {len(clips)} clips by likelihood, under {kinds} labels "
            "each; --classified says how many"
        )
    return asked


def _measured(work: Work, clips: Sequence[Clip], kept: Kept | None) -> list[ClipFigures] | None:
    """The figures of all clips in order, by all ranks together; None except on the first."""
    # Clips of similar length are neighbours, since they are generated together.
    order = sorted(range(len(clips)), key=lambda number: len(work.real[number]))
    found = by_ranks(
        [(number, clips[number]) for number in order],
        work.of,
        lambda item: decoding.seconds([item[1]]),
        kept,
    )
    if found is None:
        return None
    figures = dict(zip(order, found, strict=True))
    return [figures[number] for number in range(len(clips))]


def _figures(
    work: Work,
    each: Sequence[ClipFigures],
    others: Mapping[str, list[np.ndarray]],
    trained: Sequence[np.ndarray],
    labels: tuple[Attributes, Sequence[Labels], Sequence[Labels]],
    say: Callable[[str], object],
) -> dict[str, Any]:
    """All figures of the held-out clips and their counterparts.

    Args:
        work: the clips.
        each: figures of each clip.
        others: other copies of the clips, see `copies.rivals`.
        trained: waveforms of training clips to compare with, float32 (time,).
        labels: attributes to recognise, the labels of the clips, and those of the training clips.
        say: called with a text about each part of the work.
    """
    config, rate = work.network.config, work.network.config.sample_rate
    copies = {}
    generated = [one.generated for one in each]
    if config.sound_features is not None:
        drifts: dict[str, Any] = {}  # copies are as long as their originals
        columns = {"generated": generated, **others}
        copies = compared_with_originals(work.real, columns, rate, say)
    else:
        drifts = drift(work.engine, work.streams, work.real, work.seed, work.sampling)
    say(f"comparing with {len(trained)} clips of training")
    columns = {"generated": generated, "real": list(work.real)}
    recognised = {}
    attributes, true, known = labels
    for attribute in attributes:
        say(f"training a label classifier of {attribute}")
        recognised[attribute] = recognition(
            attribute, {**columns, **others}, true, trained, known, rate
        )
    right, by_likelihood = classes_by_likelihood(each, work.labels, work.classified, config.labels)
    return {
        "clips": len(work.real),
        "seconds": sum(map(len, work.real)) / rate,
        "likelihood": bits_per_sample(each, work.whole, rate, config.codec),
        "classification_by_likelihood": right,
        "clips_classified": len(work.classified),
        "samples": compared(columns, trained, rate, config.codec),
        "recognised_by_a_judge": {name: one.shares for name, one in recognised.items()},
        "confusion": _confusion(attributes, by_likelihood, recognised),
        "drift": drifts,
        "copy_synthesis": copies,
    }


def _confusion(
    attributes: Attributes,
    by_likelihood: Mapping[str, list[list[int]]],
    recognised: Mapping[str, Recognition],
) -> dict[str, dict[str, Any]]:
    """By attribute: names of the classes, and matrices of counts by the way of classifying."""
    result: dict[str, dict[str, Any]] = {}
    for name, classes in attributes.items():
        result[name] = {
            column: {"classes": list(recognised[name].classes), "counts": matrix}
            for column, matrix in recognised[name].matrices.items()
        }
        if name in by_likelihood:
            counts = by_likelihood[name]
            result[name]["by_likelihood"] = {"classes": list(classes), "counts": counts}
    return result


def _numbers(clip_set: ClipSet, split: str) -> list[int]:
    return [number for number, clip in enumerate(clip_set.clips) if clip.split == split]


def _some(numbers: Sequence[int], most: int, chance: np.random.Generator) -> list[int]:
    if len(numbers) <= most:
        return list(numbers)
    return sorted(chance.choice(np.array(numbers), most, replace=False).tolist())


def _classified(clips: Sequence[Clip], kinds: int) -> int:
    """How many of the clips to classify by default; 0 if the number would be too small."""
    each = decoding.seconds(clips) / len(clips) * max(1, kinds)
    count = min(len(clips), int(_MOST_CLASSIFIED / each))
    return count if count >= _LEAST else 0
