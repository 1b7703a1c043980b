"""Runs cases through the command line, each in a forked child with limits of memory and time.

The parent imports the whole program once and computes nothing, so that a child starts within milliseconds and finds
no thread, no pool and no file of another case.
"""

import contextlib
import gc
import importlib
import os
import pkgutil
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from .cases import Case, Outcome, Place
from .judging import Judged, Verdict, judge

UNCAUGHT = 98
BROKEN_CASE = 99
CLOCK_FACTOR = 4  # other programs may share the processor
ADDRESS_SPACE = 3 * 2**30  # bytes beyond those of the parent
_MEGABYTE = 2**20


@dataclass(frozen=True)
class Result:
    """A case, how it ended, and what to think of it."""

    case: Case
    outcome: Outcome
    judged: Judged
    seconds: float


@dataclass(frozen=True)
class _Running:
    case: Case
    pid: int
    around: Path
    started: float
    resident: float


def preload() -> None:
    """Import all of the program, and what it imports late."""
    import tascnet

    for module in pkgutil.walk_packages(tascnet.__path__, "tascnet."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # optional libraries
                importlib.import_module(module.name)
    for name in ("tensorboard.summary.writer.event_file_writer", "torch.utils.tensorboard", "torchvision.ops", "timm"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # children need not look through all of it again and again


def run_cases(cases: Iterable[Case], world: Path, seed: int, jobs: int, keep: bool = False) -> Iterator[Result]:
    """Run cases, `jobs` at a time; yield their results as they come.

    Args:
        cases: those to run.
        world: folder of the sound files.
        seed: of random damage.
        jobs: children at a time.
        keep: leave the folders of cases that fell short, for a look at them.
    """
    waiting, running = list(cases)[::-1], []
    top = Path(tempfile.mkdtemp(prefix="damaged-"))
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(waiting.pop(), top, world, seed))
            ended = [(child, status) for child in running if (status := _ended(child)) is not None]
            for child, (code, hung, peak) in ended:
                running.remove(child)
                yield _result(child, code, hung, peak, world)
                if not keep:
                    _remove(child.around)
            if not ended:
                time.sleep(0.01)
    finally:
        for child in running:
            _kill(child.pid)
        if not keep:
            shutil.rmtree(top, ignore_errors=True)


def in_child(action: Callable[[], object]) -> None:
    """Do something in a forked child, so that the parent stays as it is; raise where it failed."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("the sound files could not be made; the reason is above")


def _start(case: Case, top: Path, world: Path, seed: int) -> _Running:
    around = Path(tempfile.mkdtemp(dir=top))
    place = Place(around / "inside", world, Random(f"{seed}/{case.id}"))
    place.folder.mkdir()
    sys.stdout.flush()
    sys.stderr.flush()
    resident = _status("VmRSS") / _MEGABYTE
    pid = os.fork()
    if pid == 0:
        code = BROKEN_CASE
        try:
            code = _child(case, place)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)  # never back into what the parent does
    return _Running(case, pid, around, time.monotonic(), resident)


def _child(case: Case, place: Place) -> int:
    """All that happens in the child; returns its exit code."""
    os.setsid()
    os.chdir(place.folder)
    _redirect(place.folder.parent)
    try:
        arguments = [str(argument) for argument in case.prepare(place)]
    except BaseException:
        traceback.print_exc()
        return BROKEN_CASE
    _limit(resource.RLIMIT_CPU, int(case.seconds))
    _limit(resource.RLIMIT_AS, int(_status("VmSize")) + ADDRESS_SPACE)
    return _main(arguments)


def _main(arguments: list[str]) -> int:
    """Call the command line as the interpreter would: an exception is printed, and so is a failure to write."""
    from tascnet.cli import main

    try:
        code = main(arguments)
        _flush()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        with contextlib.suppress(OSError):
            _flush()
    except BaseException:
        traceback.print_exc()
        code = UNCAUGHT
    with contextlib.suppress(OSError, ValueError):
        _flush()
    return code & 255


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _redirect(folder: Path) -> None:
    """Standard output and error go to files of the case, standard input is empty."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    warnings.resetwarnings()
    warnings.simplefilter("ignore", DeprecationWarning)


def _limit(what: int, value: int) -> None:
    """Set a soft limit, unless the case has set a lower one itself."""
    soft, hard = resource.getrlimit(what)
    if soft == resource.RLIM_INFINITY or value < soft:
        resource.setrlimit(what, (value, hard))


def _ended(child: _Running) -> tuple[int, bool, float] | None:
    """Exit code, whether it hung, and peak of its memory in MB; None while it runs in time."""
    late = time.monotonic() - child.started > child.case.seconds * CLOCK_FACTOR
    if late:
        _kill(child.pid)
    pid, status, usage = os.wait4(child.pid, 0 if late else os.WNOHANG)
    if pid == 0:
        return None
    _kill(child.pid)  # workers that outlived it
    code = os.waitstatus_to_exitcode(status)
    return code, late or code == -signal.SIGXCPU, usage.ru_maxrss / 1024 - child.resident


def _result(child: _Running, code: int, hung: bool, peak: float, world: Path) -> Result:
    out, err = ((child.around / name).read_bytes().decode(errors="replace") for name in ("stdout", "stderr"))
    strays = {path.name for path in child.around.iterdir()} - {"inside", "stdout", "stderr"}
    outcome = Outcome(code, out, err, child.around / "inside", world, hung, peak, tuple(sorted(strays)))
    judged = Judged(Verdict.BROKEN, err) if code == BROKEN_CASE else _judged(child.case, outcome)
    return Result(child.case, outcome, judged, time.monotonic() - child.started)


def _judged(case: Case, outcome: Outcome) -> Judged:
    """A result that its check cannot even read is wrong."""
    try:
        return judge(case, outcome)
    except (OSError, ValueError, LookupError, TypeError) as error:
        return Judged(Verdict.SILENT, f"the result cannot be read: {type(error).__name__}: {error}")


def _kill(pid: int) -> None:
    """End a child and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _status(key: str) -> float:
    """A size of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes: Mapping[str, str] = dict(line.split(":", 1) for line in lines)
    return int(sizes[key].split()[0]) * 1024


def _remove(folder: Path) -> None:
    """Remove the folder of a case, which may have taken away permissions."""
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            if not os.path.islink(os.path.join(parent, name)):
                os.chmod(os.path.join(parent, name), 0o700)
    shutil.rmtree(folder, ignore_errors=True)
