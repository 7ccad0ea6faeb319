"""How much memory work on a GPU takes, to do no more of it at once than fits."""

from wavegen.models.base import Network
from wavegen.models.wavenet import WaveNet
from wavegen.models.wavenet_state import PART

_FLOAT = 4


def of_streams(network: Network) -> tuple[int, int]:
    """Bytes that generating a stream takes, and that the pass over prompts takes besides, at most.

    A stream takes its rings with labels and without, as much again while they are filled or
    a graph is captured, and what a step works on. The pass takes the inputs, sums and gates
    of a block at once.
    """
    if not isinstance(network, WaveNet):
        return 4 * _of_step(network), 0
    config = network.config
    channels = config.residual_channels + config.gate_channels
    rings = 2 * network.history * config.residual_channels
    samples = max(PART, network.history)
    return 2 * _FLOAT * (rings + 6 * config.layers * channels), _FLOAT * 3 * channels * samples


def of_prediction(network: Network) -> int:
    """Bytes that predicting a sample of known audio takes, at most.

    These are the gates of all layers twice, a block at work, and the head's output.
    """
    if not isinstance(network, WaveNet):
        return 4 * _of_step(network)
    config = network.config
    gates = config.layers * config.gate_channels
    block = 3 * (config.residual_channels + config.gate_channels)
    head = 3 * config.skip_channels + 4 * config.quantization_channels
    return _FLOAT * (gates + block + head)


def _of_step(network: Network) -> int:
    """Bytes of every product's outputs, about what a step of a network works on."""
    return _FLOAT * sum(weight.shape[0] for weight in network.parameters() if weight.ndim)
