"""Choosing the fastest engine and the fastest scorer that run on this machine."""

import copy
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Timer

import torch

from wavegen.distributions.sampling import Sampling
from wavegen.engines.base import Engine, Scorer
from wavegen.engines.precision import PRECISIONS
from wavegen.engines.reference import TorchQueue
from wavegen.engines.reference_scorer import TorchScorer
from wavegen.errors import ConfigError, ModelError
from wavegen.models.base import Network
from wavegen.models.condition import Condition
from wavegen.models.config import WaveNetConfig
from wavegen.models.wavenet import WaveNet

_logger = logging.getLogger(__name__)

# The engines that "auto" tries on each device, the fastest first.
_TRIED = {"cpu": ("numba", "torch"), "cuda": ("triton", "graph", "torch")}
ENGINES = ("auto", "torch", "numba", "graph", "triton")
# Fewer streams than this are generated faster by compiled code on a CPU than on a GPU, where a step
# takes as long for one stream as for many.
FEW_STREAMS = 16
_PRECISIONS = {
    "torch": ("float32",),
    "numba": tuple(PRECISIONS),
    "graph": ("float32",),
    "triton": ("bfloat16", "float32"),
}


def choose(
    network: Network, name: str = "auto", precision: str = "float32", streams: int | None = None
) -> Engine:
    """Make an engine for a network.

    The first time on a machine it is compiled, which takes about ten seconds.

    Args:
        network: network on any device.
        name: one of ENGINES; "auto" is numba on a CPU, triton for bfloat16 and graph for float32
            on a GPU; or the next best engine, with a warning, if that cannot run.
        precision: precision of the weights, one of PRECISIONS.
        streams: number of streams to generate. With it, "auto" may use a copy of the network on
            the CPU for few streams, with a remark; otherwise the network stays on its device.

    Raises:
        ConfigError: there is no such engine or precision, or it cannot run here.
    """
    for option, value, known in (("engine", name, ENGINES), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise ConfigError(f"--{option} {value}: it must be one of {', '.join(known)}")
    device = network.device.type
    if isinstance(network, WaveNet):
        tried = _candidates(device, name, precision, streams)
    else:
        tried = _of_any_network(network, name, precision)
    failures: list[tuple[str, str | None]] = []
    for each in tried:
        engine, failure = _made(each, network, precision)
        if engine is not None:
            for failed, reason in failures:
                _say_once(
                    f"generating with the slower {each} engine: {failed} cannot run ({reason})"
                )
            if each == "numba" and device != "cpu" and not failures:
                _say_once(
                    f"generating on the CPU, which is faster than {device} for fewer than "
                    f"{FEW_STREAMS} streams; --engine graph stays there"
                )
            return engine
        failures.append((each, failure))
    failed, reason = failures[0]
    other = "graph" if failed == "triton" and device == "cuda" else "torch"
    raise ConfigError(f"{failed} cannot run here ({reason}): take --engine {other}, in float32")


def _candidates(device: str, name: str, precision: str, streams: int | None = None) -> list[str]:
    """The engines to try; `ConfigError` if there are none."""
    here = _TRIED.get(device, ("torch",))
    if device == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        here = (*here, "triton")  # by the slow interpreter, for tests
    if name != "auto" and name not in here:
        where = "cpu" if name in _TRIED["cpu"] else "cuda"
        raise ConfigError(f"--engine {name}: only with --device {where}")
    able = [each for each in here if precision in _PRECISIONS[each] and name in ("auto", each)]
    if name == "auto" and precision == "float32" and device == "cuda":
        # Tensor cores round float32 or do not multiply it.
        able.remove("triton")
        if streams is not None and streams < FEW_STREAMS:
            able.insert(0, "numba")
    elif able == ["triton"] and name == "auto" and streams is not None:
        able.append("numba")  # for networks that do not fit
    if not able:
        engines = [each for each, able in _PRECISIONS.items() if precision in able]
        both = " or ".join(
            f"--engine {each} --device {'cpu' if each == 'numba' else 'cuda'}" for each in engines
        )
        raise ConfigError(f"--precision {precision}: only with {both}")
    return able


def _of_any_network(network: Network, name: str, precision: str) -> list[str]:
    """The engine for networks other than WaveNet; `ConfigError` if another one is requested."""
    kind = network.config.network
    if name not in ("auto", "torch"):
        raise ConfigError(
            f"--engine {name}: it runs the network '{WaveNetConfig.network}' only, and this one "
            f"is '{kind}': take --engine torch"
        )
    if precision not in _PRECISIONS["torch"]:
        raise ConfigError(
            f"--precision {precision}: the network '{kind}' has only --precision float32"
        )
    return ["torch"]


def _made(name: str, network: Network, precision: str) -> tuple[Engine | None, str | None]:
    """An engine that runs here, or None and the reason why it does not."""
    if name == "torch":
        return TorchQueue(network), None
    assert isinstance(network, WaveNet), "the other engines run only this network"
    if name == "numba":
        if (failure := _numba_failure(precision)) is not None:
            return None, failure
        from wavegen.engines.cpu.wavenet_engine import NumbaCPU

        if network.device.type != "cpu":
            network = copy.deepcopy(network).cpu()
        return NumbaCPU(network, precision), None
    try:
        engine: Engine
        with _waiting(f"preparing the {name} engine"), torch.inference_mode():
            if name == "graph":
                from wavegen.engines.gpu.cuda_graph import GraphQueue

                engine = GraphQueue(network)
            else:
                from wavegen.engines.gpu.wavenet_triton import TritonGPU

                engine = TritonGPU(network, precision)
            # Generate one sample, which fails if the engine cannot be compiled or captured.
            engine.start(network.conditioning(network.unspecified()), Sampling())
            engine.generate(torch.full((1, 1), 0.5, dtype=torch.float64))
    except ModelError:
        raise
    except Exception as error:  # after any error another engine still runs
        return None, _reason(error)
    return engine, None


def choose_scorer(network: Network, condition: Condition) -> Scorer:
    """Make the fastest scorer for a network on its device; it reads the weights now.

    Args:
        network: network in evaluation mode.
        condition: K conditions.
    """
    if isinstance(network, WaveNet) and network.device.type == "cpu" and _compiled_scorer_runs():
        from wavegen.engines.cpu.wavenet_scorer import NumbaScorer

        return NumbaScorer(network, condition)
    return TorchScorer(network, condition)


def _compiled_scorer_runs() -> bool:
    """Whether the compiled scorer runs here; if not, warn once."""
    failure = _numba_failure(None)
    if failure is not None:
        _say_once(f"scoring more slowly with torch: numba cannot run ({failure})")
    return failure is None


@cache
def _numba_failure(precision: str | None) -> str | None:
    """The reason why the compiled engine, or the scorer, cannot run; None if it can."""
    try:
        with _waiting("preparing the compiled engine"):
            if precision is None:
                from wavegen.engines.cpu.wavenet_scorer import compile_scorer

                compile_scorer()
            else:
                from wavegen.engines.cpu.wavenet_engine import compile_kernel

                compile_kernel(precision)
    except Exception as error:  # after any error the other engine still runs
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


@cache
def _say_once(message: str) -> None:
    _logger.warning("%s", message)


@contextmanager
def _waiting(what: str) -> Iterator[None]:
    """Log what is being done if it takes more than a second, and then its duration."""
    began = time.monotonic()
    say = Timer(1.0, lambda: _logger.info("%s ...", what))
    say.start()
    try:
        yield
    finally:
        say.cancel()
        say.join()
        if (seconds := time.monotonic() - began) > 1:
            _logger.info("%s took %.0f s", what, seconds)
