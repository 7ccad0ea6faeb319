"""A summary of an evaluation in one sentence."""

from collections.abc import Mapping
from typing import Any

# If generated clips are nearer to training clips than this share of the distance of real clips,
# they are copies.
_COPIES = 0.5


def verdict(figures: Mapping[str, Any]) -> str:
    """A sentence on prediction, classes, silence and copies, each only if the result is clear."""
    parts = [_prediction(figures["likelihood"])]
    for attribute, shares in figures["recognised_by_a_judge"].items():
        if shares:
            parts.append(
                f"a label classifier recognises the {attribute} of "
                f"{shares['generated'].value:.0%} of the generated clips and of "
                f"{shares['real'].value:.0%} of the real ones"
            )
    samples = figures["samples"]
    silent = samples["silent_clips"]
    if silent["generated"].low > silent["real"].high:
        parts.append(f"{silent['generated'].value:.0%} of the generated clips are silent")
    if "nearest_generated_over_real" in samples:
        ratio = samples["nearest_generated_over_real"]["generated"]
        parts.append(
            "generated clips are so near to training clips that they are likely to be copies"
            if ratio.high < _COPIES
            else "generated clips do not look like copies of training clips"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _prediction(likelihood: Mapping[str, Any]) -> str:
    bits, order0 = likelihood["bits_per_sample"], likelihood["order0"]
    against = f"{bits.value:.2f} against {order0.value:.2f} bits per sample"
    if bits.high < order0.low:
        return f"the model predicts held-out clips better than their histogram does ({against})"
    return (
        "the model does not predict held-out clips better than their histogram does "
        f"({against}), so that it needs more training"
    )
