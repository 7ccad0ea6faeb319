"""The `config.yaml` of a run that is resumed: only settings, nothing that could run code.

A run may come from somebody else. A file that the user names by `--config` is trusted: it can make
objects of any class. The config of a run may hold only plain values of options that take plain
values, as wavegen writes them.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from wavegen.audio.features import FeatureSet
from wavegen.errors import ConfigError, ModelError
from wavegen.training.run_folder import CONFIG
from wavegen.utils.files import read_text

# In bytes; enough for some fifty thousand class names.
_LARGEST = 1 << 20
_DEEPEST = 10
# Options whose values can be objects.
_OBJECTS = ("accelerator", "callbacks", "logger", "plugins", "profiler", "strategy")
# Options whose values are words such as `bf16-mixed`. A word without a dot cannot name a class of
# a module, and one without a slash cannot name a file.
_WORDS = {
    *(f"trainer.{name}" for name in ("accelerator", "devices", "precision", "strategy")),
    *(f"trainer.{name}" for name in ("deterministic", "gradient_clip_algorithm", "profiler")),
    *("model.optimizer", "model.network.gate", "data.on_bad_file"),
}
_WORD = re.compile(r"[\w:,-]*", re.ASCII)
# `00:01:30:00`, or `{'hours': 1}`.
_TIMES = {"trainer.max_time", "trainer.val_check_interval"}
_TIME = re.compile(r"[\w:,'{} -]*", re.ASCII)
# Options that take any text. Recordings may be anywhere, and the store only makes folders of its
# own. The folder of the Trainer is replaced by that of the run.
_TEXTS = {
    *("data.folder", "data.store", "data.label_pattern", "data.features_from"),
    "trainer.default_root_dir",
}
# Lists of texts, or of numbers.
_LISTS = {"data.labels": str, "data.features": str, "trainer.devices": int}
_LABELS, _FEATURES = "model.network.labels", "model.network.features"


class _Quoting(yaml.SafeDumper):
    """Quotes texts that other YAML parsers read as numbers, such as `1e5`."""


_Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def read_config(run: Path, given: Collection[str] = ()) -> str:
    """The settings of a run, as YAML.

    Args:
        run: run folder.
        given: options, such as `trainer.callbacks`, that the user gives again; their values in
            the file are left out.

    Raises:
        ModelError: the file is missing or damaged, or holds something that wavegen does not write.
    """
    file = run / CONFIG
    text = read_text(file, ModelError, _LARGEST)
    try:
        _check_events(text)
        settings = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: damaged, or not written by wavegen ({error})") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{file}: not the settings of a run")
    trainer = settings.get("trainer")
    for name in _OBJECTS:
        if isinstance(trainer, dict) and f"trainer.{name}" in given:
            trainer.pop(name, None)
    try:
        _check(settings, "")
    except ValueError as error:
        name = str(error)
        if name.removeprefix("trainer.").split(".")[0] in _OBJECTS:
            raise ModelError(
                f"{file}: {name} is an object, and a run folder may not make objects: give it "
                f"again, as in wavegen train --resume {run} --config YOURS.yaml"
            ) from error
        raise ModelError(f"{file}: {name} is not a setting that wavegen writes there") from error
    # Keep the order of label attributes, which is that of the embeddings of the network.
    return yaml.dump(settings, Dumper=_Quoting, allow_unicode=False, sort_keys=False)


# The compiled parser, where it is installed, is a hundred times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_events(text: str) -> None:
    """Raise `ValueError` if the YAML has anchors or types, or is nested deeply."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError("it has an anchor")
        if getattr(event, "tag", None) is not None:
            raise ValueError("it has a tag")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")


def _check(value: Any, name: str) -> None:
    """Raise `ValueError`, with the name, for the first value that wavegen does not write."""
    if name == _FEATURES:
        sound = isinstance(value, list) and _are_features(value)
    elif name == _LABELS:
        # Names of attributes and classes are chosen by the user.
        lists = value.values() if isinstance(value, dict) else [value]
        sound = all(_all(each, str) for each in lists) and _all(list(value or ()), str)
    elif isinstance(value, dict):
        for key, each in value.items():
            if not (isinstance(key, str) and re.fullmatch(r"\w+", key, re.ASCII)):
                raise ValueError(name or "a key")
            _check(each, f"{name}.{key}" if name else key)
        return
    elif isinstance(value, list):
        sound = name in _LISTS and _all(value, _LISTS[name])
    elif isinstance(value, str):
        sound = name in _TEXTS or _is_number(value)
        sound |= name in _WORDS and _WORD.fullmatch(value) is not None
        sound |= name in _TIMES and _TIME.fullmatch(value) is not None
    else:
        sound = value is None or isinstance(value, bool | int | float)
    if not sound:
        raise ValueError(name)


def _are_features(value: list[Any]) -> bool:
    """Whether a list holds nothing but definitions of features."""
    try:
        return not value or FeatureSet.from_json(value).to_json() == value
    except ConfigError:
        return False


def _all(value: Any, kind: type) -> bool:
    return value is None or (isinstance(value, list) and all(type(each) is kind for each in value))


def _is_number(text: str) -> bool:
    """Whether a text, such as `1e-3`, is a number for some YAML parsers only."""
    return re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", text, re.ASCII | re.IGNORECASE) is not None
