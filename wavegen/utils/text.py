"""Making names from files and users safe to store and to print."""

import os
import shlex
import unicodedata

# These characters join letters of some scripts, and parts of an emoji.
_JOINERS = "\u200c\u200d"


def writable(name: str | os.PathLike[str]) -> str:
    """`name` as one line of valid UTF-8; clips and classes have such names.

    Bytes of a file name that are not UTF-8, and control characters of ASCII, become \\xNN.
    """
    text = os.fspath(name).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c >= " " and c != "\x7f" else f"\\x{ord(c):02x}" for c in text)


def display(name: str | os.PathLike[str]) -> str:
    """`name` without characters that move the cursor, end a line or change the text direction.

    Besides those that `writable` replaces these are control characters above ASCII, marks of
    direction and other invisible characters, and line separators. A second call changes nothing.
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
