"""Labels in file names, by a regular expression that may come from somebody else.

The time of some expressions doubles with every letter of a name, and nothing can interrupt
Python's `re`. So this file is also run as a process of its own, with a limit on its time and
memory. Therefore it imports only the standard library.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

_LONGEST = 10_000  # characters of an expression
_SECONDS = 20.0  # and as long again for every million names
_BYTES = 1 << 30  # and a thousand for each name


class PatternError(Exception):
    """An expression that cannot be used; the message continues it: "has no ..."."""


def search(
    pattern: str, names: Sequence[str], seconds: float = _SECONDS
) -> tuple[list[str], list[dict[str, str | None] | None]]:
    """Search an expression in every name.

    Args:
        pattern: regular expression with named groups.
        names: names of files.
        seconds: time limit for a million names.

    Returns:
        The named groups, and for each name their texts, or None if the pattern does not match.

    Raises:
        PatternError: the pattern is no regular expression, has no named groups, or takes too
            much time or memory.
    """
    if len(pattern) > _LONGEST:
        raise PatternError(f"is longer than {_LONGEST} characters")
    seconds *= 1 + len(names) / 1e6
    lines = map(json.dumps, [[pattern, seconds], *names])
    # Python's isolated mode imports nothing from the working folder or the environment.
    command = [sys.executable, "-I", "-S", __file__]
    try:
        found = subprocess.run(
            command, input="\n".join(lines), capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise PatternError("takes too long to be searched in the names of files") from None
    if found.returncode:
        raise PatternError("takes too much time or memory to be searched in the names of files")
    head, *matches = map(json.loads, found.stdout.splitlines())
    if isinstance(head, str):
        raise PatternError(head)
    return head, matches


def _main() -> None:
    """Answer the lines of standard input: the expression, then names; a line for each."""
    first, *names = sys.stdin.read().split("\n")
    pattern, seconds = json.loads(first)
    with suppress(ImportError):  # not on Windows
        import resource

        size = _BYTES + 1000 * len(names)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        # This process ends even if the process that waits for it is killed.
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        print(json.dumps(f"is not a regular expression: {error}"))
        return
    if not compiled.groupindex:
        print(json.dumps("has no named group: write for example (?P<label>[a-z]+)_"))
        return
    print(json.dumps(list(compiled.groupindex)))
    for name in names:
        match = compiled.search(json.loads(name))
        print(json.dumps(match and match.groupdict()))


if __name__ == "__main__":
    _main()
