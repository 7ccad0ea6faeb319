"""Reading prompts: recordings to continue."""

import logging
from collections import deque
from pathlib import Path

import numpy as np

from wavegen.audio import reading
from wavegen.codecs.counts import count_clamped
from wavegen.models.base import Network
from wavegen.utils.text import display

_logger = logging.getLogger(__name__)


def read_prompt_for(network: Network, path: str | Path) -> np.ndarray:
    """Read as much of the end of a recording as a network needs to continue it, float32 (time,)."""
    # Frames are counted from the beginning.
    most = None if network.hop else network.receptive_field
    return read_prompt(path, network.config.sample_rate, most)


def read_prompt(path: str | Path, sample_rate: int, most: int | None) -> np.ndarray:
    """Read the end of a recording; with `most`, memory does not grow with its length.

    Args:
        path: file of the recording.
        sample_rate: rate of the result in Hz; a remark says if it differs from that of the file.
        most: largest number of samples to keep; None keeps all.

    Returns:
        float32 (time,), the last `most` samples or fewer.

    Raises:
        AudioFileError: as for `reading.blocks`.
    """
    info = reading.probe(path)
    if info.sample_rate != sample_rate:
        _logger.info("%s: resampled from %d to %d Hz", display(path), info.sample_rate, sample_rate)
    kept: deque[np.ndarray] = deque()
    length = clamped = 0
    for block in reading.blocks(path, sample_rate):
        clamped += count_clamped(block)
        kept.append(block)
        length += len(block)
        while most is not None and length - len(kept[0]) >= most:
            length -= len(kept.popleft())
    if clamped:
        _logger.warning("%s: %d samples beyond full scale were clamped", display(path), clamped)
    return np.concatenate(kept)[-(most or length) :]
