"""Which engine is taken, what is said when it cannot be, and where compiled code is kept."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import LABELS

from wavegen.engines import choice
from wavegen.engines.choice import choose
from wavegen.engines.cpu import (
    draw,
    vectors,
    wavenet_engine,
    wavenet_kernel,
    wavenet_scorer_kernel,
)
from wavegen.engines.cpu.cache import digest
from wavegen.engines.cpu.wavenet_engine import NumbaCPU
from wavegen.engines.reference import TorchQueue
from wavegen.errors import ConfigError
from wavegen.generation import wav_files
from wavegen.generation.generate import Stream, generate
from wavegen.generation.recipe import read_recipe
from wavegen.generation.repeating import repeat_file
from wavegen.generation.wav_files import generate_files
from wavegen.models.serialization import save_model
from wavegen.models.wavenet import WaveNet


def test_a_cpu_gets_the_compiled_engine(make_network) -> None:
    network = make_network()
    assert isinstance(choose(network), NumbaCPU)
    assert isinstance(choose(network, "torch"), TorchQueue)
    assert choose(network, "numba", "int8").network is network


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        ("fast", "float32", "--engine fast: it must be one of auto, torch, numba, graph, triton"),
        ("auto", "float16", "--precision float16: it must be one of float32, bfloat16, int8"),
        ("torch", "int8", "--precision int8: only with --engine numba"),
        ("graph", "float32", "--engine graph: only with --device cuda"),
    ],
)
def test_what_there_is_not_is_named(make_network, name, precision, message) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(make_network(), name, precision)


@pytest.fixture
def _no_numba(monkeypatch):
    def fail(precision: str) -> None:
        raise ImportError("Numba needs\nan older NumPy")

    monkeypatch.setattr(wavenet_engine, "compile_kernel", fail)
    choice._numba_failure.cache_clear()
    choice._say_once.cache_clear()
    yield
    choice._numba_failure.cache_clear()


@pytest.mark.usefixtures("_no_numba")
def test_without_numba_the_torch_queue_is_taken_and_said_once(make_network, caplog) -> None:
    for _ in range(3):
        assert isinstance(choose(make_network()), TorchQueue)
    (said,) = caplog.messages
    assert "Numba needs an older NumPy" in said
    with pytest.raises(ConfigError, match="take --engine torch"):
        choose(make_network(), "numba")
    with pytest.raises(ConfigError, match="older NumPy"):
        choose(make_network(), precision="int8")
    assert caplog.messages == [said]


class OnAGPU:
    """What looks like a network on a GPU, and of which a copy on the CPU is a real one."""

    def __init__(self, network: WaveNet) -> None:
        self.device = torch.device("cuda")
        self.output = SimpleNamespace(weight=SimpleNamespace(device=self.device))
        self.cpu = lambda: network

    @property
    def __class__(self) -> type:
        return WaveNet

    def __getattr__(self, name: str) -> object:
        return getattr(self.cpu(), name)

    def __deepcopy__(self, memo: dict) -> "OnAGPU":
        return self


def test_few_streams_are_taken_from_a_gpu_to_the_cpu(make_network, caplog) -> None:
    network, tried = make_network(), choice._candidates
    choice._say_once.cache_clear()
    for _ in range(2):
        engine = choose(OnAGPU(network), streams=15)
        assert isinstance(engine, NumbaCPU)
        assert engine.network is network
    (said,) = caplog.messages
    assert "generating on the CPU, which is faster than cuda for fewer than 16 streams" in said
    assert "--engine graph stays there" in said
    # What is named is obeyed, and many are faster where the network lies.
    assert tried("cuda", "auto", "float32", streams=15) == ["numba", "graph", "torch"]
    assert tried("cuda", "graph", "float32", streams=15) == ["graph"]
    assert tried("cuda", "auto", "float32", streams=16) == ["graph", "torch"]
    assert tried("cuda", "auto", "bfloat16", streams=3) == ["triton", "numba"]
    assert choose(network, streams=3).network is network
    assert caplog.messages == [said]


def test_a_network_that_does_not_fit_a_kernel_gets_another_engine(make_network, caplog) -> None:
    network = make_network(layers=2, stacks=1, skip_channels=1030)
    choice._say_once.cache_clear()
    engine = choose(OnAGPU(network), precision="bfloat16", streams=100)
    assert isinstance(engine, NumbaCPU)
    (said,) = caplog.messages
    assert "slower numba engine: triton cannot run (ConfigError: a network of this size" in said
    with pytest.raises(ConfigError, match=r"few taps at most\): take --engine graph, in float32"):
        choose(OnAGPU(network), precision="bfloat16")


def test_a_recipe_says_where_few_streams_were_generated(
    make_network, tmp_path, monkeypatch
) -> None:
    save_model(make_network(), tmp_path / "model")
    load = wav_files.load_with_fingerprint

    def onto_a_gpu(path, device):
        network, sha256 = load(path)
        return OnAGPU(network), sha256

    monkeypatch.setattr(wav_files, "load_with_fingerprint", onto_a_gpu)
    streams = [Stream(index=index) for index in range(3)]
    paths = generate_files(tmp_path / "model", streams, 0.02, tmp_path / "out", progress=False)
    recipe = read_recipe(paths[1].with_suffix(".json"))
    assert (recipe.device, recipe.engine) == ("cpu", "numba")
    monkeypatch.setattr(wav_files, "load_with_fingerprint", load)
    again = repeat_file(paths[1].with_suffix(".json"), tmp_path / "again", progress=False)
    assert again.read_bytes() == paths[1].read_bytes()
    # A device that is named is kept to.
    asked = []
    monkeypatch.setattr(
        wav_files, "choose", lambda *args: (asked.append(args[3]), choose(*args))[1]
    )
    for device in (None, "cpu"):
        generate_files(tmp_path / "model", streams, 0.01, tmp_path, device=device, progress=False)
    assert asked == [3, None]


@pytest.mark.gpu
def test_few_streams_of_a_network_on_a_gpu(make_network) -> None:
    network = make_network(labels=LABELS)
    expected = generate(network, {"digit": "1"}, count=2, seconds=0.02)
    assert np.array_equal(generate(network.cuda(), {"digit": "1"}, count=2, seconds=0.02), expected)
    assert network.output.weight.is_cuda


def test_waiting_is_said_only_where_it_is_long(caplog) -> None:
    caplog.set_level(logging.INFO)
    with choice._waiting("thinking"):
        pass
    assert not caplog.messages
    with choice._waiting("thinking"):
        time.sleep(1.2)
    assert caplog.messages == ["thinking ...", "thinking took 1 s"]


COMPILE = """
import sys
sys.path.insert(0, {package!r})
from wavegen.engines.cpu import {what}
compiled = {what}.{function}
if "{what}" == "tiny":
    compiled(1)
elif "{what}" == "wavenet_scorer_kernel":
    from wavegen.engines.cpu import wavenet_scorer
    wavenet_scorer.compile_scorer()
else:
    from wavegen.engines.cpu import wavenet_engine
    wavenet_engine.compile_kernel("float32")
print("kept" if sum(compiled.stats.cache_hits.values()) else "compiled")
"""
# A function that is compiled in a moment, and kept like those of the engine.
TINY = """
from wavegen.engines.cpu import draw, vectors
from wavegen.engines.cpu.cache import digest, kept

def _entry():
    sources = digest(vectors, draw)

    def add(x):
        return x + len(sources)

    return kept(add)

add = _entry()
"""


@pytest.fixture
def sealed_package(tmp_path: Path) -> Path:
    """A copy of the package whose folders cannot be written to, and neither can the home."""
    package = tmp_path / "package"
    package.mkdir()
    source = Path(wavenet_engine.__file__).parents[2]
    subprocess.run(["cp", "-r", source, package / "wavegen"], check=True)
    (package / "wavegen" / "engines" / "cpu" / "tiny.py").write_text(TINY)
    for cache in (package / "wavegen").rglob("__pycache__"):
        subprocess.run(["rm", "-r", cache], check=True)
        # A file where a folder should be: not even root can write into it.
        cache.write_text("")
    (tmp_path / "home").write_text("")
    (tmp_path / "temporary").mkdir()
    return package


def compile_again(package: Path, what: str, function: str) -> str:
    """ "compiled" or "kept", by another process without a home."""
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR",)}
    environment |= {
        "HOME": str(package.parent / "home"),
        "XDG_CACHE_HOME": str(package.parent / "home" / "cache"),
        "TMPDIR": str(package.parent / "temporary"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    code = COMPILE.format(package=str(package), what=what, function=function)
    run = [sys.executable, "-c", code]
    return subprocess.check_output(run, env=environment, cwd=package.parent, text=True).strip()


@pytest.mark.slow
def test_compiled_code_is_kept_where_the_home_is_read_only(sealed_package) -> None:
    def again() -> str:
        return compile_again(sealed_package, "tiny", "add")

    assert again() == "compiled"
    assert again() == "kept"
    (folder,) = (sealed_package.parent / "temporary").glob("wavegen-numba-*")
    assert folder.stat().st_mode & 0o077 == 0
    # What others could have written into is not run.
    folder.chmod(0o777)
    assert again() == "compiled"
    folder.chmod(0o700)
    # Code of which a file has changed is compiled again: its own file, or one that it uses.
    for changed in ("tiny.py", "vectors.py", "draw.py"):
        with (sealed_package / "wavegen" / "engines" / "cpu" / changed).open("a") as file:
            file.write("# changed\n")
        assert again() == "compiled", changed
        assert again() == "kept", changed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "function"), [("wavenet_kernel", "run"), ("wavenet_scorer_kernel", "surprise")]
)
def test_the_engine_and_the_scorer_are_kept(sealed_package, what: str, function: str) -> None:
    assert compile_again(sealed_package, what, function) == "compiled"
    assert compile_again(sealed_package, what, function) == "kept"
    # Damaged code is compiled again.
    for kept in (sealed_package.parent / "temporary").rglob("*.nbi"):
        kept.write_bytes(b"")
    assert compile_again(sealed_package, what, function) == "compiled"


@pytest.mark.parametrize(
    ("compiled", "used"),
    [(wavenet_kernel.run, (vectors, draw)), (wavenet_scorer_kernel.surprise, (vectors,))],
)
def test_compiled_code_is_renewed_when_a_file_that_it_uses_changes(compiled, used) -> None:
    values = [cell.cell_contents for cell in compiled.py_func.__closure__]
    assert digest(*used) in values
