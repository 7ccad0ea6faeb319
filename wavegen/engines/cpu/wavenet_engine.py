"""The engine for CPUs: a compiled loop over time, in which the cores share the streams."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import torch
from torch import Tensor

from wavegen.distributions.sampling import Sampling
from wavegen.engines.checks import check_codes, check_drawn, check_noise, check_start
from wavegen.engines.cpu import wavenet_kernel
from wavegen.engines.cpu.cache import FAILURES
from wavegen.engines.cpu.draw import How
from wavegen.engines.cpu.wavenet_kernel import Member, Team
from wavegen.engines.cpu.wavenet_packing import Packed, array, members_of_a_team, pack, padded
from wavegen.engines.precision import rounded
from wavegen.models.config import WaveNetConfig
from wavegen.models.wavenet import WaveNet
from wavegen.models.wavenet_state import fill_queues


class NumbaCPU:
    """A `wavegen.engines.base.Engine` on the CPU; codes do not depend on chunks or threads.

    They depend on the batch only by the rounding of torch before the first sample, which computes
    the conditioning and the queues after a prompt.

    Args:
        network: the network; its weights are read at every `start`.
        precision: precision of the weights, one of `wavegen.engines.precision.PRECISIONS`.
        threads: largest number of threads; by default that of torch.
    """

    name = "numba"

    def __init__(
        self, network: WaveNet, precision: str = "float32", threads: int | None = None
    ) -> None:
        self.network = network
        self._precision = precision
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}: it must be 1 or more")
        self._threads = threads

    @torch.inference_mode()
    def start(
        self,
        bias: Tensor,
        sampling: Sampling,
        *,
        unspecified: Tensor | None = None,
        prompt: Tensor | None = None,
    ) -> None:
        """See `Engine.start`."""
        check_start(self.network, bias, sampling, unspecified, prompt)
        count = len(bias)
        self._how = How(
            float(sampling.temperature),
            float(np.inf if sampling.top_k is None else sampling.top_k),
            float(1 if sampling.top_p is None else sampling.top_p),
            float(sampling.guidance),
        )
        sets = [bias]
        if sampling.guided:
            assert unspecified is not None
            # Every stream has two rows, with its labels and without, which get the same codes.
            sets.append(unspecified)
        network = rounded(self.network, self._precision)
        newest = np.full(count, network.start_symbol)
        if prompt is not None and prompt.shape[1]:
            newest = prompt[:, -1].cpu().numpy()
        filled = [list(fill_queues(network, each, prompt)) for each in sets]

        self._count = count
        threads = self._threads or torch.get_num_threads()
        members = members_of_a_team(network, self._precision, threads // count)
        # Packed here, not earlier, so that changes of the weights are always used.
        shares = pack(self.network, self._precision, members)
        teams = min(threads // members, count)
        self._work = []
        for streams in np.array_split(np.arange(count), teams):
            part = slice(streams[0], streams[-1] + 1)
            queues = _queues_of([[ring[:, part] for ring in rings] for rings in filled])
            team = _team(shares, newest[part], queues)
            biases = _bias_of([each[part] for each in sets])
            self._work += [
                (packed, team, _member(packed, biases, number), part)
                for number, packed in enumerate(shares)
            ]

    def generate(self, noise: Tensor) -> Tensor:
        """See `Engine.generate`."""
        check_noise(noise, self._count)
        codes = np.empty(noise.shape, np.int64)
        # Contiguous, since other strides would be another type and compiled again.
        numbers = np.ascontiguousarray(noise.cpu().numpy())
        self._run(numbers, codes, np.empty((len(codes), 0, 0), np.float32))
        return check_drawn(torch.from_numpy(codes), self.network)

    def force(self, codes: Tensor) -> Tensor:
        """See `Engine.force`."""
        check_codes(codes, self._count, self.network)
        given = np.ascontiguousarray(codes.cpu().numpy())
        logits = np.empty((*given.shape, self.network.start_symbol), np.float32)
        self._run(np.empty((len(given), 0)), given, logits)
        return torch.from_numpy(logits)

    def _run(self, noise: np.ndarray, codes: np.ndarray, logits: np.ndarray) -> None:
        # The members of a team wait for one another, so none starts before all have a thread.
        ready = Barrier(len(self._work))

        def work(packed: Packed, team: Team, member: Member, part: slice) -> None:
            ready.wait()
            wavenet_kernel.run(
                packed, team, member, self._how, noise[part], codes[part], logits[part]
            )

        if len(self._work) == 1:
            work(*self._work[0])
            return
        with ThreadPoolExecutor(len(self._work)) as pool:
            try:
                done = [pool.submit(work, *each) for each in self._work]
            except BaseException:
                ready.abort()
                raise
            for each in done:
                each.result()


def compile_kernel(precision: str) -> None:
    """Compile the kernel for a precision of the weights, or load it from disk."""
    small = WaveNetConfig(layers=1, stacks=1, residual_channels=1, gate_channels=2, skip_channels=1)
    network = WaveNet(small).requires_grad_(False)
    engine = NumbaCPU(network, precision)
    engine.start(network.conditioning(network.unspecified()), Sampling())
    noise = torch.full((1, 1), 0.5, dtype=torch.float64)
    try:
        engine.generate(noise)
    except FAILURES:
        wavenet_kernel.keep_nothing()
        engine.generate(noise)


def _team(shares: list[Packed], newest: np.ndarray, queues: np.ndarray) -> Team:
    packed, gate = shares[-1], shares[-1].columns[1, 1]
    rows, residual = queues.shape[1:]
    skip, output = len(packed.skip_bias), len(packed.output_bias)
    return Team(
        newest=newest.copy(),
        queues=queues,
        stream=np.empty((rows, residual), np.float32),
        gates=np.empty((2, rows, gate), np.float32),
        sums=np.empty((rows, skip), np.float32),
        hidden=np.empty((rows, skip), np.float32),
        out=np.empty((rows, output), np.float32),
        arrived=np.zeros((len(shares), 8), np.int64),
    )


def _member(packed: Packed, bias: np.ndarray, number: int) -> Member:
    """The member with its part of biases (L, rows, 2, gate)."""
    begin, end = packed.columns[1]
    own = bias[..., begin:end].reshape(*bias.shape[:2], -1)
    ahead = np.empty((packed.aheads[-1], *own.shape[1:]), np.float32)
    return Member(number, np.ascontiguousarray(own), ahead, np.zeros(1, np.int64))


def _queues_of(filled: list[list[Tensor]]) -> np.ndarray:
    """Rings (time, B, R) of each set of rows and layer as one (slots, rows, R)."""
    sets = [torch.cat(rings) for rings in filled]
    return padded(array(torch.cat(sets, dim=1)))


def _bias_of(sets: list[Tensor]) -> np.ndarray:
    """Biases (B, 1, L, G) of each set of rows as one (L, rows, 2, gate)."""
    bias = array(torch.cat(sets)[:, 0].transpose(0, 1))
    return padded(bias.reshape(*bias.shape[:2], 2, -1))
