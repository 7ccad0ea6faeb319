"""The recording that is continued."""

import sys
from collections import deque
from pathlib import Path

import numpy as np

from wavegen.audio import reading
from wavegen.codecs.counts import count_clamped
from wavegen.utils.text import display


def read_prompt(path: str | Path, sample_rate: int, most: int | None) -> np.ndarray:
    """The end of a recording, in memory that does not grow with its length where `most` is given.

    Args:
        path: of the recording.
        sample_rate: in Hz, to resample to; said where that differs from the file's.
        most: samples that are kept at most; None keeps all.

    Returns:
        float32 (time,), the last `most` samples or fewer.

    Raises:
        AudioFileError: as `reading.blocks`.
    """
    info = reading.probe(path)
    if info.sample_rate != sample_rate:
        _remark(f"{display(path)}: resampled from {info.sample_rate} to {sample_rate} Hz")
    kept: deque[np.ndarray] = deque()
    length = clamped = 0
    for block in reading.blocks(path, sample_rate):
        clamped += count_clamped(block)
        kept.append(block)
        length += len(block)
        while most is not None and length - len(kept[0]) >= most:
            length -= len(kept.popleft())
    if clamped:
        _remark(f"{display(path)}: {clamped} samples beyond full scale were clamped")
    return np.concatenate(kept)[-(most or length) :]


def _remark(text: str) -> None:
    """On standard error: standard output lists the files that were written."""
    print(text, file=sys.stderr)
