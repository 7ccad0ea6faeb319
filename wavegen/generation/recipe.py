"""The recipe of a generated WAV: a JSON file with all settings to generate the same file again.

A recipe may come from somebody else, so every field is checked like an option of `generate`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavegen.distributions.sampling import Sampling
from wavegen.errors import ConfigError, ModelError
from wavegen.generation.generate import MOST_SAMPLES, Stream, check_seed
from wavegen.utils.files import read_json
from wavegen.utils.numbers import whole_number

# A pitch that is moved further leaves the range of hearing.
MOST_SEMITONES = 120
# Most streams of a round. Their files are open together, and systems allow some thousand.
MOST_STREAMS = 512
# As many threads as the largest machines have; no system can start any number of them.
_MOST_THREADS = 1024


@dataclass(frozen=True)
class Source:
    """The recording, or file of features, that a stream is resynthesised from.

    Args:
        path: path of the file.
        sha256: SHA-256 of the file.
        transpose: semitones that its pitch was moved by.
    """

    path: str
    sha256: str
    transpose: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not isinstance(self.sha256, str):
            raise TypeError("the path or the SHA-256 of a source is not text")
        if isinstance(self.transpose, bool) or not isinstance(self.transpose, int | float):
            raise TypeError("transpose is not a number")
        if not -MOST_SEMITONES <= self.transpose <= MOST_SEMITONES:
            raise TypeError("transpose is out of range")


@dataclass(frozen=True)
class Recipe:
    """Everything that a generated WAV depends on; it is written as JSON with the same name.

    Args:
        model: path of the model.
        model_sha256: `serialization.fingerprint` of the model.
        streams: all streams of the round of the WAV; rounding depends on their number.
        position: position of the stream of the WAV in the round.
        samples: length in samples.
        sample_rate: rate in Hz.
        seed: seed of the noise.
        sampling: how codes were drawn.
        prompt: path of the recording that is continued.
        prompt_sha256: SHA-256 of that file.
        device: device of the network.
        threads: number of threads of torch.
        versions: versions of wavegen, torch and numba.
        engine: name of the engine; early recipes of wavegen 0.1.0 do not have it.
        precision: precision of the weights.
        join: whether the WAV begins with the prompt.
        sources: of a resynthesised WAV, the source of each stream.
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
    sources: tuple[Source, ...] | None = None


def read_recipe(path: str | Path) -> Recipe:
    """Read the recipe of a generated WAV; `ModelError` if the file is no recipe."""
    values = read_json(path, ModelError)
    try:
        return _recipe(values)
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from error
    except (LookupError, TypeError) as error:
        raise ModelError(f"{path}: not the JSON file of a generated WAV") from error


def _recipe(values: dict[str, Any]) -> Recipe:
    """Make a recipe after checking the types and ranges of all fields.

    Raises:
        ConfigError: a field is out of range.
        LookupError, TypeError: a field is missing, unknown or of a wrong type.
    """
    if not isinstance(values["streams"], list) or not isinstance(values["versions"], dict):
        raise TypeError("not a list of streams, or not versions by name")
    streams = tuple(Stream(**stream) for stream in values["streams"])
    sources = values.get("sources")
    if sources is not None:
        sources = tuple(Source(**source) for source in sources)
    sampling = Sampling(**values["sampling"])
    recipe = Recipe(**{**values, "streams": streams, "sampling": sampling, "sources": sources})
    if sources is not None and len(sources) != len(streams):
        raise ConfigError("the number of sources is not that of the streams")
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
