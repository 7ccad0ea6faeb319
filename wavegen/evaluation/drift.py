"""Whether the level and the spectrum of long generated recordings drift."""

from collections.abc import Sequence

import numpy as np

from wavegen.audio.mel import log_mel
from wavegen.distributions.sampling import Sampling
from wavegen.engines.base import Engine
from wavegen.evaluation import counterparts
from wavegen.evaluation.comparison import decibels
from wavegen.evaluation.intervals import Figure, mean
from wavegen.generation.generate import Stream

# Number of streams to generate, their length as a multiple of clips, and at most in seconds.
_LONG_STREAMS, _LONGER, _LONGEST_SECONDS = 16, 10, 30.0


def drift(
    engine: Engine,
    streams: Sequence[Stream],
    real: Sequence[np.ndarray],
    seed: int,
    sampling: Sampling | None,
) -> dict[str, float | Figure]:
    """Differences between the last and the first quarter of long recordings."""
    rate = engine.network.config.sample_rate
    seconds = min(_LONGEST_SECONDS, _LONGER * float(np.median([len(w) for w in real])) / rate)
    # Evenly spread over the clips, which are sorted by name.
    chosen = streams[:: -(-len(streams) // _LONG_STREAMS)]
    long = list(
        counterparts.generated(
            engine, chosen, [round(seconds * rate)] * len(chosen), seed, sampling
        )
    )
    quarter = len(long[0]) // 4
    ends = [(wave[:quarter], wave[-quarter:]) for wave in long]
    level = [decibels(last) - decibels(first) for first, last in ends]
    spectra = [[log_mel(part, rate).mean(axis=0) for part in each] for each in ends]
    # Natural logarithms of power: 4.34 decibels each.
    spectrum = [4.343 * float(np.abs(last - first).mean()) for first, last in spectra]
    return {
        "seconds": seconds,
        "level_decibels": mean(level),
        "spectrum_decibels": mean(spectrum),
    }
