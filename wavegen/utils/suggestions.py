"""Suggestions for misspelled or guessed options."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from wavegen.errors import ConfigError


def unknown_option(
    name: str, known: Iterable[str], synonyms: Mapping[str, str], program: str
) -> ConfigError:
    """The error for an option that `program` does not have; see `closest` for the arguments."""
    meant = closest(name, known, synonyms)
    hint = f": did you mean {meant}?" if meant else ""
    return ConfigError(f"unknown option {name}{hint} (see '{program} --help')")


def closest(name: str, known: Iterable[str], synonyms: Mapping[str, str]) -> str | None:
    """The known option that is closest to `name`, or None.

    Args:
        name: the unknown option, such as `--lenght` or `--max_time`.
        known: the options, such as `--seconds` or `--data.sample_rate`.
        synonyms: guessed word, such as `length`, -> one of the known options.
    """
    # The last part is compared too: `--sample-rate` is `--data.sample_rate`.
    words = {_plain(option).rpartition(".")[2]: option for option in known}
    words |= {_plain(option): option for option in known}
    words |= {_plain(word): option for word, option in synonyms.items()}
    found = get_close_matches(_plain(name), words, n=1, cutoff=0.75)
    return words[found[0]] if found else None


def _plain(name: str) -> str:
    return name.lstrip("-").replace("_", "-").lower()
