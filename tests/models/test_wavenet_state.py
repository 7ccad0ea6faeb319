"""What queues hold after a prompt: one pass for streams that are alike."""

import pytest
import torch
from small import LABELS

from wavegen.codecs import mulaw
from wavegen.distributions.sampling import Sampling
from wavegen.engines.choice import choose
from wavegen.engines.gpu.cuda_graph import GraphQueue
from wavegen.generation.generate import Stream, stream_chunks
from wavegen.models import wavenet_state
from wavegen.models.condition import Condition


@pytest.fixture
def passed(monkeypatch) -> list[int]:
    """Streams of each pass over a prompt."""
    sizes: list[int] = []
    whole = wavenet_state._from_prompt

    def count(network, bias, prompt):
        sizes.append(len(bias))
        return whole(network, bias, prompt)

    monkeypatch.setattr(wavenet_state, "_from_prompt", count)
    return sizes


@pytest.mark.parametrize(("part", "sizes"), [(1 << 17, [3]), (1, [1, 1, 1])])
@pytest.mark.parametrize("length", [1, 9, 60])
@pytest.mark.parametrize("kernel_size", [2, 3])
def test_streams_of_equal_labels_and_prompt_share_a_pass(
    make_network, passed, monkeypatch, kernel_size: int, length: int, part: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(wavenet_state, "PART", part)
    network = make_network(labels=LABELS, kernel_size=kernel_size)
    # Of six streams three are like one before them, in labels and prompt.
    labels = torch.tensor([[1, 1], [2, 0], [1, 1], [2, 0], [1, 1], [2, 0]])
    prompt = torch.randint(0, 256, (2, length))[[0, 0, 0, 0, 1, 0]]
    prompt[4, 0] = 255 - prompt[0, 0]
    bias = network.conditioning(Condition(labels))[[0, 1, 0, 1, 0, 1]]
    got = list(wavenet_state.fill_queues(network, bias, prompt))
    assert passed == sizes
    for row in range(6):
        alone = wavenet_state._from_prompt(network, bias[row : row + 1], prompt[row : row + 1])
        for ring, expected in zip(got, alone, strict=True):
            torch.testing.assert_close(ring[:, row], expected[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("name", ["torch", "numba", "graph"])
def test_a_request_hears_its_prompt_once_for_each_kind_of_stream(
    make_network, passed, monkeypatch, name: str, guidance: float
) -> None:
    network = make_network(labels=LABELS)
    engine = GraphQueue(network) if name == "graph" else choose(network, name)
    prompt = mulaw.decode(torch.randint(0, 256, (50,)).numpy())
    kinds = [{"digit": "1"}, {"digit": "2", "speaker": "bob"}]
    streams = [Stream(kind, index) for index in range(8) for kind in kinds]
    for _ in stream_chunks(engine, streams, 10, 0, Sampling(guidance=guidance), prompt):
        pass
    assert sum(passed) == (2 if guidance == 1 else 3), "with labels, and at most one without"
