"""Every mistake a user can make ends in one line, exit status 2, and nothing half-written."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import audio_files
import numpy as np
import pytest
import soundfile
import torch
from small import LABELS, TINY

from wavegen.commands.main import main
from wavegen.models.serialization import save_model


@pytest.fixture
def model(make_network, tmp_path: Path) -> Path:
    save_model(make_network(labels=LABELS), tmp_path / "model")
    return tmp_path / "model"


def mistake(capsys, *arguments: object) -> str:
    """Run a command that must fail as it should; return its one line."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    # Progress bars may stand before it.
    assert lines[-1].startswith("wavegen: ")
    assert "Traceback" not in "".join(lines)
    return lines[-1]


def no_folder(folder: Path) -> None:
    pass


def empty_folder(folder: Path) -> None:
    folder.mkdir()


def a_file(folder: Path) -> None:
    folder.write_text("")


def no_audio(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("hello")


def only_bad_files(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.wav").write_text("not audio at all")
    audio_files.save(folder / "b.wav", np.zeros(0))


def cut_after_the_header(folder: Path) -> None:
    """Its header is sound, so that only decoding finds it out."""
    audio_files.cut(audio_files.save(folder / "a.flac"))


def bad_metadata(folder: Path) -> None:
    audio_files.save(folder / "a.wav")
    (folder / "metadata.jsonl").write_text("{broken\n")


def a_loop(folder: Path) -> None:
    folder.mkdir()
    (folder / "again").symlink_to(folder)


@pytest.mark.parametrize(
    "make",
    [
        no_folder,
        empty_folder,
        a_file,
        no_audio,
        only_bad_files,
        cut_after_the_header,
        bad_metadata,
        a_loop,
    ],
)
def test_a_folder_that_cannot_be_trained_on(tmp_path: Path, capsys, make) -> None:
    make(tmp_path / "data")
    line = mistake(capsys, "train", tmp_path / "data", "--run", tmp_path / "run", *TINY)
    assert line.count(str(tmp_path / "data") + ":") <= 1
    assert str(tmp_path / "data") in line
    assert not (tmp_path / "run").exists()
    if make not in (cut_after_the_header,):
        assert str(tmp_path / "data") in mistake(capsys, "info", tmp_path / "data")


def test_bad_files_among_good_ones_are_said_or_stop_it(tmp_path: Path, capsys) -> None:
    for name in ("x/a.wav", "x/b.wav", "y/c.wav", "y/d.wav"):
        audio_files.save(tmp_path / "data" / name)
    (tmp_path / "data" / "x" / "bad.wav").write_text("not audio")
    options = ["train", str(tmp_path / "data"), "--trainer.max_steps=1", *TINY]
    assert main([*options, "--run", str(tmp_path / "run")]) == 0
    assert "bad.wav" in capsys.readouterr().out
    line = mistake(capsys, *options, "--data.on_bad_file=fail", "--run", tmp_path / "other")
    assert "bad.wav" in line
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--trainer.max_steps=many", "max_steps"),
        ("--model.network.layers=7", "multiple of stacks"),
        ("--model.network.layers=1000000000", "layers is 1000000000"),
        ("--model.learning_rate=0", "--model.learning_rate is 0"),
        ("--data.crop=0", "--data.crop is 0"),
        ("--model.weight_decay=-1", "--model.weight_decay is -1"),
        ("--data.num_workers=-1", "--data.num_workers is -1"),
        ("--data.sample_rate=0", "sample_rate"),
        ("--data.label_dropout=2", "--data.label_dropout is 2"),
        ("--data.label_pattern=(", "label_pattern"),
        ("--data.sample_rate=-5", "sample_rate"),
        ("--ema_decay=1", "decay"),
        ("--data.seed=-1", "--data.seed is -1"),
        ("--no.such.option=1", "no.such.option"),
        ("--trainer.max_time=abc", "abc"),
        ("--trainer.accelerator=tpu", "torch_xla"),
        ("--trainer.devices=0", "devices"),
        ("--trainer.devices=many", "devices"),
        ("--trainer.max_step=3", "max_step"),
        ("--trainer.gradient_clip_algorithm=foo", "foo"),
        ("--model.network.sample_rate=4000", "8000 Hz and the network at 4000"),
        ("--model.network.labels={kind: [a]}", "unknown label attribute"),
        ("--config=/no/such/file.yaml", "no/such/file.yaml"),
        ("--resume=/no/such/run", "/no/such/run"),
    ],
)
def test_an_option_that_makes_no_sense(tone_folder, tmp_path: Path, capsys, option, says) -> None:
    tiny = [o for o in TINY if o.split("=")[0] != option.split("=")[0]]
    line = mistake(capsys, "train", tone_folder, "--run", tmp_path / "run", *tiny, option)
    assert says in line
    assert not (tmp_path / "run").exists()


def test_print_config_shows_what_follows_from_the_data(tone_folder, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(tone_folder), "--print_config"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "sample_rate: 8000" in shown
    assert "- high" in shown


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU goes first")
@pytest.mark.parametrize(("has", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_cpu_that_has_instructions_for_bfloat16_trains_in_it(
    tone_folder, capsys, monkeypatch, has: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    with pytest.raises(SystemExit):
        main(["train", str(tone_folder), "--print_config"])
    assert f"precision: {precision}" in capsys.readouterr().out


def test_train_needs_a_folder(capsys) -> None:
    assert "wavegen train FOLDER" in mistake(capsys, "train")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--label", "digit=9"], "unknown digit '9': choose one of 0, 1, 2"),
        (["--label", "dog"], "names no attribute"),
        (["--each", "colour"], "the attributes are digit, speaker"),
        (["--each", "digit", "--label", "digit=1"], "leave its --label out"),
        (["--like", "1.json", "--seed", "1"], "leave --seed out"),
        (["--like", "1.json", "--top-k", "3"], "leave --top-k out"),
        (["--seconds", "0"], "seconds is 0"),
        (["--seconds", "-3"], "seconds is -3"),
        (["--seconds", "nan"], "seconds is nan"),
        (["--temperature", "-0.5"], "temperature is -0.5"),
        (["--top-p", "0"], "top-p is 0"),
        (["--top-k", "0"], "top-k is 0"),
        (["--count", "0"], "--count is 0"),
        (["--count", "two"], "--count"),
        (["--seed", "-1"], "seed is -1"),
        (["--prompt", "missing.wav"], "missing.wav"),
        (["--device", "tpu9"], "device 'tpu9'"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_a_request_that_makes_no_sense(model, tmp_path: Path, capsys, options, says) -> None:
    line = mistake(capsys, "generate", model, *options, "--out", tmp_path / "out")
    assert says in line
    assert not list((tmp_path / "out").glob("*"))


def test_a_model_that_is_not_there(tmp_path: Path, capsys) -> None:
    assert "no such folder" in mistake(capsys, "generate", tmp_path / "none")
    assert "holds no model" in mistake(capsys, "generate", tmp_path)
    assert "name a MODEL" in mistake(capsys, "generate")
    assert "cannot be read" in mistake(capsys, "generate", "--like", tmp_path / "none.json")
    assert "no such file or folder" in mistake(capsys, "info", tmp_path / "none")


def test_a_recording_is_made_again(model, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert main(["generate", str(model), "--seconds", "0.05", "--out", str(one)]) == 0
    assert main(["generate", "--like", str(one / "any_0_0.json"), "--out", str(other)]) == 0
    assert (one / "any_0_0.wav").read_bytes() == (other / "any_0_0.wav").read_bytes()


def test_a_prompt_that_is_no_audio(model, tmp_path: Path, capsys) -> None:
    (tmp_path / "prompt.wav").write_text("hello")
    line = mistake(
        capsys, "generate", model, "--prompt", tmp_path / "prompt.wav", "--out", tmp_path / "out"
    )
    assert "prompt.wav" in line
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_written(model, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    line = mistake(capsys, "generate", model, "--seconds", 0.01, "--out", tmp_path / "file" / "out")
    assert "file" in line
    assert "cannot be written" in line


def test_no_room_on_the_disk(model, tone_folder, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    limited = (
        "import resource, signal, sys\n"
        "from wavegen.commands.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )

    def run(*arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", limited, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True)

    out = tmp_path / "out"
    done = run("generate", model, "--label", "digit=1", "--seconds", 1, "--out", out)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(f"wavegen: {out}")
    assert list(out.iterdir()) == []
    done = run("train", tone_folder, "--run", tmp_path / "run", "--trainer.max_steps=1", *TINY)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert os.strerror(errno.EFBIG) in done.stderr.strip().splitlines()[-1]


def no_memory_of_numpy() -> object:
    return np.empty(2**50)


def no_memory_of_torch() -> object:
    return torch.empty(2**50)


def no_memory_of_python() -> object:
    return bytearray(2**50)


def no_memory_of_a_gpu() -> object:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has")


def no_memory_for_a_file() -> object:
    raise RuntimeError("unable to mmap 4270016 bytes from file <a>: Cannot allocate memory (12)")


def no_memory_for_a_thread() -> object:
    raise RuntimeError("can't start new thread")


def no_memory_of_triton() -> object:
    raise RuntimeError("Triton Error [CUDA]: out of memory")


@pytest.mark.parametrize(
    "command",
    [
        no_memory_of_numpy,
        no_memory_of_torch,
        no_memory_of_python,
        no_memory_of_a_gpu,
        no_memory_for_a_file,
        no_memory_for_a_thread,
        no_memory_of_triton,
    ],
)
def test_no_memory_is_one_line(capsys, monkeypatch, command) -> None:
    monkeypatch.setattr("wavegen.commands.info.run", lambda _: command())
    line = mistake(capsys, "info", "x")
    assert "out of memory" in line
    assert "fewer or shorter recordings" in line
    assert len(line) < 400


@pytest.mark.parametrize(
    "bug",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        ValueError("bug"),
        KeyError("bug"),
        OSError(errno.EBADF, os.strerror(errno.EBADF)),
        io.UnsupportedOperation("not writable"),
    ],
)
def test_a_bug_is_not_made_one_line(capsys, monkeypatch, bug: Exception) -> None:
    def fail(_: object) -> None:
        raise bug

    monkeypatch.setattr("wavegen.commands.info.run", fail)
    with pytest.raises(type(bug)):
        main(["info", "x"])


def test_temperature_zero_is_argmax_and_repeats_itself(model, tmp_path: Path) -> None:
    for seed in (0, 1):
        options = ["--temperature", "0", "--seconds", "0.05", "--seed", str(seed)]
        assert main(["generate", str(model), *options, "--out", str(tmp_path / "out")]) == 0
    one, other = (soundfile.read(tmp_path / "out" / f"any_{seed}_0.wav")[0] for seed in (0, 1))
    assert np.array_equal(one, other)


def test_info_shows_a_folder_and_a_model(model, tone_folder, capsys) -> None:
    assert main(["info", str(model)]) == 0
    shown = capsys.readouterr().out
    assert "15 samples (2 ms)" in shown
    assert "speaker: ann, bob" in shown
    assert main(["info", str(tone_folder)]) == 0
    shown = capsys.readouterr().out
    assert "8000 Hz" in shown
    assert "high" in shown


def test_a_folder_of_names_that_are_not_utf8_trains(tmp_path: Path) -> None:
    for number in range(3):
        path = audio_files.save(tmp_path / "data" / f"{number}.wav")
        audio_files.rename_to_bytes(path, b"caf\xe9" + bytes([48 + number]) + b".wav")
    options = ["--run", tmp_path / "run", "--trainer.max_steps=1", *TINY]
    assert main(["train", *map(str, [tmp_path / "data", *options])]) == 0


def test_the_module_is_the_command() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "wavegen", "generate"], capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr.startswith("wavegen: name a MODEL")
