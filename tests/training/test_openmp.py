"""Training leaves other programs their share of the cores, and loses little beside them."""

import os
import subprocess
import sys

import pytest

from wavegen.training import openmp
from wavegen.training.openmp import Cores

# Processor time of threads that wait for one another, spinning and then not, and then again.
PROGRAM = """
import time, torch
from wavegen.training.openmp import Cores

def used():
    began = time.process_time()
    for _ in range(40):
        torch.zeros(1 << 17).add_(1)
        time.sleep(0.004)
    return time.process_time() - began

cores = Cores()
used()
spinning = used()
cores.sleep()
sleeping = used()
cores.spin()
print(sleeping / spinning, sleeping / used())
"""


@pytest.mark.skipif(sys.platform != "linux" or os.cpu_count() == 1, reason="libgomp, two cores")
def test_threads_stop_spinning_and_begin_again() -> None:
    count = str(len(os.sched_getaffinity(0)))
    own = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment, "OMP_NUM_THREADS": count},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(float, done.stdout.split())
    assert before < 0.7
    assert after < 0.7


def test_spinning_follows_how_long_a_thread_waits_for_a_core(monkeypatch) -> None:
    clock, waited = [0.0], {"1": 0.0, "2": 0.0}
    monkeypatch.setattr(openmp.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(openmp, "waiting_seconds", lambda: dict(waited))
    cores = Cores()

    def after(seconds: float, *, one_waits: float) -> bool:
        clock[0] += seconds
        waited["2"] += one_waits
        cores.look()
        return cores.spinning

    assert after(2.0, one_waits=0.02)
    assert after(0.5, one_waits=0.5)  # too soon to tell
    assert not after(1.5, one_waits=0.0)
    assert not after(2.0, one_waits=0.3)
    assert after(2.0, one_waits=0.1)
    assert after(2.0, one_waits=0.3)
    waited["3"] = 100.0  # of a thread that is new it is not known since when
    assert after(2.0, one_waits=0.0)
    del waited["3"]  # and one may end
    assert after(2.0, one_waits=0.0)


def test_where_the_system_does_not_say_nothing_changes(monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(openmp.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(openmp, "waiting_seconds", dict)
    cores = Cores()
    clock[0] = 5.0
    cores.look()
    assert cores.spinning


@pytest.mark.skipif(sys.platform != "linux", reason="Linux says so")
def test_the_system_says_how_long_threads_wait() -> None:
    assert str(os.getpid()) in openmp.waiting_seconds()
