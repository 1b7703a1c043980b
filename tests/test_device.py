"""Devices by their names, and the memory that a process took."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tascnet.device import choose_device, peak_memory
from tascnet.errors import InputError

STATM = Path("/proc/self/statm")


@pytest.mark.skipif(not STATM.exists(), reason="only Linux tells the present memory so simply")
def test_peak_memory_is_in_bytes_and_never_falls():
    cpu, more = torch.device("cpu"), 100_000_000
    before = peak_memory(cpu)
    present = int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    array = np.ones(int(before) - present + more, dtype=np.uint8)
    assert peak_memory(cpu) - before == pytest.approx(more, rel=0.3)
    del array
    assert peak_memory(cpu) - before == pytest.approx(more, rel=0.3)


def test_on_a_gpu_pytorch_is_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1000 + device.index)
    assert peak_memory(torch.device("cuda", 3)) == 1003


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("two_gpus")
class TestDevices:
    @pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1", "cpu", "cpu:0"])
    def test_those_that_are_there(self, name: str):
        assert choose_device(name) == torch.device(name)

    def test_auto_is_a_gpu(self):
        assert choose_device("auto") == torch.device("cuda")

    @pytest.mark.parametrize("name", ["cuda:2", "cuda:7", "cuda:99999999999999999999", "cpu:1"])
    def test_a_number_that_is_too_high(self, name: str):
        with pytest.raises(
            InputError, match=rf"'{name}' is not available here; this machine has (cuda:0 to cuda:1|cpu)"
        ):
            choose_device(name)

    @pytest.mark.parametrize(
        "name", ["cuda:", "cuda:x", "cuda:-1", "cuda:1.0", "cuda:²", "mps", "mps:0", "tpu", "", ":0"]
    )
    def test_no_device_at_all(self, name: str):
        with pytest.raises(InputError, match="is not available here; choose auto or one of cuda, cpu"):
            choose_device(name)


def test_the_second_of_one_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="this machine has cuda or cuda:0 alone"):
        choose_device("cuda:1")
