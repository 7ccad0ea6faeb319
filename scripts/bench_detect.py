"""How well `wavegen detect` distinguishes anomalies from held-out recordings.

python scripts/bench_detect.py MODEL FOLDER [--others FOLDER] [--json FILE]

FOLDER is the training folder of MODEL. A random half of its held-out clips calibrates the detector,
in many draws. The other half is tested unchanged and with each of several changes. The recordings
of `--others` are tested unchanged. The figures are the area under the ROC curve of the distances,
and the share of recordings flagged at a false alarm rate of one in a hundred.

The last rows are adversarial: a small classifier of the first attribute of the model is trained on
the training clips, and the held-out clips are changed to deceive it.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence

import adversary
import numpy as np
from machine import json_file, machine, run
from scipy.stats import binom, rankdata

from wavegen.codecs import mulaw
from wavegen.data.decoding import decoded
from wavegen.data.settings import DEFAULT_SETTINGS, DataSettings, training_settings
from wavegen.errors import ConfigError
from wavegen.evaluation import label_classifier
from wavegen.models.serialization import fingerprint, load_model
from wavegen.models.wavenet import WaveNet
from wavegen.scoring.anomaly import SCORES, Detector, bits_by_others, features, order0_bits
from wavegen.scoring.calibration import class_gain, explanations
from wavegen.scoring.likelihood import scorer
from wavegen.scoring.sources import find_sources
from wavegen.utils.files import write_json

FALSE_ALARMS = 0.01
DRAWS = 40
# Largest change of a sample by the attack; full scale is 1.
STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03)
_RNG = np.random.default_rng(0)


def _as_loud(wave: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`other` at the root mean square of `wave`."""
    return other * np.sqrt(np.mean(wave**2) / max(np.mean(other**2), 1e-12))


def _pink(wave: np.ndarray, _rate: int) -> np.ndarray:
    frequencies = np.fft.rfftfreq(len(wave))
    spectrum = np.fft.rfft(_RNG.standard_normal(len(wave)))
    spectrum[1:] /= np.sqrt(frequencies[1:])
    spectrum[0] = 0
    return _as_loud(wave, np.fft.irfft(spectrum, len(wave)))


def _tones(wave: np.ndarray, rate: int) -> np.ndarray:
    time = np.arange(len(wave)) / rate
    hertz = _RNG.uniform(150, 600)
    partials = (np.sin(2 * np.pi * hertz * k * time) / k for k in (1, 2, 3, 4))
    return _as_loud(wave, np.sum(list(partials), axis=0))


def _drop_out(wave: np.ndarray, rate: int) -> np.ndarray:
    """20 ms of silence at a random place in the louder half."""
    size = round(0.02 * rate)
    loud = np.convolve(wave**2, np.ones(size), mode="valid")
    begin = _RNG.choice(np.flatnonzero(loud >= np.median(loud))) if len(loud) else 0
    wave = wave.copy()
    wave[begin : begin + size] = 0
    return wave


CHANGES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "white noise, as loud": lambda wave, _: _as_loud(wave, _RNG.standard_normal(len(wave))),
    "pink noise, as loud": _pink,
    "four partials of a tone, as loud": _tones,
    "reversed": lambda wave, _: wave[::-1],
    "clipped at a fifth of its peak": lambda wave, _: np.clip(
        wave, -0.2 * np.abs(wave).max(), 0.2 * np.abs(wave).max()
    ),
    "50 Hz hum at -34 dB": lambda wave, rate: (
        wave + 0.02 * np.sin(2 * np.pi * 50 * np.arange(len(wave)) / rate)
    ),
    "a drop-out of 20 ms": _drop_out,
}


def auc(odd: np.ndarray, normal: np.ndarray) -> float:
    """Probability that a value of `odd` is above one of `normal`."""
    ranks = rankdata(np.concatenate([odd, normal]))
    return float((ranks[: len(odd)].sum() / len(odd) - (len(odd) + 1) / 2) / len(normal))


def read(
    folder: str,
    rate: int,
    split: str | None = None,
    settings: DataSettings = DEFAULT_SETTINGS,
) -> tuple[list[np.ndarray], list[dict[str, str]]]:
    """Waveforms and labels of a folder's clips."""
    sources = find_sources([folder], labelled=split is not None, split=split, settings=settings)
    good = [source for source in sources if not source.error]
    waves = [np.concatenate(list(decoded(each.path, rate, each.trim))) for each in good]
    return waves, [dict(each.labels) for each in good]


def scored(network: WaveNet, waves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Features without a background (N, len(SCORES)), and histograms of codes (N, Q)."""
    codes = network.config.quantization_channels
    encoded = [mulaw.encode(wave, codes) for wave in waves]
    conditions = explanations(network.config.labels, {})
    ready, rate = scorer(network, conditions), network.config.sample_rate
    rows = []
    for recording in encoded:
        (bits,) = ready.surprisals([recording])
        gain = class_gain(bits.sum(axis=1), conditions) / len(recording)
        rows.append(features(bits[0], 0.0, gain, rate))
    return (
        np.array(rows),
        np.array([np.bincount(each, minlength=codes) for each in encoded]),
    )


def _adversarial(
    folder: str, rate: int, attribute: str, classes: Sequence[str], settings: DataSettings
) -> Iterator[tuple[str, list[np.ndarray], float]]:
    """Attacked held-out clips at several strengths, and the accuracy of the classifier on them."""

    def clips(split: str) -> tuple[list[np.ndarray], np.ndarray]:
        waves, labels = read(folder, rate, split, settings)
        return waves, np.array([list(classes).index(each[attribute]) for each in labels])

    classifier = label_classifier.train(*clips("train"), rate)
    waves, targets = clips("validation")
    right = float(np.mean(label_classifier.predict(classifier, waves) == targets))
    print(f"the classifier of {attribute} is right on {right:.3f} of the held-out clips")
    for strength in STRENGTHS:
        moved = adversary.attacked(classifier, waves, targets, strength)
        right = float(np.mean(label_classifier.predict(classifier, moved) == targets))
        yield f"adversarial, each sample within {strength}", moved, right


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("--others", metavar="FOLDER")
    parser.add_argument("--json", type=json_file, metavar="FILE")
    options = parser.parse_args()
    network = load_model(options.model)
    rate = network.config.sample_rate
    settings = training_settings(options.model)
    waves, _ = read(options.folder, rate, "validation", settings)
    if FALSE_ALARMS * (len(waves) // 2 + 1) < 1:
        raise ConfigError(f"{options.folder}: too few recordings are held out")
    variants = {"normal": waves}
    variants |= {
        name: [change(wave, rate).clip(-1, 1).astype(np.float32) for wave in waves]
        for name, change in CHANGES.items()
    }
    if options.others:
        variants["other recordings"] = read(options.others, rate)[0]
    accuracies: dict[str, float] = {}
    if network.config.labels:
        attribute, classes = next(iter(network.config.labels.items()))
        attacked = _adversarial(options.folder, rate, attribute, classes, settings)
        for name, fooled, right in attacked:
            variants[name], accuracies[name] = fooled, right
    scores = {name: scored(network, each) for name, each in variants.items()}

    areas: dict[str, list[float]] = {name: [] for name in scores}
    flagged: dict[str, list[float]] = {name: [] for name in scores}
    for _ in range(DRAWS):
        shuffled = _RNG.permutation(len(waves))
        first, second = shuffled[: len(waves) // 2], shuffled[len(waves) // 2 :]
        background = order0_bits(scores["normal"][1][first].sum(axis=0))

        def with_ratio(
            name: str, chosen: np.ndarray, background: np.ndarray = background
        ) -> np.ndarray:
            rows, histograms = scores[name][0][chosen].copy(), scores[name][1][chosen]
            rows[:, SCORES.index("ratio")] -= histograms @ background / histograms.sum(axis=1)
            return rows

        calibration = scores["normal"][0][first].copy()
        calibration[:, SCORES.index("ratio")] -= bits_by_others(scores["normal"][1][first])
        detector = Detector(calibration, rate, "")
        normal = detector.distance(with_ratio("normal", second))
        for name, each in variants.items():
            chosen = np.arange(len(each)) if name == "other recordings" else second
            odd = detector.distance(with_ratio(name, chosen))
            areas[name].append(auc(odd, normal))
            flagged[name].append(float(np.mean(detector.p_values(odd) <= FALSE_ALARMS)))
    rows = []
    for name in scores:
        row = {"kind": name, "auc": np.mean(areas[name]), "flagged": np.mean(flagged[name])}
        if name in accuracies:
            row["classifier_accuracy"] = accuracies[name]
        rows.append({key: value if key == "kind" else float(value) for key, value in row.items()})
        fooled = f"   classifier right {accuracies[name]:.3f}" if name in accuracies else ""
        print(f"{name:<40} ROC AUC {row['auc']:.3f}   flagged {row['flagged']:.3f}{fooled}")
    count = len(waves) - len(waves) // 2
    low, high = (binom.ppf(q, count, FALSE_ALARMS) / count for q in (0.005, 0.995))
    within = float(np.mean([low <= each <= high for each in flagged["normal"]]))
    print(
        f"false alarms: {FALSE_ALARMS} asked, {np.mean(flagged['normal']):.4f} found; in "
        f"{within:.0%} of {DRAWS} draws within the 99 % binomial interval "
        f"{low:.4f} to {high:.4f} of {count} recordings"
    )
    if options.json:
        about = {"model_sha256": fingerprint(options.model), "recordings": len(waves)}
        found = {"false_alarms_asked": FALSE_ALARMS, "draws_within_interval": within}
        write_json(options.json, {"machine": machine(), **about, **found, "rows": rows})
    return 0


if __name__ == "__main__":
    run(main)
