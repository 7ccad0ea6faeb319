"""Keeping compiled code on disk: it is compiled once on a machine, and again if sources change."""

import hashlib
import os
import pickle
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba

from wavegen.engines.cpu.vectors import OPTIONS

# Errors of a call if the disk is full or the kept code is damaged.
FAILURES = (OSError, EOFError, pickle.UnpicklingError)


def kept(function: Callable[..., Any]) -> Any:
    """`function` compiled at its first call, and kept on disk for the next process."""
    try:
        return numba.njit(function, cache=True, **OPTIONS)
    except RuntimeError:  # neither the folder of the code nor the home folder can be written
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _temporary_folder()
        try:
            return numba.njit(function, cache=bool(numba.config.CACHE_DIR), **OPTIONS)
        finally:
            numba.config.CACHE_DIR = before


def not_kept(compiled: Any) -> Any:
    """The same function, compiled for this process only."""
    return numba.njit(compiled.py_func, **OPTIONS)


def digest(*modules: ModuleType) -> str:
    """A digest of the sources of modules.

    The key of compiled code in Numba's cache is the file of the function and the values that it
    closes over. So a function that closes over this digest is compiled again when one of these
    files changes.
    """
    parts = [Path(str(module.__file__)).read_bytes() for module in modules]
    return "".join(hashlib.sha256(part).hexdigest() for part in parts)


def _temporary_folder() -> str:
    """A folder that only this user can write, since its contents are run; "" if there is none."""
    try:
        folder = Path(tempfile.gettempdir()) / f"wavegen-numba-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except (OSError, AttributeError):  # no such folder, or a system without user numbers
        return ""
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return str(folder) if ours and not found.st_mode & 0o077 else ""
