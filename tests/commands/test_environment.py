"""Facts of a machine for bug reports: complete, true, and nothing private."""

import getpass
import os
import platform
import socket
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from said import Said

from tascnet import __version__
from tascnet.commands import environment
from tascnet.commands.environment import GIB


def test_of_this_machine(tascnet: Callable[..., Said]):
    said = tascnet("info", "--environment")
    assert (said.code, said.err) == (0, "")
    facts = dict(line.split(": ", 1) for line in said.out.splitlines())
    assert facts == environment.environment()
    assert facts["tascnet"] == __version__
    assert facts["python"].startswith(platform.python_version())
    assert platform.release() in facts["system"]
    assert f"of {os.cpu_count()} logical cores" in facts["processor"]
    for package in ("torch", "torchvision", "timm", "numpy", "jsonargparse", "pillow"):
        assert facts[package] == version(package)
    assert list(facts)[:5] == ["tascnet", "python", "system", "processor", "memory"]


@pytest.mark.skipif(platform.system() != "Linux", reason="/proc/meminfo is Linux's")
def test_memory_is_that_of_the_kernel():
    (line,) = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")]
    assert environment.environment()["memory"].startswith(f"{int(line.split()[1]) * 1024 / GIB:.1f} GiB")


def test_nothing_private_is_in_it():
    text = "\n".join(environment.environment().values())
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text
    for name in (getpass.getuser(), socket.gethostname()):
        assert name not in text.split()


@pytest.mark.parametrize(
    ("limit", "end"), [(str(GIB // 2), ", limited to 0.5 GiB"), ("max", " GiB"), ("9" * 18, " GiB")]
)
def test_limit_of_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, end: str):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(environment, "LIMIT_FILES", (tmp_path / "missing", tmp_path / "memory.max"))
    memory = environment.environment()["memory"]
    assert memory.endswith(end)
    assert ("limited" in memory) == ("limited" in end)


def test_gpus(monkeypatch: pytest.MonkeyPatch):
    gpus = [
        SimpleNamespace(name="NVIDIA A", total_memory=80 * GIB, major=9, minor=0),
        SimpleNamespace(name="NVIDIA B", total_memory=int(11.5 * GIB), major=7, minor=5),
    ]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)
    monkeypatch.setattr(environment, "get_nvidia_driver_version", lambda run: "580.1")
    facts = environment.environment()
    assert facts["CUDA of PyTorch"].startswith("13.0, cuDNN ")
    assert facts["NVIDIA driver"] == "580.1"
    assert facts["GPU 0"] == "NVIDIA A, 80.0 GiB, capability 9.0"
    assert facts["GPU 1"] == "NVIDIA B, 11.5 GiB, capability 7.5"
    assert "GPU" not in facts


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert environment.environment()["GPU"] == "none that PyTorch can use"


def test_packages(monkeypatch: pytest.MonkeyPatch):
    wanted = ["torch>=2.9", "no-such-package<3", "jsonargparse[signatures]>=4", 'no-such.extra>=1; extra == "plot"']
    monkeypatch.setattr(environment, "requires", lambda name: wanted)
    facts = environment.environment()
    assert facts["torch"] == version("torch")
    assert facts["jsonargparse"] == version("jsonargparse")
    assert facts["no-such-package"] == "not installed"
    assert "no-such.extra" not in facts


@pytest.mark.parametrize("arguments", [[], ["a_run", "--environment"]])
def test_either_a_network_or_the_environment(tascnet: Callable[..., Said], arguments: list[str]):
    said = tascnet("info", *arguments)
    assert (said.code, said.out) == (2, "")
    assert (
        said.err == "tascnet: error: info takes either a network or config file, or --environment. Give one of them.\n"
    )
