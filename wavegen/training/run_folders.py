"""The folder of a training: choosing, checking and locking it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wavegen.errors import ConfigError, ModelError
from wavegen.models.serialization import BEST
from wavegen.training.run_folder import CONFIG, LAST_CHECKPOINT
from wavegen.utils.distributed import told
from wavegen.utils.files import (
    fcntl,
    make_folder,
    read_json,
    remove_debris,
    write_json,
)
from wavegen.utils.json_shape import fits, number
from wavegen.utils.text import display, quoted

CONTENTS = "recordings.json"
# Variable by which the first of several processes tells the others the run folder it has chosen.
_RUN_VARIABLE = "WAVEGEN_RUN"
# Descriptors of the folders that this process has locked.
_held: set[int] = set()


def choose_run(run: str | None, folder: str, resume: str | None) -> Path:
    """Choose the folder of a run; it is never one that holds another run.

    Args:
        run: folder that the user asks for, if any.
        folder: folder of the recordings.
        resume: run folder to resume, if any.

    Raises:
        ConfigError: the folder is used, or several processes need a `--run`.
    """
    if _RUN_VARIABLE in os.environ and told("LOCAL_RANK"):
        return Path(os.environ[_RUN_VARIABLE])
    # Processes that torchrun or SLURM starts cannot tell one another the folder.
    begun_together = {"RANK", "SLURM_PROCID"} & os.environ.keys()
    if begun_together and run is None:
        raise ConfigError("several processes need the name of their run folder: give --run FOLDER")
    if any(told(name) for name in begun_together):
        return Path(str(run))
    if run is None:
        first = path = Path("runs") / (Path(folder).resolve().name or "run")
        number = 2
        while path.exists():
            path = first.with_name(f"{first.name}-{number}")
            number += 1
        return path
    if resume is None:
        _refuse_used(Path(run))
    return Path(run)


def find_checkpoint(run: Path) -> Path | None:
    """The checkpoint to resume a run from; None if the run ended before it wrote one.

    Raises:
        ModelError: this is no run folder.
    """
    path = run / LAST_CHECKPOINT
    if path.is_file():
        return path
    if (run / CONFIG).is_file():
        return None
    raise ModelError(f"{run}: no {CONFIG} to resume from; train without --resume")


def check_contents(run: Path, contents: dict[str, Any]) -> None:
    """Compare the recordings with those that a run was trained on, if it has a record of them.

    Args:
        run: run folder.
        contents: result of `AudioDataModule.contents`.

    Raises:
        ConfigError: the recordings or their splits are different.
    """
    changes = []
    for split, before in _recorded(run).items():
        found = contents[split]
        if not _same_clips(before, found):
            changes.append(f"{split}: {before.get('clips')} clips before, {found['clips']} now")
        elif _other_sound(before, found):
            changes.append(f"{split}: the same clips with other sound")
    if changes:
        raise ConfigError(
            f"{run}: the recordings are not those that it was trained on, by name, labels, length "
            f"and sound ({'; '.join(changes)}); use them by --accept_changed_data, or train a "
            "new run"
        )


def record_contents(run: Path, contents: dict[str, Any]) -> None:
    """Record the recordings of a run; forget its best figures if the held-out clips changed."""
    before = _recorded(run)
    held_out = "validation" if contents["validation"]["clips"] else "train"
    if before and not _same_clips(before.get(held_out, {}), contents[held_out]):
        (run / BEST).unlink(missing_ok=True)
    write_json(run / CONTENTS, contents)


def _recorded(run: Path) -> dict[str, Any]:
    if not (run / CONTENTS).exists():
        return {}
    recorded = read_json(run / CONTENTS, ModelError)
    if not fits(recorded, {str: dict}) or not recorded.keys() <= {"train", "validation"}:
        raise ModelError(f"{run / CONTENTS}: damaged; remove it to resume without comparing")
    return recorded


def _same_clips(before: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether two records of a split have the same names, labels and lengths."""
    return all(before.get(name) == found[name] for name in ("clips", "samples", "digest"))


def _other_sound(before: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether clips of the same names and lengths have other samples, by their order-0 entropy."""
    bits: list[Any] = [each.get("order0_bits") for each in (before, found)]
    # Earlier versions have not recorded it, and other versions of a decoder may round differently.
    return fits(bits, [number(0, 64)]) and abs(bits[0] - bits[1]) > 1e-3


@contextmanager
def only_training(run: Path, fresh: bool) -> Iterator[None]:
    """Make the run folder, and lock it for this process while the block runs.

    Only the first of several processes that train together calls this. Partial files of a killed
    process are removed. On a file system without locks there is no check for other trainings.

    Args:
        run: run folder.
        fresh: whether the folder must be empty.

    Raises:
        ConfigError: another training uses the folder, or it is not empty.
        ModelError: a symbolic link in it leads out of it.
    """
    make_folder(run)
    with _locked(run):
        # Another training may have started and ended there while this one decoded.
        if fresh:
            _refuse_used(run)
        _refuse_links(run)
        os.environ[_RUN_VARIABLE] = str(run)
        try:
            for folder in run.rglob("*"):
                if folder.is_dir() and not folder.is_symlink():
                    remove_debris(folder)
            yield
        finally:
            del os.environ[_RUN_VARIABLE]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    _held.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{folder}: another training uses it; wait for it, or stop it first"
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _let_go() -> None:
    """Release the lock in worker processes, which may outlive a killed training for a moment."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _refuse_used(run: Path) -> None:
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise ConfigError(
            f"{run}: already holds files; choose another --run, or resume it by "
            f"--resume {quoted(run)}"
        )


def _refuse_links(run: Path) -> None:
    """Refuse symbolic links that lead out of a run, so that nothing is written elsewhere."""
    inside = run.resolve()
    for path in run.rglob("*"):
        # Writing through a broken link would make a file where the link points.
        if path.is_symlink() and not (
            Path(os.path.realpath(path)).is_relative_to(inside) and path.exists()
        ):
            raise ModelError(
                f"{display(str(path))}: a symbolic link that leads out of the run; remove it, or "
                "replace it by the file or folder itself"
            )
