"""Confusion matrices count what was taken for what."""

import numpy as np
from sklearn.metrics import confusion_matrix

from wavegen.evaluation.recognition import confusion, recognition


def test_the_matrix_is_that_of_the_textbook() -> None:
    rng = np.random.default_rng(0)
    classes = ("a", "b", "c", "never")
    pairs = [(str(a), str(b)) for a, b in rng.choice(["a", "b", "c"], (50, 2))]
    true, taken = zip(*pairs, strict=True)
    assert confusion(pairs, classes) == confusion_matrix(true, taken, labels=classes).tolist()


def test_where_there_is_one_class_nothing_is_asked() -> None:
    waves = [np.zeros(800, np.float32)] * 3
    labels = [{"label": "a"}] * 3
    found = recognition("label", {"real": waves}, labels, waves, labels, 8000)
    assert not found.shares
    assert not found.matrices
