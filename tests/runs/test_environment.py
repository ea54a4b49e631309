import os

import keras
import pytest

from kerasfer.runs.environment import accelerators, emulates_half_precision, environment

SLOW = keras.backend.backend() != "jax" and not accelerators()


@pytest.mark.skipif(bool(accelerators()), reason="the device is an accelerator")
def test_only_cores_that_the_process_may_use_are_counted(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert environment(seed=0)["device"] == "CPU, 1 core"
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)
    assert environment(seed=0)["device"] == "CPU, 2 cores"
    monkeypatch.delattr(os, "sched_getaffinity")  # As on macOS.
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert environment(seed=0)["device"] == "CPU, 6 cores"


@pytest.mark.parametrize(
    ("facts", "emulates"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse4_2 avx2 fma\nbugs\t\t: spectre_v1\n", SLOW),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd\n", SLOW),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n", False),
        ("what another system tells\n", False),
        (None, False),
    ],
)
def test_emulated_half_precision(tmp_path, facts, emulates):
    if facts is not None:
        (tmp_path / "cpuinfo").write_text(facts)
    assert emulates_half_precision(tmp_path / "cpuinfo") == emulates
