"""Faults of the machine while a command runs: no room, no memory, no permission, signals, killed workers, lost output.

A case changes its own process before the command begins: limits, signals, standard output, capabilities.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from .cases import BAD_INPUT, Case, Outcome, Place, Wanted, either, refused, works
from .judging import INTERNAL_ERROR

GROUP = "faults"
INTERRUPTED = 130
_REFUSALS = (1, BAD_INPUT, INTERNAL_ERROR)


def cases() -> Iterator[Case]:
    yield from _no_room()
    yield from _no_memory()
    yield from _no_permission()
    yield from _lost_output()
    yield from _signals()
    yield from _killed_workers()
    yield from _places()


def command(verb: str, place: Place) -> list[object]:
    """The arguments of each verb, for sound input and the output folder "out"."""
    run, coco = place.world / "run", place.world / "coco"
    truth = coco / "annotations" / "panoptic_val.json"
    return {
        "train": ["train", "--config", place.world / "config.yaml", "--output", "out"],
        "workers": ["train", "--config", place.world / "config.yaml", "--output", "out", "--data.workers", 1],
        "evaluate": ["evaluate", run, "--output", "out"],
        "predict": ["predict", run, place.world / "photos", "--output", "out"],
        "cityscapes": ["data", "convert", place.world / "cityscapes", "--output", "out"],
        "triage": ["triage", run, place.world / "photos", "--output", "out"],
        "share": ["share", run, "out"],
        "share file": ["share", run, "out.safetensors"],
        "metrics": ["metrics", truth, truth, "--output", "out"],
        "convert": ["data", "convert", coco, "--output", "out"],
        "check": ["data", "check", coco, "--output", "out"],
        "stats": ["data", "stats", coco, "--output", "out.json"],
        "augment": ["data", "augment", place.world / "config.yaml", "--output", "out.png"],
        "plot": ["plot", run, "--output", "out.png"],
        "info": ["info", run],
        "runs": ["runs", place.world],
        "resume": ["train", "--resume", "run"],
    }[verb]


_WRITERS = (
    "train",
    "evaluate",
    "predict",
    "triage",
    "share",
    "share file",
    "metrics",
    "convert",
    "cityscapes",
    "check",
    "stats",
    "augment",
    "plot",
)


def _after(change: Callable[[Place], object], verb: str, place: Place) -> list[object]:
    """Change the process, then the arguments."""
    change(place)
    return command(verb, place)


# A disk without room, by a limit on the size of files


def _no_room() -> Iterator[Case]:
    for verb in _WRITERS:
        for size in (0, 300, 20_000):
            wanted = either(_nothing_half_written, codes=_REFUSALS)
            if size == 0:
                wanted = refused(codes=_REFUSALS)
            yield Case(
                GROUP,
                f"{verb}: no room beyond {size} bytes a file",
                partial(_after, partial(_room, size), verb),
                wanted,
            )


def _room(size: int, place: Place) -> None:
    """Writing more fails as on a full disk; what is printed goes through a pipe, which has no such limit."""
    _print_into_pipes(place)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _print_into_pipes(place: Place) -> None:
    """Standard output and error through pipes that another process writes into the files of the case."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.setsid()
            os.close(writing)
            with open(place.folder.parent / name, "wb", buffering=0) as file:
                while part := os.read(reading, 65_536):
                    file.write(part)
            os._exit(0)
        os.close(reading)
        os.dup2(writing, number)
        os.close(writing)


def _nothing_half_written(outcome: Outcome) -> str:
    """Every JSON file that is there is whole."""
    for path in outcome.folder.rglob("*.json"):
        try:
            json.loads(path.read_text())
        except ValueError:
            return f"{path.relative_to(outcome.folder)} is half written"
    return ""


# Memory


def _no_memory() -> Iterator[Case]:
    for verb in ("train", "evaluate", "predict", "triage", "share", "info", "metrics", "convert", "augment", "plot"):
        for megabytes in (2, 8):
            prepare = partial(_after, partial(_memory, megabytes), verb)
            yield Case(GROUP, f"{verb}: {megabytes} MB of memory", prepare, either(codes=_REFUSALS))
    for verb in ("train", "info"):

        def large(place: Place, verb: str = verb) -> list[object]:
            flags = ["--model.pyramid_channels", 60_000]
            if verb == "train":
                return [*command("train", place), *flags]
            text = (place.world / "config.yaml").read_text().replace("pyramid_channels: 16", "pyramid_channels: 60000")
            (place.folder / "large.yaml").write_text(text)
            return ["info", "large.yaml"]

        yield Case(GROUP, f"{verb}: a network of 100 GB", large, either(codes=_REFUSALS))


def _memory(megabytes: int, place: Place) -> None:
    """So much address space beyond what is in use."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + megabytes * 2**20, resource.RLIM_INFINITY))


# Permission


def _no_permission() -> Iterator[Case]:
    for verb in _WRITERS:
        yield Case(GROUP, f"{verb}: a folder that may not be written", partial(_after, _read_only, verb), refused())
    for name, (copied, arguments) in _UNREADABLE.items():

        def prepare(place: Place, copied: str = copied, arguments: list[object] = arguments) -> list[object]:
            path = place.copy(copied)
            _lose_capabilities()
            path.chmod(0)
            return [place.world / argument[1:] if str(argument).startswith("@") else argument for argument in arguments]

        yield Case(GROUP, f"{name} that may not be read", prepare, refused(codes=(1, BAD_INPUT)))


_UNREADABLE: Mapping[str, tuple[str, list[object]]] = {
    "predict: a photo": ("photos/good.png", ["predict", "@run", "photos/good.png", "--output", "out"]),
    "predict: a folder of photos": ("photos", ["predict", "@run", "photos", "--output", "out"]),
    "predict: weights": ("shared.safetensors", ["predict", "shared.safetensors", "@photos", "--output", "out"]),
    "info: a run": ("run", ["info", "run"]),
    "info: a shared folder": ("shared", ["info", "shared"]),
    "info: foreign weights": ("zoo.pkl", ["info", "zoo.pkl"]),
    "info: a config": ("config.yaml", ["info", "config.yaml"]),
    "train: a config": ("config.yaml", ["train", "--config", "config.yaml", "--output", "out"]),
    "check: a data set": ("coco", ["data", "check", "coco"]),
    "check: annotations": ("coco/annotations", ["data", "check", "coco"]),
    "stats: PNGs": ("coco/annotations/panoptic_val", ["data", "stats", "coco/annotations"]),
    "check: categories.yaml": ("pairs/categories.yaml", ["data", "check", "pairs"]),
    "metrics: predictions": (
        "coco/annotations/panoptic_val.json",
        ["metrics", "coco/annotations/panoptic_val.json", "@coco/annotations/panoptic_val.json"],
    ),
    "plot: a run": ("run", ["plot", "run", "--output", "x.png"]),
}


def _read_only(place: Place) -> None:
    _lose_capabilities()
    place.folder.chmod(0o500)


def _lose_capabilities() -> None:
    """Make permissions count for root, too: the process gives up the right to pass over them."""
    if os.geteuid() != 0:
        return

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    header, nothing = Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(ctypes.byref(header), ctypes.byref(nothing)):
        raise OSError(ctypes.get_errno(), "capset")


# Standard output that is lost


def _lost_output() -> Iterator[Case]:
    for verb in ("predict", "evaluate", "metrics", "check", "info", "runs", "train"):
        for name, lose in _LOSSES.items():
            wanted = either(codes=(*_REFUSALS, 120, 141))
            yield Case(GROUP, f"{verb}: {name}", partial(_after, lose, verb), wanted, seconds=20)


def _closed(place: Place) -> None:
    """As `>&-` in a shell: the interpreter then has no sys.stdout."""
    os.close(1)
    sys.stdout = None


def _broken_pipe(place: Place) -> None:
    """As `| head -0`: nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)


def _full_device(place: Place) -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def _ascii(place: Place) -> None:
    sys.stdout.reconfigure(encoding="ascii", errors="strict")


_LOSSES: Mapping[str, Callable[[Place], None]] = {
    "standard output closed": _closed,
    "standard output nobody reads": _broken_pipe,
    "standard output on a full device": _full_device,
    "standard output in ASCII": _ascii,
}


# Signals


def _signals() -> Iterator[Case]:
    for verb in ("train", "workers", "predict", "evaluate", "metrics", "convert"):
        for name, number in (("SIGINT", signal.SIGINT), ("SIGTERM", signal.SIGTERM)):
            for seconds in (0.3, 1.2):
                prepare = partial(_after, partial(_signal_later, number, seconds), verb)
                wanted = Wanted(frozenset({INTERRUPTED}), right=_nothing_half_written)
                case = Case(GROUP, f"{verb}: {name} after {seconds} s", prepare, _or_killed(wanted, number), seconds=20)
                yield case


def _or_killed(wanted: Wanted, number: int) -> Wanted:
    """Ended by SIGTERM is right where nothing catches it."""
    return wanted if number == signal.SIGINT else Wanted(wanted.refusals | {143, -number}, right=wanted.right)


def _signal_later(number: int, seconds: float, place: Place) -> None:
    pid = os.getpid()

    def send() -> None:
        time.sleep(seconds)
        os.kill(pid, number)

    threading.Thread(target=send, daemon=True).start()


# Workers that are killed


def _killed_workers() -> Iterator[Case]:
    def metrics(place: Place) -> list[object]:
        _kill_worker_later(place)
        return [*command("metrics", place), "--workers", 2]

    wanted = either(codes=_REFUSALS)
    yield Case(GROUP, "metrics: a worker is killed", metrics, wanted, seconds=10)
    for seconds in (0.0, 0.5):
        prepare = partial(_after, partial(_kill_worker_later, seconds=seconds), "workers")
        yield Case(GROUP, f"train: a worker is killed after {seconds} s", prepare, wanted, seconds=20)


def _kill_worker_later(place: Place, seconds: float = 0.0) -> None:
    """Kill the first worker that this process starts."""
    pid = os.getpid()

    def kill() -> None:
        while not _workers(pid):
            time.sleep(0.01)
        time.sleep(0.2 + seconds)  # a tracker of resources has its name only a moment after its start
        for worker in _workers(pid)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()


def _workers(pid: int) -> list[int]:
    """The workers that a process has started; multiprocessing's tracker of resources is none."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for file in lists for child in file.read_text().split()]
    return [child for child in children if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]


# Places that cannot be written


def _places() -> Iterator[Case]:
    """Outputs that are devices, links, files of the input, or are there already."""
    for verb in ("predict", "triage", "metrics", "convert", "check", "train", "evaluate", "share"):
        for name, put in _OUTPUTS.items():
            yield Case(GROUP, f"{verb}: the output is {name}", partial(_after, put, verb), refused("out"), seconds=10)
    for verb, output in (("stats", "out.json"), ("augment", "out.png"), ("plot", "out.png")):

        def folder(place: Place, verb: str = verb, output: str = output) -> list[object]:
            (place.folder / output).mkdir()
            return command(verb, place)

        yield Case(GROUP, f"{verb}: the output is a folder", folder, refused(output))

    def no_temporary(place: Place) -> list[object]:
        os.environ["TMPDIR"] = str(place.folder / "nowhere")
        return command("predict", place)

    yield Case(GROUP, "predict: no folder for temporary files", no_temporary, works())


def _file_there(place: Place) -> None:
    (place.folder / "out").write_text("mine")


def _link_to(target: str) -> Callable[[Place], None]:
    return lambda place: (place.folder / "out").symlink_to(target)


_OUTPUTS: Mapping[str, Callable[[Place], None]] = {
    "a file": _file_there,
    "the full device": _link_to("/dev/full"),
    "a link to itself": _link_to("out"),
}
