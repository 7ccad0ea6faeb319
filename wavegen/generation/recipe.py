"""The recipe of a generated WAV: the JSON beside it, with all it takes to make it again.

A recipe may be from elsewhere, so that every field is checked as `generate` checks its options.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavegen.distributions.sampling import Sampling
from wavegen.errors import ConfigError, ModelError
from wavegen.generation.generate import MOST_SAMPLES, Stream, check_seed
from wavegen.utils.files import read_json
from wavegen.utils.numbers import whole_number

# Streams of a round: their files are written side by side, and a system allows some thousand.
MOST_STREAMS = 512
# As many as the largest machines have; no system begins any number.
_MOST_THREADS = 1024


@dataclass(frozen=True)
class Recipe:
    """All that a generated WAV follows from; written beside it as JSON.

    Args:
        model: path of the model.
        model_sha256: `checkpoint.fingerprint` of it.
        streams: the round that the WAV was generated in; rounding depends on its size.
        position: of the WAV's stream in the round.
        samples: length.
        sample_rate: in Hz.
        seed: of the noise.
        sampling: how codes were drawn.
        prompt: path of the recording that is continued.
        prompt_sha256: of that file.
        device: that it was generated on.
        threads: of torch.
        versions: of wavegen, torch and numba.
        engine: that generated; wavegen 0.1.0 had but one at first, and did not say.
        precision: of its weights.
        join: whether the prompt stands before its continuation.
    """

    model: str
    model_sha256: str
    streams: tuple[Stream, ...]
    position: int
    samples: int
    sample_rate: int
    seed: int
    sampling: Sampling
    prompt: str | None
    prompt_sha256: str | None
    device: str
    threads: int
    versions: dict[str, str]
    engine: str = "torch"
    precision: str = "float32"
    join: bool = False


def read_recipe(path: str | Path) -> Recipe:
    """Read the JSON beside a generated WAV; `ModelError` if it is not such a file."""
    values = read_json(path, ModelError)
    try:
        return _recipe(values)
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error
    except (LookupError, TypeError) as error:
        raise ModelError(f"{path}: not the JSON that lies beside a generated WAV") from error


def _recipe(values: dict[str, Any]) -> Recipe:
    """A recipe whose fields all have their types and ranges.

    Raises:
        ConfigError: one is out of its range.
        LookupError, TypeError: one is missing, unknown or of another type.
    """
    if not isinstance(values["streams"], list) or not isinstance(values["versions"], dict):
        raise TypeError("not a list of streams, or not versions by name")
    streams = tuple(Stream(**stream) for stream in values["streams"])
    recipe = Recipe(**{**values, "streams": streams, "sampling": Sampling(**values["sampling"])})
    whole_number("number of streams", len(streams), 1, MOST_STREAMS)
    whole_number("position", recipe.position, 0, len(streams) - 1)
    whole_number("samples", recipe.samples, 1, MOST_SAMPLES)
    whole_number("sample_rate", recipe.sample_rate, 1, 2**31)
    whole_number("threads", recipe.threads, 1, _MOST_THREADS)
    check_seed(recipe.seed)
    texts = (
        recipe.model,
        recipe.model_sha256,
        recipe.device,
        recipe.engine,
        recipe.precision,
        recipe.prompt or "",
        recipe.prompt_sha256 or "",
        *recipe.versions,
        *recipe.versions.values(),
    )
    if not all(isinstance(text, str) for text in texts) or not isinstance(recipe.join, bool):
        raise TypeError("not texts, or join is neither true nor false")
    return recipe
