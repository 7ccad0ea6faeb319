"""Label attributes: closed sets of class names, their ids, and "unspecified".

The attributes of a model are a dictionary from attribute name to class names, for example
`{"digit": ("0", ..., "9"), "speaker": ("george", ...)}`. The labels of a clip or of a request are
a dictionary from attribute to class name. An attribute that is left out is unspecified, which has
its own id and embedding.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from wavegen.errors import LabelError

if TYPE_CHECKING:
    from torch import Tensor

Attributes = Mapping[str, Sequence[str]]
Labels = Mapping[str, str]

UNSPECIFIED = 0
# Longest file name in bytes. File systems allow 255, but suffixes are added.
_LONGEST = 180


def encode(labels: Labels, attributes: Attributes) -> list[int]:
    """Ids of `labels`, one per attribute in order: 0 is unspecified, class i is i + 1.

    Raises:
        LabelError: an attribute or class is unknown; the message lists the known ones.
    """
    for name in labels:
        if name not in attributes:
            raise LabelError(f"unknown label attribute '{name}': {_known(attributes)}")
    ids = []
    for name, classes in attributes.items():
        if name not in labels:
            ids.append(UNSPECIFIED)
        elif labels[name] in classes:
            ids.append(list(classes).index(labels[name]) + 1)
        else:
            known = ", ".join(classes)
            raise LabelError(f"unknown {name} '{labels[name]}': choose one of {known}")
    return ids


def among(labels: Labels, attributes: Attributes) -> dict[str, str]:
    """The labels that are among attributes and their classes."""
    return {name: each for name, each in labels.items() if each in attributes.get(name, ())}


def label_ids(kinds: Sequence[Labels], attributes: Attributes) -> "Tensor":
    """Ids int64 (K, A) of K labels; `LabelError` for an unknown attribute or class."""
    # Imported here, so that `wavegen info` does not load torch.
    import torch

    rows = [encode(kind, attributes) for kind in kinds]
    return torch.tensor(rows, dtype=torch.int64).view(len(rows), len(attributes))


def one_class_each(attributes: Attributes, given: Labels) -> list[Labels]:
    """`given` with one more label: each class of each attribute that `given` leaves out."""
    left = {name: classes for name, classes in attributes.items() if name not in given}
    return [{**given, name: each} for name, classes in left.items() for each in classes]


def parse(texts: Iterable[str], attributes: Attributes) -> dict[str, str]:
    """Labels from the words of a command line: `dog`, or `digit=7` and `speaker=theo`.

    The attribute may be left out where the model has only one.

    Raises:
        LabelError: an attribute or class is unknown, an attribute is given twice, or a class
            is given without its attribute for a model with several attributes.
    """
    labels: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        # With a single attribute, a class name may itself hold an equals sign.
        if len(attributes) == 1 and name not in attributes:
            name, value = next(iter(attributes)), text
        elif not equals:
            raise LabelError(f"label '{text}' names no attribute: {_known(attributes)}")
        if name in labels:
            raise LabelError(f"label attribute '{name}' is given twice")
        labels[name] = value
    encode(labels, attributes)
    return labels


def describe(labels: Labels, attributes: Attributes) -> str:
    """Class names joined by `-` in the order of the attributes, as text for readers.

    Unspecified attributes are left out. If all are unspecified, the text is `any`.
    """
    return "-".join(_chosen(labels, attributes)) or "any"


def file_stem(labels: Labels, attributes: Attributes) -> str:
    """The result of `describe` as the name of a file.

    If several class names are joined, a `-` in them is written as %2D. So the classes `a-b` and
    `c` have another name than `a` and `b-c`.
    """
    names = [_escaped(name) for name in _chosen(labels, attributes)]
    if len(attributes) > 1:
        names = [name.replace("-", "%2D") for name in names]
    return _shortened("-".join(names) or "any")


def file_name(text: str) -> str:
    """`text` with the characters that a file name cannot hold written as %XX.

    A text that is too long is cut and gets a digest of the whole text.
    """
    return _shortened(_escaped(text))


def _chosen(labels: Labels, attributes: Attributes) -> list[str]:
    return [labels[name] for name in attributes if name in labels]


def _escaped(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-+._ " else f"%{ord(c):02X}" for c in text)


def _shortened(name: str) -> str:
    encoded = name.encode()
    if len(encoded) <= _LONGEST:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:12]
    return f"{encoded[: _LONGEST - 13].decode(errors='ignore')}-{digest}"


def _known(attributes: Attributes) -> str:
    if not attributes:
        return "this model was trained without labels, leave --label out"
    choices = ", ".join(f"{name}={'|'.join(classes)}" for name, classes in attributes.items())
    return f"say ATTRIBUTE=CLASS with {choices}"
