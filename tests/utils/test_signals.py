"""SIGTERM and SIGHUP end a command in one line and leave nothing half-written."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from wavegen.commands.main import main
from wavegen.errors import Stopped
from wavegen.models.serialization import save_model
from wavegen.training.signals import stopping_on_signals


def nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_signals_end_a_command_and_leave_nothing(make_network, tmp_path: Path) -> None:
    """The second command runs under `nohup`."""
    save_model(make_network(), tmp_path / "model")
    processes = []
    for name, before in (("plain", None), ("nohup", nohup)):
        command = [sys.executable, "-m", "wavegen", "generate", str(tmp_path / "model")]
        command += [
            "--seconds",
            "10000",
            "--count",
            "2",
            "--engine",
            "torch",
            "--out",
            str(tmp_path / name),
        ]
        processes.append(
            subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=before)
        )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*/.*.part"))) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    plain, other = processes
    plain.send_signal(signal.SIGHUP)
    other.send_signal(signal.SIGHUP)
    _, errors = plain.communicate(timeout=60)
    assert plain.returncode == 128 + signal.SIGHUP
    assert errors.splitlines()[-1] == "wavegen: stopped"
    assert "Traceback" not in errors
    assert not list((tmp_path / "plain").iterdir())
    assert other.poll() is None
    assert len(list((tmp_path / "nohup").iterdir())) == 2
    other.send_signal(signal.SIGTERM)
    _, errors = other.communicate(timeout=60)
    assert other.returncode == 128 + signal.SIGTERM
    assert errors.splitlines()[-1] == "wavegen: stopped"
    assert not list((tmp_path / "nohup").iterdir())


# Takes longer to clean up than anybody waits.
SLOW = """
import sys, time
from wavegen.commands import info, main
def slow(options):
    try:
        print("begun", flush=True)
        time.sleep(100)
    finally:
        print("cleaning", flush=True)
        time.sleep(0.5)
        print("cleaned", flush=True)
        time.sleep(100)
info.run = slow
sys.exit(main.main(["info", "x"]))
"""


def test_a_second_sigterm_ends_it_at_once_and_a_second_sighup_does_not() -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline() == "cleaned\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_no_library_takes_the_signal_for_an_error_and_handlers_come_back(number: int) -> None:
    def swallow() -> None:
        with suppress(Exception):
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped) as stopped, stopping_on_signals():
        swallow()
    assert stopped.value.number == number
    for each in (signal.SIGTERM, signal.SIGHUP):
        assert signal.getsignal(each) is signal.SIG_DFL


def test_handlers_of_a_program_stay_and_other_threads_have_none(tmp_path: Path, capsys) -> None:
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with stopping_on_signals():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
    status = []
    thread = threading.Thread(target=lambda: status.append(main(["info", str(tmp_path / "none")])))
    thread.start()
    thread.join()
    assert status == [2]
    assert "no such file or folder" in capsys.readouterr().err
