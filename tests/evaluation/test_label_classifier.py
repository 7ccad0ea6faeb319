"""The classifier of labels learns, and fails on wrong ones."""

import numpy as np
import torch

from wavegen.evaluation import label_classifier


def tones(classes: int, count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % classes
    lengths = rng.integers(1500, 3000, count)
    waves = [
        0.3 * np.sin(2 * np.pi * 300 * (1 + target) / 8000 * np.arange(length))
        + 0.02 * rng.standard_normal(length)
        for target, length in zip(targets, lengths, strict=True)
    ]
    return [wave.astype(np.float32) for wave in waves], targets


def test_the_classifier_learns_classes_and_fails_on_wrong_ones() -> None:
    classifier = label_classifier.train(*tones(3, 60, 0), 8000, epochs=6)
    waves, targets = tones(3, 30, 1)
    assert (label_classifier.predict(classifier, waves) == targets).mean() > 0.9
    assert (label_classifier.predict(classifier, waves) == (targets + 1) % 3).mean() < 0.1
    assert label_classifier.predict(classifier, []).shape == (0,)


def test_the_classifier_learns_from_any_number_of_clips_however_short() -> None:
    waves, targets = tones(3, 33, 0)
    short = [wave[:10] for wave in waves]
    for count in (2, 32, 33):
        classifier = label_classifier.train(short[:count], targets[:count], 8000, epochs=1)
        # A batch of one clip alone would make the statistics of normalisation infinite.
        assert all(torch.isfinite(each).all() for each in classifier.state_dict().values())
        assert set(label_classifier.predict(classifier, short)) <= {0, 1, 2}
