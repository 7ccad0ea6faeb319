"""The `config.yaml` of a run that is resumed: settings, and nothing that could run code.

A run may be from elsewhere. What `--config` names can make objects of any class, with any
arguments, and is trusted for that; the config of a run may hold only plain values of the options
that take such, as wavegen writes them.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from wavegen.errors import ModelError
from wavegen.training.run_folder import CONFIG
from wavegen.utils.files import read_text

# Bytes: some fifty thousand class names.
_LARGEST = 1 << 20
_DEEPEST = 10
# Options that can be objects, which a user made with --config or an option.
_OBJECTS = ("accelerator", "callbacks", "logger", "plugins", "profiler", "strategy")
# Options whose values are words such as `bf16-mixed`: without a dot none names a class of a module,
# and without a slash no file.
_WORDS = {
    *(f"trainer.{name}" for name in ("accelerator", "devices", "precision", "strategy")),
    *(f"trainer.{name}" for name in ("deterministic", "gradient_clip_algorithm", "profiler")),
    *("model.optimizer", "model.network.gate", "data.on_bad_file"),
}
_WORD = re.compile(r"[\w:,-]*", re.ASCII)
# `00:01:30:00`, or `{'hours': 1}`.
_TIMES = {"trainer.max_time", "trainer.val_check_interval"}
_TIME = re.compile(r"[\w:,'{} -]*", re.ASCII)
# Texts of any kind. The recordings are read from wherever they are said to be, and the store only
# gets folders of its own. The Trainer's folder is replaced by the run's.
_TEXTS = {"data.folder", "data.store", "data.label_pattern", "trainer.default_root_dir"}
# Lists of texts, or of numbers.
_LISTS = {"data.labels": str, "trainer.devices": int}
_LABELS = "model.network.labels"


class _Quoting(yaml.SafeDumper):
    """Marks texts as such: another reader of YAML may take `1e5` for a number."""


_Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def read_config(run: Path, given: Collection[str] = ()) -> str:
    """The settings of a run, as YAML.

    Args:
        run: the run folder.
        given: options, such as `trainer.callbacks`, that are given anew; what the run says of
            them is left out.

    Raises:
        ModelError: the file is missing, damaged, or holds what wavegen does not write.
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
                f"{file}: {name} is an object, which is not made from a run: give it again, as in "
                f"wavegen train --resume {run} --config YOURS.yaml"
            ) from error
        raise ModelError(f"{file}: {name} is not a setting that wavegen writes there") from error
    # The order of label attributes is that of the network's embeddings.
    return yaml.dump(settings, Dumper=_Quoting, allow_unicode=False, sort_keys=False)


# Compiled where it is there, and then a hundred times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_events(text: str) -> None:
    """`ValueError` where the YAML has parts that refer to others, types, or is nested deep."""
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
            raise ValueError("it is nested too deep")


def _check(value: Any, name: str) -> None:
    """`ValueError`, with the name, for the first value that wavegen does not write."""
    if name == _LABELS:
        # The names of attributes and classes are the user's.
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


def _all(value: Any, kind: type) -> bool:
    return value is None or (isinstance(value, list) and all(type(each) is kind for each in value))


def _is_number(text: str) -> bool:
    """Whether it is one that only some readers of YAML take for one, such as `1e-3`."""
    return re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", text, re.ASCII | re.IGNORECASE) is not None
