"""Named presets of log-mel features, as vocoders and text-to-speech systems use them."""

import math
from collections.abc import Sequence

from wavegen.audio.feature_kinds import KINDS, Feature, LogMel, Pitch
from wavegen.errors import ConfigError

# Sources: HiFi-GAN's meldataset.py, Tacotron 2's layers.py,
# wavenet_vocoder's audio.py and hparams.py, Vocos' feature_extractors.py.
_SPEECH = {"sample_rate": 22050, "n_fft": 1024, "win_length": 1024, "hop_length": 256, "n_mels": 80}
PRESETS = {
    "hifigan": {**_SPEECH, "f_max": 8000, "framing": "same"},
    "tacotron2": {**_SPEECH, "f_max": 8000, "framing": "centred"},
    "r9y9": {
        **_SPEECH, "f_min": 125, "f_max": 7600, "log_base": "10", "floor": 1e-10,
        "framing": "centred",
    },
    "vocos": {
        "sample_rate": 24000, "n_fft": 1024, "win_length": 1024, "hop_length": 256, "n_mels": 100,
        "f_max": 12000, "mel_scale": "htk", "norm": "none", "floor": 1e-7, "framing": "centred",
    },
}  # fmt: skip


def make(words: Sequence[tuple[str, str]], sample_rate: int) -> tuple[Feature, ...]:
    """Make features from pairs (kind, preset); an empty preset fits any sample rate.

    Raises:
        ConfigError: a kind or preset is unknown, or a preset has another sample rate.
    """
    for kind, preset in words:
        if kind not in KINDS:
            raise ConfigError(f"features: '{kind}' is not known; the kinds are {', '.join(KINDS)}")
        if preset and (kind != "log_mel" or preset not in PRESETS):
            raise ConfigError(
                f"features: '{kind}:{preset}' is not known; the presets are "
                f"{', '.join(f'log_mel:{each}' for each in PRESETS)}"
            )
    mels = {kind: _log_mel(preset, sample_rate) for kind, preset in words if kind == "log_mel"}
    hop = mels["log_mel"].hop_length if mels else _hop(sample_rate)
    return tuple(
        mels[kind] if kind == "log_mel" else _other(kind, sample_rate, hop) for kind, _ in words
    )


def _other(kind: str, sample_rate: int, hop: int) -> Feature:
    common = {"sample_rate": sample_rate, "hop_length": hop}
    if kind == "pitch":
        # At low rates the highest pitches cannot be measured.
        return Pitch(**common, f_max=min(1000.0, sample_rate / 4))
    return KINDS[kind](**common)


def _hop(sample_rate: int) -> int:
    """A power of two, 6 to 12 milliseconds: it divides crops and chunks.

    At 22,050 Hz it is 256, as in the presets. On spoken digits at 8 kHz, frames of 8 ms gave fewer
    bits than frames of 16 ms after equal time.
    """
    return 2 ** int(math.log2(max(2.0, 0.0117 * sample_rate)))


def _log_mel(preset: str, sample_rate: int) -> LogMel:
    if preset:
        numbers = PRESETS[preset]
        if numbers["sample_rate"] != sample_rate:
            raise ConfigError(
                f"features: log_mel:{preset} is for {numbers['sample_rate']} Hz, and this is at "
                f"{sample_rate} Hz: set --data.sample_rate {numbers['sample_rate']}, or take "
                "log_mel alone, which fits any rate"
            )
        return LogMel(**numbers)  # type: ignore[arg-type]
    hop = _hop(sample_rate)
    window = 4 * hop
    return LogMel(
        sample_rate=sample_rate,
        hop_length=hop,
        n_fft=window,
        win_length=window,
        n_mels=_bands(sample_rate, window),
        f_max=sample_rate / 2,
    )


def _bands(sample_rate: int, window: int) -> int:
    """80, or fewer, so that every band is at least as wide as a bin of the spectrum."""
    half = sample_rate / 2
    # Slaney's scale: a mel is 200 / 3 Hz up to 1000 Hz, and above 27 are a factor of 6.4.
    mels = half * 3 / 200 if half < 1000 else 15 + 27 * math.log(half / 1000) / math.log(6.4)
    return max(1, min(80, int(mels * (200 / 3) / (sample_rate / window)) - 1))
