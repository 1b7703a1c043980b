"""Versions, processor, memory and GPUs of this machine, as a bug report needs them."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from torch.utils.collect_env import get_nvidia_driver_version, run

from tascnet import __version__

GIB = 2**30  # bytes

LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Memory limits of a container, by control groups of version 2 and 1."""


def environment() -> dict[str, str]:
    """Describe this machine and the installed software: name -> text.

    No text contains a path, a user name or the name of the machine, so that all of it can be published.
    """
    return {
        "tascnet": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": _system(),
        "processor": _processor(),
        "memory": _memory(),
        **dict(_gpus()),
        **_packages(),
    }


def _system() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:  # macOS, Windows, minimal containers
        name = ""
    return ", ".join(filter(None, (f"{platform.system()} {platform.release()}", platform.machine(), name)))


def _processor() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = f"{usable} of {os.cpu_count()} logical cores usable"
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"{_processor_name() or 'unknown'}, {cores}, {torch.get_num_threads()} threads of PyTorch, {vectors}"


def _processor_name() -> str:
    if sys.platform == "linux":
        try:
            found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        except OSError:
            found = None
        return found[1] if found else ""  # ARM processors have no such line
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return ""
    return platform.processor()


def _memory() -> str:
    """The machine's memory and, where a container has less, the container's limit."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return "unknown"
    limit = _container_limit()
    return f"{total / GIB:.1f} GiB" + (f", limited to {limit / GIB:.1f} GiB" if limit and limit < total else "")


def _container_limit() -> int | None:
    """Bytes that a container may use; None without a limit."""
    for file in LIMIT_FILES:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdecimal() else None
    return None


def _gpus() -> Iterator[tuple[str, str]]:
    if torch.version.cuda:
        yield "CUDA of PyTorch", f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        yield "NVIDIA driver", get_nvidia_driver_version(run) or "none"
    if torch.version.hip:
        yield "ROCm of PyTorch", torch.version.hip
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for number in range(count):
        gpu = torch.cuda.get_device_properties(number)
        yield f"GPU {number}", f"{gpu.name}, {gpu.total_memory / GIB:.1f} GiB, capability {gpu.major}.{gpu.minor}"
    if torch.backends.mps.is_available():
        yield "GPU", "Apple (mps)"
    elif not count:
        yield "GPU", "none that PyTorch can use"


def _packages() -> dict[str, str]:
    """Versions of the packages that tascnet requires, those of its extras where they are installed."""
    versions = {}
    for requirement in _requirements():
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]  # such as torch>=2.9 or ruff>=0.9; extra == "dev"
        is_extra = "extra ==" in requirement
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            if not is_extra:
                versions[name] = "not installed"
    return versions


def _requirements() -> list[str]:
    try:
        return requires("tascnet") or []
    except PackageNotFoundError:  # a source tree on the path
        return []
