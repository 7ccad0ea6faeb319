"""The engine for CPUs: a compiled loop over time, in which the cores share the streams."""

from collections.abc import Callable
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
from wavegen.engines.prefill import all_rows
from wavegen.models.config import WaveNetConfig
from wavegen.models.frames import Frames
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
        self._sampling = sampling
        every = all_rows(bias, sampling, unspecified)
        sets = every.split(count)
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
            self._work += [
                (packed, team, _member(packed, len(sets) * len(streams), number), part)
                for number, packed in enumerate(shares)
            ]
        passed = 0 if prompt is None else prompt.shape[1]
        self._frames = Frames(every, network.hop, passed)
        self._of_frame: Tensor | None = None

    @torch.inference_mode()
    def extend(self, bias: Tensor, unspecified: Tensor | None = None) -> None:
        """See `Engine.extend`."""
        self._frames.extend(all_rows(bias, self._sampling, unspecified))

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
        """Run the kernel once for each frame of the bias; without noise the codes are given."""
        time, begin = codes.shape[1], 0
        jobs = []
        for now, count in self._frames.spans(time):
            part = slice(begin, begin + count)
            own = [noise, codes, logits]
            if count < time:
                # Contiguous, as the kernel was compiled for.
                own = [np.ascontiguousarray(each[:, part]) if each.size else each for each in own]
            jobs.append((part, None if now is self._of_frame else now, own))
            self._of_frame = now
            begin += count
        # The members of a team wait for one another, so none starts before all have a thread.
        self._ready = Barrier(len(self._work))

        def work(packed: Packed, team: Team, member: Member, streams: slice) -> None:
            self._ready.wait()
            for _, now, own in jobs:
                if now is not None:
                    sets = [each[streams] for each in now.split(self._count)]
                    _use(packed, member, _bias_of(sets))
                wavenet_kernel.run(
                    packed, team, member, self._how, *(each[streams] for each in own)
                )

        self._by_all(work)
        for part, _, (_, drawn, found) in jobs if len(jobs) > 1 else ():
            codes[:, part] = drawn
            if found.size:
                logits[:, part] = found

    def _by_all(self, work: Callable[..., None]) -> None:
        """Do the work of every member, each in its own thread."""
        if len(self._work) == 1:
            work(*self._work[0])
            return
        with ThreadPoolExecutor(len(self._work)) as pool:
            try:
                done = [pool.submit(work, *each) for each in self._work]
            except BaseException:
                self._ready.abort()
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


def _member(packed: Packed, rows: int, number: int) -> Member:
    """A member whose bias will be set by `_use`."""
    layers, (begin, end) = len(packed.dilations), packed.columns[1]
    bias = np.zeros((layers, rows, 2 * (end - begin)), np.float32)
    ahead = np.zeros((packed.aheads[-1], *bias.shape[1:]), np.float32)
    return Member(number, bias, ahead, np.zeros(1, np.int64))


def _use(packed: Packed, member: Member, bias: np.ndarray) -> None:
    """Use a bias (L, rows, 2, gate) from the next step on."""
    begin, end = packed.columns[1]
    own = bias[..., begin:end].reshape(member.bias.shape)
    # The sums of the next steps have begun with the bias before.
    for layer, change in enumerate(own - member.bias):
        member.ahead[packed.aheads[layer] : packed.aheads[layer + 1]] += change
    member.bias[:] = own


def _queues_of(filled: list[list[Tensor]]) -> np.ndarray:
    """Rings (time, B, R) of each set of rows and layer as one (slots, rows, R)."""
    sets = [torch.cat(rings) for rings in filled]
    return padded(array(torch.cat(sets, dim=1)))


def _bias_of(sets: list[Tensor]) -> np.ndarray:
    """Biases (B, L, G) of each set of rows as one (L, rows, 2, gate)."""
    bias = array(torch.cat(sets).transpose(0, 1))
    return padded(bias.reshape(*bias.shape[:2], 2, -1))
