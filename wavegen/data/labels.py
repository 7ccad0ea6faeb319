"""Label attributes: closed sets of class names, their ids, and "unspecified".

The attributes of a model are a dictionary from attribute name to class names, for
example `{"digit": ("0", ..., "9"), "speaker": ("george", ...)}`. A clip's or a
request's labels are a dictionary from attribute to class name; an attribute that is
left out is unspecified, which has an id and an embedding of its own.
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
# Bytes of a file's name, of the 255 that file systems allow: what is added to it needs some.
_LONGEST = 180


def encode(labels: Labels, attributes: Attributes) -> list[int]:
    """Ids of `labels`, one per attribute in order: 0 is unspecified, class i is i + 1.

    Raises:
        LabelError: an unknown attribute or class; the message lists the known ones.
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


def label_ids(kinds: Sequence[Labels], attributes: Attributes) -> "Tensor":
    """Ids int64 (K, A) of K times attribute -> class; `LabelError` for an unknown one."""
    # Here, so that looking at data loads no torch.
    import torch

    rows = [encode(kind, attributes) for kind in kinds]
    return torch.tensor(rows, dtype=torch.int64).view(len(rows), len(attributes))


def one_class_each(attributes: Attributes, given: Labels) -> list[Labels]:
    """`given` with every class of every attribute that it leaves out, one at a time."""
    left = {name: classes for name, classes in attributes.items() if name not in given}
    return [{**given, name: each} for name, classes in left.items() for each in classes]


def parse(texts: Iterable[str], attributes: Attributes) -> dict[str, str]:
    """Labels from the words of a command line: `dog`, or `digit=7` and `speaker=theo`.

    The attribute may be left out where the model has only one.

    Raises:
        LabelError: an unknown attribute or class, one given twice, or a bare class name
            for a model of several attributes.
    """
    labels: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        # A class name may itself hold an equals sign where there is but one attribute.
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
    """Class names joined by `-` in the attributes' order, for people to read.

    Unspecified attributes are left out; `any` if all are.
    """
    return "-".join(_chosen(labels, attributes)) or "any"


def file_stem(labels: Labels, attributes: Attributes) -> str:
    """`describe` for the name of a file: class names in the attributes' order, joined by `-`.

    A `-` in a class name is written as %2D where several are joined, so that classes `a-b` and
    `c` do not give the name that `a` and `b-c` do.
    """
    names = [_escaped(name) for name in _chosen(labels, attributes)]
    if len(attributes) > 1:
        names = [name.replace("-", "%2D") for name in names]
    return _shortened("-".join(names) or "any")


def file_name(text: str) -> str:
    """`text` with the characters that a file name cannot hold written as %XX.

    A text that is too long is cut, and ends in a digest that tells it from others cut alike.
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
