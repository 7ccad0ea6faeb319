"""Compiled code kept on disk: compiled once on a machine, renewed when its sources change."""

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

# What a call raises where the disk is full, or what was kept is damaged.
FAILURES = (OSError, EOFError, pickle.UnpicklingError)


def kept(function: Callable[..., Any]) -> Any:
    """`function` compiled at its first call, and kept on disk for the next process."""
    try:
        return numba.njit(function, cache=True, **OPTIONS)
    except RuntimeError:  # neither beside the code nor in the home can anything be written
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _temporary_folder()
        try:
            return numba.njit(function, cache=bool(numba.config.CACHE_DIR), **OPTIONS)
        finally:
            numba.config.CACHE_DIR = before


def not_kept(compiled: Any) -> Any:
    """The same function, compiled for this process only."""
    return numba.njit(compiled.py_func, **OPTIONS)


def digest(*modules: ModuleType) -> str:
    """Of the sources of modules.

    Numba keeps compiled code by the contents of the file that a function is in and by what
    it closes over: a function that closes over this is renewed when those files change.
    """
    parts = [Path(str(module.__file__)).read_bytes() for module in modules]
    return "".join(hashlib.sha256(part).hexdigest() for part in parts)


def _temporary_folder() -> str:
    """A folder that is ours alone, for what lies in it is run; "" if there is none."""
    try:
        folder = Path(tempfile.gettempdir()) / f"wavegen-numba-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except (OSError, AttributeError):  # no such folder, or a system without user numbers
        return ""
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return str(folder) if ours and not found.st_mode & 0o077 else ""
