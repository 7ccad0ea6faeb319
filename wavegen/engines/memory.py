"""The memory of work on a GPU, to limit its size."""

from wavegen.models.base import Network
from wavegen.models.wavenet import WaveNet
from wavegen.models.wavenet_state import PART

_FLOAT = 4


def of_streams(network: Network) -> tuple[int, int]:
    """Most bytes for generating a stream, and most further bytes for the pass over prompts.

    A stream needs its rings with labels and without, as much again while they are filled or a
    graph is captured, and the tensors of a step. The pass needs the inputs, sums and gates of a
    block together.
    """
    if not isinstance(network, WaveNet):
        return 4 * _of_step(network), 0
    config = network.config
    channels = config.residual_channels + config.gate_channels
    rings = 2 * network.history * config.residual_channels
    samples = max(PART, network.history)
    return 2 * _FLOAT * (rings + 6 * config.layers * channels), _FLOAT * 3 * channels * samples


def of_prediction(network: Network) -> int:
    """Most bytes for predicting a sample of known audio.

    These are the gates of all layers twice, the tensors of a block, and the output of the head.
    """
    if not isinstance(network, WaveNet):
        return 4 * _of_step(network)
    config = network.config
    gates = config.layers * config.gate_channels
    block = 3 * (config.residual_channels + config.gate_channels)
    head = 3 * config.skip_channels + 4 * config.quantization_channels
    return _FLOAT * (gates + block + head)


def _of_step(network: Network) -> int:
    """Bytes of the outputs of all products, about the size of the tensors of a step."""
    return _FLOAT * sum(weight.shape[0] for weight in network.parameters() if weight.ndim)
