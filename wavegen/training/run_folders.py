"""Which folder a training works in, and that it is the only one there."""

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
from wavegen.utils.text import display, quoted

CONTENTS = "recordings.json"
# Where the first of several processes tells the others which run folder it has chosen.
_RUN_VARIABLE = "WAVEGEN_RUN"
# Descriptors of the folders that this process has to itself.
_held: set[int] = set()


def choose_run(run: str | None, folder: str, resume: str | None) -> Path:
    """Where the run will be; never a folder that holds another run.

    Args:
        run: the folder asked for, if any.
        folder: of the recordings.
        resume: the run to go on with, if any.

    Raises:
        ConfigError: the folder is used, or several processes were not told one.
    """
    if _RUN_VARIABLE in os.environ and told("LOCAL_RANK"):
        return Path(os.environ[_RUN_VARIABLE])
    # Begun together by torchrun or by SLURM, processes cannot tell one another.
    begun_together = {"RANK", "SLURM_PROCID"} & os.environ.keys()
    if begun_together and run is None:
        raise ConfigError("several processes must be told their run folder: name it with --run")
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
    """The checkpoint that a run goes on from; None if it was ended before it had one.

    Raises:
        ModelError: it is no run folder.
    """
    path = run / LAST_CHECKPOINT
    if path.is_file():
        return path
    if (run / CONFIG).is_file():
        return None
    raise ModelError(f"{run}: no {CONFIG} to go on from; train without --resume")


def check_contents(run: Path, contents: dict[str, Any]) -> None:
    """Compare the recordings with those that a run was trained on, as far as it says.

    Args:
        run: the run folder.
        contents: `AudioDataModule.contents`.

    Raises:
        ConfigError: they are others, or are split in another way.
    """
    changes = []
    for split, before in _recorded(run).items():
        if (found := contents.get(split)) != before:
            count = before.get("clips") if isinstance(before, dict) else None
            changes.append(f"{split}: {count} clips before, {found and found['clips']} now")
    if changes:
        raise ConfigError(
            f"{run}: the recordings are not those that it was trained on, by name, labels and "
            f"length ({'; '.join(changes)}); go on with them by --accept_changed_data, or train a "
            "new run"
        )


def record_contents(run: Path, contents: dict[str, Any]) -> None:
    """Write beside a run what it is trained on; figures of other held-out clips count no more."""
    before = _recorded(run)
    held_out = "validation" if contents["validation"]["clips"] else "train"
    if before and before.get(held_out) != contents[held_out]:
        (run / BEST).unlink(missing_ok=True)
    write_json(run / CONTENTS, contents)


def _recorded(run: Path) -> dict[str, Any]:
    if not (run / CONTENTS).exists():
        return {}
    recorded = read_json(run / CONTENTS, ModelError)
    if not isinstance(recorded, dict) or not recorded.keys() <= {"train", "validation"}:
        raise ModelError(f"{run / CONTENTS}: damaged; remove it to go on without comparing")
    return recorded


@contextmanager
def only_training(run: Path, fresh: bool) -> Iterator[None]:
    """Make the run folder, and have it for this process alone as long as the block takes.

    Processes that train together are one training: only the first of them calls this. What a
    killed process had begun to write is removed. On a file system without locks nothing is
    refused.

    Args:
        run: the folder.
        fresh: whether it must be empty.

    Raises:
        ConfigError: another training is in it, or it is not empty.
        ModelError: a link in it leads elsewhere.
    """
    make_folder(run)
    with _locked(run):
        # Another training may have begun and ended there while this one decoded.
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
                f"{folder}: another training works in it; wait for it, or stop it first"
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _let_go() -> None:
    """A worker process that outlives a killed training by a moment must not hold its folder."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _refuse_used(run: Path) -> None:
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise ConfigError(
            f"{run}: already holds files; choose another --run, or go on with "
            f"--resume {quoted(run)}"
        )


def _refuse_links(run: Path) -> None:
    """A run may be from elsewhere; what is written to it must not land in other folders."""
    inside = run.resolve()
    for path in run.rglob("*"):
        # A link that leads nowhere could still have a file made where it points.
        if path.is_symlink() and not (
            Path(os.path.realpath(path)).is_relative_to(inside) and path.exists()
        ):
            raise ModelError(
                f"{display(str(path))}: a symbolic link that leads out of the run; remove it, or "
                "put what it names in its place"
            )
