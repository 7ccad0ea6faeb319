"""How good a model is: how well it predicts, and how its recordings compare with real ones.

A likelihood says nothing of how samples sound (Theis et al. 2016, "A note on the evaluation
of generative models"), so both are measured. For every held-out recording one is generated
with its labels and its length; whatever is measured of these is measured of the real ones
too, which is the column to compare with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wavegen.audio import writing
from wavegen.audio.mel import log_mel
from wavegen.codecs import mulaw
from wavegen.data import decoding
from wavegen.data.clips import Clip, ClipSet
from wavegen.data.labels import Labels
from wavegen.data.store import AudioStore
from wavegen.distributions.sampling import Sampling
from wavegen.engines.base import Engine
from wavegen.engines.choice import choose
from wavegen.errors import DataError
from wavegen.evaluation import counterparts, label_classifier
from wavegen.evaluation.comparison import compared, decibels, histogram
from wavegen.evaluation.counterparts import ClipFigures, Work
from wavegen.evaluation.intervals import Figure, bootstrap, mean, share_of
from wavegen.generation.generate import Stream
from wavegen.models.wavenet import WaveNet
from wavegen.scoring.classify import MOST_COMBINATIONS, class_kinds
from wavegen.utils.distributed import Kept, by_ranks

# Clips of training that others are compared with.
_MOST_TRAINING = 4000
# Streams that are generated to see whether they drift, and how long against others.
_LONG_STREAMS, _LONGER, _LONGEST_SECONDS = 16, 10, 30.0
_LEAST = 8
# Seconds of clips times labels that they are scored under in order to classify them, unless asked
# otherwise: more takes hours on a CPU.
_MOST_CLASSIFIED = 20_000


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Args:
        figures: by name, JSON with a `Figure` for each; see `evaluate`.
        real, generated: the held-out clips and their counterparts, float32 (time,) each.
        labels: of each of them.
    """

    figures: dict[str, Any]
    real: list[np.ndarray]
    generated: list[np.ndarray]
    labels: Sequence[Labels]


def evaluate(
    network: WaveNet,
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
    kept: Kept | None = None,
    say: Callable[[str], object] = str,
) -> Evaluation | None:
    """Measure a network on the clips of the test split, or of validation if there is none.

    Args:
        network: in evaluation mode.
        clip_set: with a training split to compare with; the clips of `store`.
        store: at the rate of the network.
        sampling: how codes are drawn.
        seed: of the noise and of the choice of clips.
        most: held-out clips that are looked at; chosen by chance where there are more.
        seconds: of a clip that are generated and compared at most, from its beginning; bits
            and classes are those of whole clips.
        combinations, engine, precision: as in `classify` and `choose`.
        classified: clips that are classified by likelihood at most; by default as many as come
            to `_MOST_CLASSIFIED` seconds times labels.
        kept: of several ranks, keeps the `ClipFigures` of each pair of a number and a clip.
        say: told what is being done.

    Returns:
        What was measured. Of several ranks each does its share of the clips, and only the
        first has the whole; the others get None.

    Raises:
        DataError: too few clips are held out.
        ConfigError, LabelError: as their messages say.
    """
    config, rate = network.config, network.config.sample_rate
    numbers = {split: _numbers(clip_set, split) for split in ("train", "validation", "test")}
    split = "test" if numbers["test"] else "validation"
    chance = np.random.default_rng(seed)
    held_out = _some(numbers[split], most, chance)
    training = _some(numbers["train"], _MOST_TRAINING, chance)
    if len(held_out) < _LEAST or len(training) < _LEAST:
        raise DataError(
            f"{clip_set.folder}: {len(held_out)} clips are held out and {len(training)} are for "
            f"training; figures need {_LEAST} of each"
        )
    clips = [clip_set.clips[number] for number in held_out]
    labels = [_known(clip, network) for clip in clips]
    limit = max(1, round(seconds * rate))
    real = [np.array(store.waveform(number)[:limit]) for number in held_out]

    made = choose(network, engine, precision)
    # Numbered through all classes: streams of one number have the same noise.
    streams = [Stream(kind, number) for number, kind in enumerate(labels)]
    kinds = len(class_kinds(config.labels, {}, combinations)[0])
    if classified is None:
        classified = _classified(clips, kinds)
    asked = frozenset(_some(range(len(clips)), classified if kinds else 0, chance))
    if kinds and len(asked) < len(clips):
        say(
            f"classifying {len(asked)} of {len(clips)} clips by likelihood, under {kinds} labels "
            "each; --classified says how many"
        )
    work = Work(network, made, clips, labels, streams, real, seed, sampling, combinations, asked)
    say(f"scoring {len(clips)} clips of the {split} split, generating their counterparts")
    # Those of one length are generated side by side.
    order = sorted(range(len(clips)), key=lambda number: len(real[number]))
    found = by_ranks(
        [(number, clips[number]) for number in order],
        work.of,
        lambda item: decoding.seconds([item[1]]),
        kept,
    )
    if found is None:
        return None
    figures = dict(zip(order, found, strict=True))
    each = [figures[number] for number in range(len(clips))]
    whole = [store.waveform(number) for number in held_out]
    likelihood = _likelihood(each, whole, rate, config.quantization_channels)
    classification = {
        attribute: share_of([each[n].taken_for[attribute] == labels[n][attribute] for n in known])
        for attribute in config.labels
        if (known := [n for n in sorted(asked) if attribute in labels[n]])
    }
    waves = [one.generated for one in each]
    drift = _drift(made, streams, real, seed, sampling)

    say(f"comparing with {len(training)} clips of training")
    trained = [np.array(store.waveform(number)[:limit]) for number in training]
    columns = {"generated": waves, "real": real}
    samples = compared(columns, trained, rate, config.quantization_channels)
    heard = [_known(clip_set.clips[number], network) for number in training]
    recognised = {}
    for attribute in config.labels:
        say(f"training a judge of {attribute}")
        recognised[attribute] = _recognised(attribute, columns, labels, trained, heard, rate)
    return Evaluation(
        {
            "split": split,
            "clips": len(clips),
            "seconds": sum(map(len, real)) / rate,
            "likelihood": likelihood,
            "classification_by_likelihood": classification,
            "clips_classified": len(asked),
            "samples": samples,
            "recognised_by_a_judge": recognised,
            "drift": drift,
        },
        real,
        waves,
        labels,
    )


def _numbers(clip_set: ClipSet, split: str) -> list[int]:
    return [number for number, clip in enumerate(clip_set.clips) if clip.split == split]


def _some(numbers: Sequence[int], most: int, chance: np.random.Generator) -> list[int]:
    if len(numbers) <= most:
        return list(numbers)
    return sorted(chance.choice(np.array(numbers), most, replace=False).tolist())


def _classified(clips: Sequence[Clip], kinds: int) -> int:
    """How many of the clips can be classified in bearable time; none if those are too few."""
    each = decoding.seconds(clips) / len(clips) * max(1, kinds)
    count = min(len(clips), int(_MOST_CLASSIFIED / each))
    return count if count >= _LEAST else 0


def _known(clip: Clip, network: WaveNet) -> dict[str, str]:
    """The labels of a clip that the network has learned."""
    attributes = network.config.labels
    return {name: each for name, each in clip.labels.items() if each in attributes.get(name, ())}


def _likelihood(
    each: Sequence[ClipFigures], waves: Sequence[np.ndarray], rate: int, channels: int
) -> dict[str, Any]:
    bits = np.array([one.bits for one in each])
    samples = np.array([one.samples for one in each])
    counts = np.stack([histogram(wave, channels) for wave in waves])
    figures: dict[str, Any] = {
        "bits_per_sample": bootstrap(lambda n: bits[n].sum() / samples[n].sum(), len(bits)),
        "uniform": float(np.log2(channels)),
        "order0": bootstrap(lambda n: mulaw.entropy(counts[n].sum(axis=0)), len(bits)),
    }
    if writing.has_rate("FLAC", rate):
        # A file's headers and all, as people know it.
        flac = np.array([8 * len(writing.encoded(wave, rate, "FLAC")) for wave in waves])
        lengths = np.array([len(wave) for wave in waves])
        figures["flac_16_bit"] = bootstrap(lambda n: flac[n].sum() / lengths[n].sum(), len(bits))
    return figures


def _drift(
    engine: Engine,
    streams: Sequence[Stream],
    real: Sequence[np.ndarray],
    seed: int,
    sampling: Sampling | None,
) -> dict[str, Any]:
    """How the last quarter of long recordings differs from the first."""
    rate = engine.network.config.sample_rate
    seconds = min(_LONGEST_SECONDS, _LONGER * float(np.median([len(w) for w in real])) / rate)
    # Spread over the clips, which stand in the order of their names.
    chosen = streams[:: -(-len(streams) // _LONG_STREAMS)]
    long = list(
        counterparts.generated(
            engine, chosen, [round(seconds * rate)] * len(chosen), seed, sampling
        )
    )
    quarter = len(long[0]) // 4
    ends = [(wave[:quarter], wave[-quarter:]) for wave in long]
    level = [decibels(last) - decibels(first) for first, last in ends]
    spectra = [[log_mel(part, rate).mean(axis=0) for part in each] for each in ends]
    # Natural logarithms of power: 4.34 decibels each.
    spectrum = [4.343 * float(np.abs(last - first).mean()) for first, last in spectra]
    return {
        "seconds": seconds,
        "level_decibels": mean(level),
        "spectrum_decibels": mean(spectrum),
    }


def _recognised(
    attribute: str,
    columns: dict[str, list[np.ndarray]],
    labels: Sequence[Labels],
    trained: Sequence[np.ndarray],
    known: Sequence[Labels],
    rate: int,
) -> dict[str, Figure]:
    """How often a classifier of the training clips predicts the class that was asked for."""
    classes = sorted({kind[attribute] for kind in known if attribute in kind})
    asked = [n for n, kind in enumerate(labels) if kind.get(attribute) in classes]
    heard = [n for n, kind in enumerate(known) if attribute in kind]
    if len(classes) < 2 or not asked:
        return {}
    number = {name: place for place, name in enumerate(classes)}
    targets = np.array([number[known[n][attribute]] for n in heard])
    classifier = label_classifier.train([trained[n] for n in heard], targets, rate)
    right = np.array([number[labels[n][attribute]] for n in asked])
    return {
        name: share_of(label_classifier.predict(classifier, [waves[n] for n in asked]) == right)
        for name, waves in columns.items()
    }
