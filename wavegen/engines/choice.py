"""Which engine generates: the fastest that runs here."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Timer

from wavegen.engines import Engine
from wavegen.engines.precision import PRECISIONS
from wavegen.engines.torch_queue import TorchQueue
from wavegen.errors import ConfigError
from wavegen.wavenet import WaveNet

ENGINES = ("auto", "torch", "numba")


def choose(network: WaveNet, name: str = "auto", precision: str = "float32") -> Engine:
    """An engine for a network where it lies, ready to start.

    Compiles the engine of the CPU if this machine has not yet: about ten seconds.

    Args:
        network: on any device.
        name: one of ENGINES; "auto" is numba on a CPU, or torch, with a line on standard
            error, where numba cannot run.
        precision: of the weights, one of PRECISIONS.

    Raises:
        ConfigError: no such engine or precision, or not to be had here.
    """
    for option, value, known in (("engine", name, ENGINES), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise ConfigError(f"--{option} {value}: it is one of {', '.join(known)}")
    device = network.output.weight.device.type
    if name == "torch" or (name == "auto" and device != "cpu"):
        if precision != "float32":
            raise ConfigError(f"--precision {precision}: only with --engine numba --device cpu")
        return TorchQueue(network)
    if device != "cpu":
        raise ConfigError("--engine numba: only with --device cpu")
    failure = _numba_failure(precision)
    if failure is None:
        from wavegen.engines.numba_cpu import NumbaCPU

        return NumbaCPU(network, precision)
    if name == "numba" or precision != "float32":
        raise ConfigError(f"numba cannot run here ({failure}): take --engine torch, in float32")
    _say_once(f"wavegen: generating with the slower torch engine: numba cannot run ({failure})")
    return TorchQueue(network)


def compiled_scorer_runs() -> bool:
    """Whether known codes are scored by compiled code here; says once why not."""
    failure = _numba_failure(None)
    if failure is not None:
        _say_once(f"wavegen: scoring more slowly with torch: numba cannot run ({failure})")
    return failure is None


@cache
def _numba_failure(precision: str | None) -> str | None:
    """Why the engine of the CPU, or the scorer, cannot run; None if it can."""
    try:
        with _waiting("preparing the compiled engine"):
            if precision is None:
                from wavegen.engines.numba_scorer import compile_scorer

                compile_scorer()
            else:
                from wavegen.engines.numba_cpu import compile_kernel

                compile_kernel(precision)
    except Exception as error:  # whatever it is, the other engine still runs
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return None


@cache
def _say_once(message: str) -> None:
    print(message, file=sys.stderr)


@contextmanager
def _waiting(what: str) -> Iterator[None]:
    """Says on standard error what takes more than a second, and then how long it took."""
    began = time.monotonic()
    say = Timer(1.0, lambda: print(f"{what} ...", end="", file=sys.stderr, flush=True))
    say.start()
    try:
        yield
    finally:
        say.cancel()
        say.join()
        if (seconds := time.monotonic() - began) > 1:
            print(f" {seconds:.0f} s", file=sys.stderr)
