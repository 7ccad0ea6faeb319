"""Names from elsewhere, made fit to be kept and to be shown."""

import os
import shlex
import unicodedata

# They join letters of some scripts, and parts of an emoji.
_JOINERS = "\u200c\u200d"


def writable(name: str | os.PathLike[str]) -> str:
    """`name` as UTF-8 can hold it, on one line: what clips and classes are known by.

    Bytes of a file name that are no text, and control characters of ASCII, become \\xNN.
    """
    text = os.fspath(name).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c >= " " and c != "\x7f" else f"\\x{ord(c):02x}" for c in text)


def display(name: str | os.PathLike[str]) -> str:
    """`name` as it can be shown: nothing in it moves the cursor, ends a line or turns text round.

    Beside what `writable` replaces these are the control characters above ASCII, marks of
    direction and other invisible ones, and separators of lines. Shown twice it stays the same.
    """
    text = writable(name)
    return text if text.isascii() else "".join(map(_shown, text))


def quoted(path: str | os.PathLike[str]) -> str:
    """A path as it can be shown and copied into a shell's command line."""
    return shlex.quote(display(path))


def _shown(character: str) -> str:
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")
    if not hidden or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode()
