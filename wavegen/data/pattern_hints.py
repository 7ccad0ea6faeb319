"""Suggests a label pattern for names of files such as `7_theo_0.wav`."""

import posixpath
import shlex
from collections.abc import Sequence


def pattern_hint(names: Sequence[str], labels: Sequence[str]) -> str:
    """The end of an error that suggests `fitting_pattern`; empty if there is none."""
    pattern = fitting_pattern(names, labels)
    return f", or add --data.label_pattern {shlex.quote(pattern)}" if pattern else ""


def fitting_pattern(names: Sequence[str], labels: Sequence[str]) -> str | None:
    """A pattern whose groups are `labels`, in this order; None if no pattern fits.

    The names must all be parts joined by `_`, or all by `-`, and the values of each label must
    repeat, as classes do.

    Args:
        names: paths of files, with `/`.
        labels: names of label attributes.
    """
    stems = [posixpath.splitext(posixpath.basename(name))[0] for name in names]
    if len(stems) < 2 or not all(label.isidentifier() for label in labels):
        return None
    for mark in "_-":
        rows = [stem.split(mark) for stem in stems]
        if min(map(len, rows)) <= len(labels) or not all(map(all, rows)):
            continue
        columns = list(zip(*(row[: len(labels)] for row in rows), strict=True))
        if all(len(set(column)) <= len(stems) / 2 for column in columns):
            groups = "".join(f"(?P<{label}>[^{mark}]+){mark}" for label in labels)
            return f"^{groups}"
    return None
