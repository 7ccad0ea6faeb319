"""Copy synthesis: held-out clips generated again from their features, compared with the originals.

Sources: Kubichek 1993 (mel-cepstral distance); Taal et al. 2011 (STOI, computed by pystoi); Griffin
& Lim 1984, in the fast form of Perraudin et al. 2013 (computed by librosa).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec

import numpy as np

from wavegen.audio import framing
from wavegen.audio.feature_kinds import LogMel, Pitch
from wavegen.audio.features import FeatureSet
from wavegen.audio.mel import log_mel
from wavegen.codecs.codec import Codec
from wavegen.evaluation.intervals import Figure, bootstrap, mean

# Cepstral coefficients that are compared, without the first one, which is the level.
_COEFFICIENTS = 13
# Natural logarithms of power: so many decibels each.
_DECIBELS = 10 / np.log(10)
# Short clips are joined to so many seconds, since these measures need several tenths of a second of
# speech, without pauses.
_JOINED = 3.0


def rivals(
    real: Sequence[np.ndarray], features: FeatureSet, codec: Codec
) -> dict[str, list[np.ndarray]]:
    """Other copies of the same clips to compare with, by name.

    Args:
        real: the clips, float32 (time,).
        features: the features of the model.
        codec: the codec of the model.

    Returns:
        `codec`: encoded and decoded clips, the best that any model with this codec can do; and
        `griffin_lim`, if the features have a log-mel spectrogram.
    """
    columns = {"codec": [codec.decode(codec.encode(wave)) for wave in real]}
    for each in features.features:
        if isinstance(each, LogMel):
            columns["griffin_lim"] = [griffin_lim(wave, each) for wave in real]
    return columns


def griffin_lim(wave: np.ndarray, definition: LogMel) -> np.ndarray:
    """A waveform from the log-mel spectrogram of another, by the algorithm of Griffin and Lim."""
    import librosa

    logs = definition.compute(wave, 0, framing.frames(len(wave), definition.hop_length)).T
    bands = np.exp(logs) if definition.log_base == "e" else 10**logs
    htk = definition.mel_scale == "htk"
    magnitudes = librosa.feature.inverse.mel_to_stft(
        bands,
        sr=definition.sample_rate,
        n_fft=definition.n_fft,
        power=definition.power,
        fmin=definition.f_min,
        fmax=definition.f_max,
        htk=htk,
        norm=None if definition.norm == "none" else definition.norm,
    )
    hop = definition.hop_length
    found = librosa.griffinlim(
        magnitudes,
        n_fft=definition.n_fft,
        hop_length=hop,
        win_length=definition.win_length,
        random_state=0,
    )
    # The windows of the other framings are centred half a hop later.
    early = 0 if definition.framing == "centred" else hop // 2
    return np.pad(found, (early, len(wave)))[: len(wave)].astype(np.float32)


def compared_with_originals(
    real: Sequence[np.ndarray],
    columns: Mapping[str, Sequence[np.ndarray]],
    rate: int,
    say: Callable[[str], object] = str,
) -> dict[str, dict[str, Figure]]:
    """Figures of copies of clips, by figure and column.

    Args:
        real: the clips, float32 (time,).
        columns: copies of each of them, of the same length, by name.
        rate: rate in Hz.
        say: called with a text about each part of the work.

    Returns:
        `log_mel_distance` and `mel_cepstral_distance` in decibels, `stoi`, `pitch_error` in cents,
        the median over frames that are voiced in both, and `voicing_error`, the share of frames.
        `pesq` and `visqol`, if these packages are installed. A figure that is not defined, such
        as a pitch error without voiced frames, is left out.
    """
    say("measuring copies of the clips")
    pitch = Pitch(sample_rate=rate, hop_length=max(1, rate // 100), f_max=min(1000.0, rate / 4))
    melodies = [_melody(wave, pitch) for wave in real]
    figures: dict[str, dict[str, Figure]] = {}
    for name, waves in columns.items():
        pairs = list(zip(real, waves, strict=True))
        spectra = [(log_mel(one, rate), log_mel(other, rate)) for one, other in pairs]
        own = {
            "log_mel_distance": mean([log_mel_distance(*each) for each in spectra]),
            "mel_cepstral_distance": mean([mel_cepstral_distance(*each) for each in spectra]),
            **_melodic(melodies, [_melody(wave, pitch) for wave in waves]),
            **_joint(pairs, rate),
        }
        for figure, value in own.items():
            figures.setdefault(figure, {})[name] = value
    return figures


def log_mel_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The root mean square difference of two log-mel spectrograms (frames, bands), in decibels."""
    return float(_DECIBELS * np.sqrt(((one - other) ** 2).mean()))


def mel_cepstral_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The mel-cepstral distance of two log-mel spectrograms (frames, bands), in decibels.

    It is the root mean square difference of two spectra as far as the first 13 cepstral
    coefficients describe it, without the level; the mean over frames. The clips have the same
    length, so frames are compared without alignment.
    """
    from scipy.fft import dct

    # An orthonormal transform keeps sums of squares.
    cepstra = dct(one - other, norm="ortho", axis=1)[:, 1 : 1 + _COEFFICIENTS]
    return float(_DECIBELS * np.sqrt((cepstra**2).sum(1) / one.shape[1]).mean())


def _melody(wave: np.ndarray, pitch: Pitch) -> np.ndarray:
    return pitch.compute(wave, 0, framing.frames(len(wave), pitch.hop_length))


def _melodic(real: Sequence[np.ndarray], copies: Sequence[np.ndarray]) -> dict[str, Figure]:
    """Errors of pitch and voicing between features (frames, 2)."""
    off, wrong = [], []
    for one, other in zip(real, copies, strict=True):
        voiced = (one[:, 1] > 0.5, other[:, 1] > 0.5)
        both = voiced[0] & voiced[1]
        off.append(1200 * np.abs(one[both, 0] - other[both, 0]))
        wrong.append(voiced[0] != voiced[1])

    def over_frames(values: Sequence[np.ndarray], figure: Callable[..., float]) -> Figure:
        return bootstrap(
            lambda n: float(figure(np.concatenate([values[number] for number in n]))), len(values)
        )

    found = {"voicing_error": over_frames(wrong, np.mean)}
    with_pitch = [each for each in off if len(each)]
    if with_pitch:
        found["pitch_error"] = over_frames(with_pitch, np.median)
    return found


def _joint(pairs: Sequence[tuple[np.ndarray, np.ndarray]], rate: int) -> dict[str, Figure]:
    """Figures that are computed for clips joined to several seconds."""
    groups: list[list[tuple[np.ndarray, np.ndarray]]] = [[]]
    for pair in pairs:
        if sum(len(one) for one, _ in groups[-1]) >= _JOINED * rate:
            groups.append([])
        groups[-1].append(pair)
    joined = [
        tuple(np.concatenate(waves).astype(np.float64) for waves in zip(*group, strict=True))
        for group in groups
    ]
    found = {}
    for name, measure in _measures(rate).items():
        # In silence there is nothing to understand.
        values = [measure(one, other) for one, other in joined if one.any()]
        known = [value for value in values if np.isfinite(value)]
        if known:
            found[name] = mean(known)
    return found


def _measures(rate: int) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """Measures of an original and its copy, each float64 (time,); NaN where there is none."""
    found: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {}

    def stoi(one: np.ndarray, other: np.ndarray) -> float:
        from pystoi import stoi as measure

        # Too little speech is a warning, with a value that means nothing.
        with warnings.catch_warnings(action="error", category=RuntimeWarning):
            try:
                return float(measure(one, other, rate))
            except (RuntimeWarning, ValueError):
                return float("nan")

    def pesq(one: np.ndarray, other: np.ndarray) -> float:
        import librosa
        from pesq import PesqError
        from pesq import pesq as measure

        wide = 16000 if rate >= 16000 else 8000
        at_rate = (librosa.resample(each, orig_sr=rate, target_sr=wide) for each in (one, other))
        try:
            return float(measure(wide, *at_rate, "wb" if wide == 16000 else "nb"))
        except PesqError:
            return float("nan")

    def visqol(one: np.ndarray, other: np.ndarray) -> float:
        import librosa
        from visqol import VisqolApi

        api = VisqolApi()
        api.create(mode="speech")
        # The rate of its mode for speech.
        at_rate = (librosa.resample(each, orig_sr=rate, target_sr=16000) for each in (one, other))
        try:
            return float(api.measure_from_arrays(*at_rate, 16000).moslqo)
        except (ValueError, RuntimeError):
            return float("nan")

    found["stoi"] = stoi
    for name, measure in (("pesq", pesq), ("visqol", visqol)):
        if find_spec(name) is not None:
            found[name] = measure
    return found
