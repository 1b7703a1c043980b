"""The memory that a process took."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tascnet.device import peak_memory

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
