"""The labels and the split of each file, from its name, from metadata or from its folders.

This module opens no audio.
"""

import csv
import io
import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wavegen.data.pattern_hints import pattern_hint
from wavegen.data.patterns import PatternError, search
from wavegen.data.splits import SPLIT_NAMES, SPLITS
from wavegen.errors import ConfigError, DataError, LabelError

METADATA = ("metadata.csv", "metadata.jsonl")

_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Description:
    """Labels, attribute -> class name, and one of `SPLITS`, or None if the data has no splits."""

    labels: dict[str, str]
    split: str | None


@dataclass
class Descriptions:
    """The attributes, the files by name, the files left out as (name, reason), and remarks."""

    attributes: list[str] = field(default_factory=list)
    files: dict[str, Description] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def describe(
    root: Path,
    names: Sequence[str],
    labels: Sequence[str] | None = None,
    label_pattern: str | None = None,
) -> Descriptions:
    """Give each audio file its labels and its split, or leave it out.

    Labels come from `label_pattern`, else from metadata at the root or in each split folder, else
    from the first folder below the root or the split folder. Splits come from a column or group
    called `split`, else from the split folders. Folders are split folders only if there is one
    called `train`.

    Args:
        root: folder of the metadata.
        names: paths of the audio files relative to `root`, with `/`, sorted.
        labels: the attributes to keep; None keeps all.
        label_pattern: regular expression with named groups, searched in the file name.

    Raises:
        DataError: metadata cannot be read, or a column has too many classes.
        LabelError: an attribute in `labels` does not exist.
        ConfigError: the pattern has no named groups.
    """
    result = Descriptions()
    splits = _split_folders(names, result)
    tables = _tables(root, splits, result)

    # Names of the files below their split folders.
    inner = {name: name.partition("/")[2] if _top(name) in splits else name for name in names}
    class_folders = {_top(rest) for rest in inner.values() if "/" in rest}
    if label_pattern is not None:
        _from_pattern(names, label_pattern, labels, result)
        if tables:
            result.notes.append("labels come from the label pattern, not from the metadata")
    elif tables:
        _from_metadata(root, names, tables, labels, result)
        if len(class_folders) > 1:
            result.notes.append(f"labels come from {tables[0]}, not from the class folders")
    else:
        result.attributes = _choose(["label"] if class_folders else [], labels, names)
        for name, rest in inner.items():
            label = {"label": _top(rest)} if result.attributes and "/" in rest else {}
            result.files[name] = Description(label, None)

    for name, description in list(result.files.items()):
        split = description.split or splits.get(_top(name))
        result.files[name] = Description(description.labels, split)
        if split is None and splits:
            del result.files[name]
            result.left_out.append((name, "is in none of the split folders"))
    return result


def _split_folders(names: Sequence[str], result: Descriptions) -> dict[str, str]:
    """The names of split folders, each with its split."""
    tops = {_top(name) for name in names if "/" in name}
    splits = {top: SPLIT_NAMES[top.lower()] for top in tops if top.lower() in SPLIT_NAMES}
    if splits and "train" not in splits.values():
        listed = ", ".join(sorted(splits))
        result.notes.append(f"there is no train folder, so these are not splits: {listed}")
        return {}
    return splits


def _tables(root: Path, splits: Iterable[str], result: Descriptions) -> list[str]:
    """The metadata files to use: that of the root, else one in each split folder."""
    tables = [table for table in METADATA if os.path.lexists(root / table)]
    if len(tables) > 1:
        result.notes.append(f"{tables[1]} is not used, because {tables[0]} is there")
    if tables:
        return tables[:1]
    for top in sorted(splits):
        tables += [f"{top}/{n}" for n in METADATA if os.path.lexists(root / top / n)][:1]
    return tables


def _top(name: str) -> str:
    return name.partition("/")[0]


def _choose(
    known: Sequence[str], labels: Sequence[str] | None, names: Sequence[str] = ()
) -> list[str]:
    """Return the known attributes that `labels` selects.

    The names of the files are used to suggest a pattern that finds the missing attributes.
    """
    for label in labels or []:
        if label not in known:
            there = ", ".join(known) or "none in this folder"
            hint = pattern_hint(names, labels or [])
            raise LabelError(f"no label attribute {label!r}; --data.labels can be: {there}{hint}")
    return list(known if labels is None else labels)


def _description(values: Mapping[str, str], attributes: Iterable[str]) -> Description:
    """Take labels and split from a row; `ValueError` for an unknown split."""
    split = values.get("split") or None
    if split is not None and split.lower() not in SPLIT_NAMES:
        raise ValueError(f"has the unknown split {split!r}; use {', '.join(SPLITS)}")
    labels = {attribute: values[attribute] for attribute in attributes if values.get(attribute)}
    return Description(labels, split and SPLIT_NAMES[split.lower()])


def _from_pattern(
    names: Sequence[str], label_pattern: str, labels: Sequence[str] | None, result: Descriptions
) -> None:
    try:
        groups, matches = search(label_pattern, [posixpath.basename(name) for name in names])
    except PatternError as error:
        raise ConfigError(f"--data.label_pattern {label_pattern!r:.200} {error}") from error
    attributes = _choose([group for group in groups if group != "split"], labels)
    result.attributes = attributes
    for name, match in zip(names, matches, strict=True):
        if match is None:
            result.left_out.append((name, "does not match the label pattern"))
            continue
        values = {group: value for group, value in match.items() if value}
        try:
            result.files[name] = _description(values, attributes)
        except ValueError as error:
            result.left_out.append((name, str(error)))


def _from_metadata(
    root: Path,
    names: Sequence[str],
    tables: Sequence[str],
    labels: Sequence[str] | None,
    result: Descriptions,
) -> None:
    rows = [(table, *row) for table in tables for row in _rows(root, table)]
    columns = dict.fromkeys(key for _, _, row in rows for key in row)
    # pandas writes its index as a column without a name.
    attributes = _choose([key for key in columns if key not in ("", "file_name", "split")], labels)
    result.attributes = attributes
    present = set(names)
    described: dict[str, Description] = {}
    for table, line, row in rows:
        written = row.get("file_name")
        if not written:
            raise DataError(f"{table}, line {line}: no file_name; name the file of every row")
        name = posixpath.normpath(posixpath.join(posixpath.dirname(table), written))
        if name.startswith(("/", "../")):
            result.left_out.append((written, f"is named by {table} but outside the folder"))
        elif name not in present:
            result.left_out.append((name, f"is named by {table} but no audio file in the folder"))
        elif name in described:
            result.left_out.append((name, f"is named twice by {table}: the first row counts"))
        else:
            try:
                described[name] = _description(row, attributes)
            except ValueError as error:
                raise DataError(f"{table}, line {line}: {error}") from error
    result.left_out += [
        (name, f"is not in {' or '.join(tables)}") for name in names if name not in described
    ]
    result.files = dict(sorted(described.items()))
    for attribute in attributes if labels is None else []:
        count = len({description.labels.get(attribute) for description in described.values()})
        if count > _MOST_CLASSES or count > max(50, len(described) / 2):
            raise DataError(
                f"{tables[0]}: column {attribute!r} has {count} different values for"
                f" {len(described)} files; choose the columns that are labels with --data.labels"
            )


def _rows(root: Path, table: str) -> list[tuple[int, dict[str, str]]]:
    """Read metadata: pairs of line number and row, all values stripped text."""
    # Reading a pipe would wait for ever, and a device may be endless.
    if not os.path.isfile(root / table):  # noqa: PTH113 - pathlib raises for a closed folder
        raise DataError(f"{table} is no regular file; put the file itself there, or remove it")
    try:
        # Bytes that are not UTF-8 are decoded as in file names, so that both match.
        text = (root / table).read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise DataError(f"{table} cannot be read ({error.strerror})") from error
    return list(_csv_rows(text, table) if table.endswith(".csv") else _json_rows(text, table))


def _csv_rows(text: str, table: str) -> Iterable[tuple[int, dict[str, str]]]:
    # `splitlines` would also split at characters within a cell.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if not row:
                continue
            if not header:
                header = row
                _check_header(header, table)
            elif len(row) != len(header):
                raise DataError(
                    f"{table}, line {reader.line_num}: {len(row)} cells, but the header has"
                    f" {len(header)}; quote a cell that holds a comma"
                )
            else:
                yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: is not CSV ({error})") from error
    if not header:
        raise DataError(f"{table} is empty; give it a header with file_name, or remove it")


def _check_header(header: Sequence[str], table: str) -> None:
    if "file_name" not in header:
        raise DataError(f"{table}: no column file_name; its columns are: {', '.join(header)}")
    twice = [column for column, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{table}: more than one column {twice[0]!r}; rename one")


def _json_rows(text: str, table: str) -> Iterable[tuple[int, dict[str, str]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{table}, line {number}: is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{table}, line {number}: is not a JSON object")
        yield number, {key: _as_text(value) for key, value in row.items()}


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)
