"""The compiled engine: its draw, its rounding, its threads and its memory."""

import math
import resource
from pathlib import Path
from threading import Thread

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import LABELS
from small import network as small_network

from wavegen.codecs import mulaw
from wavegen.distributions.sampling import Sampling, distribution, stream_noise
from wavegen.distributions.sampling import draw as reference_draw
from wavegen.engines.cpu import wavenet_kernel, wavenet_packing
from wavegen.engines.cpu.draw import How, draw
from wavegen.engines.cpu.vectors import exp32, exp64
from wavegen.engines.cpu.wavenet_engine import NumbaCPU, compile_kernel
from wavegen.engines.precision import PRECISIONS, rounded
from wavegen.engines.reference import TorchQueue
from wavegen.models.condition import Condition


@pytest.mark.parametrize(
    ("function", "dtype", "low", "high"),
    [(exp32, np.float32, -80, 80), (exp64, np.float64, -708, 0)],
)
def test_exponentials_are_exact_to_two_units_in_the_last_place(function, dtype, low, high) -> None:
    @numba.njit
    def each(numbers):
        return np.array([function(number) for number in numbers])

    numbers = np.random.default_rng(0).uniform(low, high, 100_000).astype(dtype)
    expected = np.exp(numbers.astype(np.longdouble))
    error = np.abs(each(numbers) - expected) / np.spacing(expected.astype(dtype))
    assert error.max() < 2
    assert each(np.zeros(1, dtype))[0] == 1
    if dtype == np.float64:
        assert np.array_equal(each(np.array([-1e4, -np.inf, -709.0])), np.zeros(3))


@settings(deadline=None, max_examples=300)
@given(
    seed=st.integers(0, 2**32),
    codes=st.integers(2, 300),
    spread=st.sampled_from([0.0, 0.3, 3.0, 30.0]),
    steps=st.sampled_from([1.0, 8.0, 1024.0]),
    temperature=st.sampled_from([0.0, 1e-6, 0.5, 1.0, 3.0]),
    top_k=st.one_of(st.none(), st.integers(1, 320)),
    top_p=st.one_of(st.none(), st.floats(1e-9, 1)),
    noise=st.floats(1e-12, 1 - 1e-12),
)
def test_codes_are_drawn_as_the_reference_draws_them(
    seed, codes, spread, steps, temperature, top_k, top_p, noise
) -> None:
    """Equal logits among them: `steps` says how coarse they are."""
    rng = np.random.default_rng(seed)
    logits = np.round(spread * rng.standard_normal(codes) * steps).astype(np.float32) / np.float32(
        steps
    )
    sampling = Sampling(temperature, top_k, top_p)
    how = How(temperature, float(top_k or math.inf), float(top_p or 1), 1.0)
    drawn = draw(logits, noise, how, np.empty(codes), np.empty(codes))
    rows = torch.from_numpy(logits)[None]
    expected = int(reference_draw(rows, torch.tensor([noise], dtype=torch.float64), sampling))
    if drawn != expected:
        assert temperature > 0
        # Only where the noise or top-p lies on an edge, within rounding.
        probabilities = distribution(rows, sampling)[0]
        edges = torch.cat([torch.zeros(1), probabilities.cumsum(0)])
        on_an_edge = (edges - noise).abs().min() < 1e-12
        plain = distribution(rows, Sampling(temperature, top_k))[0]
        reached = plain.sort(descending=True).values.cumsum(0)
        assert on_an_edge or (top_p is not None and (reached - top_p).abs().min() < 1e-12)


def test_from_numbers_that_are_none_the_start_symbol_is_drawn() -> None:
    """A broken network must not lead the kernel out of its arrays, nor pass unseen."""
    rows = [np.full(9, value, np.float32) for value in (np.nan, np.inf, -np.inf)]
    rows += [np.arange(9, dtype=np.float32) for _ in range(2)]
    rows[3][4], rows[4][2] = np.nan, np.inf
    for logits in rows:
        for how in (How(1.0, 3.0, 0.5, 1.0), How(1.0, math.inf, 1.0, 1.0), How(0.0, 2.0, 1.0, 1.0)):
            assert draw(logits, 0.999, how, np.empty(9), np.empty(9)) == 9


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_threads_and_batch_change_nothing(monkeypatch, precision, guidance) -> None:
    """Not within rounding: bit for bit, since sums are rounded in one order."""
    network = small_network(labels=LABELS, residual_channels=24, gate_channels=70, kernel_size=3)
    sampling = Sampling(guidance=guidance)
    bias = network.conditioning(Condition(torch.tensor([[1, 2]]))).expand(7, -1, -1, -1)
    noise = torch.from_numpy(stream_noise(0, range(7), 0, 300))

    def codes(streams: slice, threads: int) -> torch.Tensor:
        engine = NumbaCPU(network, precision, threads)
        engine.start(bias[streams], sampling, unspecified=0.5 * bias[streams])
        return engine.generate(noise[streams])

    together = codes(slice(None), 1)
    assert torch.equal(codes(slice(None), 2), together)
    assert torch.equal(codes(slice(None), 5), together)
    assert torch.equal(codes(slice(2, 3), 1), together[2:3])
    assert torch.equal(codes(slice(1, 6), 2), together[1:6])
    assert len({tuple(row) for row in together.tolist()}) == 7
    monkeypatch.setattr(wavenet_packing, "_WORTH_SHARING", 0)
    assert torch.equal(codes(slice(2, 3), 2), together[2:3])
    assert torch.equal(codes(slice(1, 3), 4), together[1:3])
    assert torch.equal(codes(slice(1, 3), 3), together[1:3])


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("channels", [1, 20, 100])
def test_two_threads_on_one_stream_give_the_logits_of_the_parallel_pass(
    monkeypatch, precision, channels
) -> None:
    """Also where there are too few channels for both to have any."""
    monkeypatch.setattr(wavenet_packing, "_WORTH_SHARING", 0)
    network = small_network(
        residual_channels=channels, gate_channels=2 * channels, skip_channels=3 * channels
    )
    torch.manual_seed(0)
    codes = torch.randint(0, 256, (1, 400))
    engine = NumbaCPU(network, precision, 2)
    engine.start(network.conditioning(network.unspecified()), Sampling(), prompt=codes[:, :100])
    got = torch.cat([engine.force(codes[:, 100:101]), engine.force(codes[:, 101:])], 1)
    expected = rounded(network, precision)(codes)[:, 100:]
    assert (got - expected).abs().max() / expected.abs().max() < 1e-4


def test_only_weights_beyond_a_cache_are_worth_two_threads() -> None:
    small, large = small_network(), small_network(skip_channels=1200)
    noise = torch.full((1, 3), 0.5, dtype=torch.float64)
    # Many weights, but no matrix wide enough to be shared.
    narrow = small_network(layers=512, stacks=64, kernel_size=4, quantization_channels=4)
    for network, threads, expected in (
        (small, 2, 1), (narrow, 2, 1), (large, 1, 1), (large, 2, 2), (large, 9, 2)
    ):  # fmt: skip
        engine = NumbaCPU(network, threads=threads)
        engine.start(network.conditioning(network.unspecified()), Sampling())
        engine.generate(noise)
        assert len(engine._work) == expected


def test_nothing_is_compiled_after_the_step_that_says_so(make_network) -> None:
    compile_kernel("float32")
    network = make_network(labels=LABELS, kernel_size=3)
    engine = NumbaCPU(network, threads=2)
    bias = network.conditioning(network.unspecified(3))
    for sampling in (Sampling(), Sampling(0, 5, 0.5, 2)):
        engine.start(bias, sampling, unspecified=bias, prompt=torch.zeros(3, 9, dtype=torch.int64))
        engine.generate(torch.from_numpy(stream_noise(0, range(3), 3, 10)))
        engine.generate(torch.full((10, 3), 0.5, dtype=torch.float64).t())
        engine.force(torch.zeros(10, 3, dtype=torch.int64).t())
    # One for each precision at most, whatever the other tests have asked for.
    assert len(wavenet_kernel.run.signatures) <= len(PRECISIONS)


def test_no_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="threads is 0"):
        NumbaCPU(small_network(), threads=0)


def test_a_thread_that_does_not_start_is_not_waited_for(monkeypatch) -> None:
    monkeypatch.setattr(wavenet_packing, "_WORTH_SHARING", 0)
    network = small_network(skip_channels=40)
    engine = NumbaCPU(network, threads=2)
    engine.start(network.conditioning(network.unspecified()), Sampling())
    start, started = Thread.start, []

    def only_one(thread: Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(Thread, "start", only_one)
    with pytest.raises(RuntimeError, match="can't start"):
        engine.generate(torch.full((1, 9), 0.5, dtype=torch.float64))


def differences(network, labels, codes, noise) -> tuple[int, float]:
    """Codes that the reference would not have drawn, and how far from an edge the worst lies.

    The reference is forced along the codes, so that one difference does not bring others.
    """
    engine = TorchQueue(network)
    engine.start(network.conditioning(Condition(labels)), Sampling())
    worst, count = 0.0, 0
    for begin in range(0, codes.shape[1], 1000):
        part = slice(begin, begin + 1000)
        probabilities = engine.force(codes[:, part]).double().softmax(-1)
        edges = probabilities.cumsum(-1)
        drawn = torch.searchsorted(edges, noise[:, part, None].contiguous()).squeeze(-1)
        for row, time in (drawn != codes[:, part]).nonzero().tolist():
            count += 1
            between = edges[row, time, min(drawn[row, time], codes[row, begin + time])]
            worst = max(worst, abs(float(between - noise[row, begin + time])))
    return count, worst


def test_codes_are_those_of_the_reference_over_a_long_time() -> None:
    network = small_network(labels=LABELS)
    labels = torch.tensor([[1, 1], [0, 2]])
    noise = torch.from_numpy(stream_noise(3, [0, 1], 0, 5000))
    engine = NumbaCPU(network)
    engine.start(network.conditioning(Condition(labels)), Sampling())
    count, worst = differences(network, labels, engine.generate(noise), noise)
    assert count <= 1
    assert worst < 1e-5


@pytest.mark.slow
def test_codes_of_a_trained_network_are_those_of_the_reference_over_20000_samples() -> None:
    """Trained: probabilities are far from even, and one mistake would be followed by others."""
    network = small_network(labels=LABELS, residual_channels=16, gate_channels=32, skip_channels=32)
    network.requires_grad_(True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=6e-3)
    rng = np.random.default_rng(0)
    time = np.arange(2000) / 8000
    for _ in range(150):
        hertz = rng.uniform(100, 800, (4, 1))
        tone = 0.4 * np.sin(2 * np.pi * hertz * time) + 0.01 * rng.standard_normal((4, 2000))
        codes = torch.from_numpy(mulaw.encode(tone.astype(np.float32)))
        labels = torch.tensor([[1, 1], [2, 2], [3, 0], [0, 0]])
        logits = network(codes, labels)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), codes.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() / math.log(2) < 5.5
    network.requires_grad_(False)
    labels = torch.tensor([[1, 2]])
    noise = torch.from_numpy(stream_noise(3, [0], 0, 20_000))
    engine = NumbaCPU(network)
    engine.start(network.conditioning(Condition(labels)), Sampling())
    codes = engine.generate(noise)
    assert len(codes.unique()) > 30
    count, worst = differences(network, labels, codes, noise)
    assert count < 2
    assert worst < 1e-5


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_a_thousand_short_requests_do_not_grow() -> None:
    network = small_network(labels=LABELS)
    noise = torch.full((2, 5), 0.5, dtype=torch.float64)

    def request(engine: NumbaCPU) -> None:
        engine.start(network.conditioning(network.unspecified(2)), Sampling(top_k=5))
        engine.generate(noise)

    def held() -> int:
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    engine = NumbaCPU(network, threads=2)
    for _ in range(100):
        request(engine)
    before = held()
    for number in range(1000):
        request(engine if number % 2 else NumbaCPU(network, threads=2))
    # The weights of an engine alone take 40 kB: a leak would be 40 MB.
    assert held() - before < 20_000_000
