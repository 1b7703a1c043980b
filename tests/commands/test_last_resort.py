"""Errors that nothing has explained: one sentence, exit code 70 and a log file; never a traceback on the screen."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from said import Said

from tascnet import cli
from tascnet.errors import InputError, is_no_memory, sentence_of
from tascnet.files import atomic_folder, read_json, valid_text, write_json, write_text


def raising(error: BaseException) -> Callable[..., None]:
    def verb(*_: object, **__: object) -> None:
        raise error

    return verb


def replace_runs(monkeypatch: pytest.MonkeyPatch, run: Callable[..., None]) -> None:
    """Let `tascnet runs` do something else."""
    monkeypatch.setitem(cli.VERBS, "runs", replace(cli.VERBS["runs"], run=run))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "memory ran out"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: 8"),
            "memory ran",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), "memory ran out"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "memory ran out"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory ran out"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y.csv"), "cannot write /x/y.csv: No space left"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files. Raise the limit"),
        (OSError(errno.EBUSY, "Device or resource busy", "/x"), "cannot use /x: Device or resource busy"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (KeyError("a\nb"), "an unexpected error, KeyError: 'a\\nb'. This is a fault of the program"),
    ],
)
def test_one_sentence_and_a_log(
    tascnet: Callable[..., Said], own_logs: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
):
    replace_runs(monkeypatch, raising(error))
    said = tascnet("runs", "some where")
    assert (said.code, said.out) == (70, "")
    assert said.err.startswith("tascnet: error: ")
    assert said.err.count("\n") == 1
    assert words in said.err
    assert "Traceback" not in said.err
    (log,) = own_logs.iterdir()
    assert f"The details are in {log}." in said.err
    text = log.read_text()
    assert "command: tascnet runs 'some where'" in text
    assert f"{type(error).__name__}" in text
    assert "Traceback (most recent call last)" in text


def test_logs_do_not_pile_up_and_are_private(
    tascnet: Callable[..., Said], own_logs: Path, monkeypatch: pytest.MonkeyPatch
):
    replace_runs(monkeypatch, raising(ValueError("x")))
    for _ in range(23):
        assert tascnet("runs").code == 70
    assert len(list(own_logs.iterdir())) == 20
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in own_logs.iterdir())


def test_without_a_folder_of_ones_own_the_temporary_one_is_used(
    tascnet: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    replace_runs(monkeypatch, raising(ValueError("x")))
    said = tascnet("runs")
    (log,) = tmp_path.glob("*.log")
    assert f"The details are in {log}." in said.err


def test_terminal_codes_are_printed_as_escapes(tascnet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch):
    replace_runs(monkeypatch, raising(InputError("\x1b[2J\udcff.png cannot be read.")))
    assert tascnet("runs").err == "tascnet: error: \\x1b[2J\\udcff.png cannot be read.\n"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    program = f"'{sys.executable}' -m tascnet"
    return subprocess.run(
        ["bash", "-c", command.replace("tascnet", program)],
        capture_output=True,
        check=False,
        timeout=60,
        env=os.environ | environment,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", ["weights list", "--help", "predict --help"])
def test_a_full_standard_output_is_one_sentence(arguments: str):
    done = shell(f"tascnet {arguments} > /dev/full")
    assert done.returncode == 70
    assert done.stderr == (
        b"tascnet: error: standard output cannot be written: No space left on device. What was printed there is lost.\n"
    )


def test_a_reader_that_leaves_is_no_error():
    done = shell("tascnet weights list | head -c 10; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout) == 10


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "2> /dev/full"])
def test_closed_streams_do_no_harm(closed: str):
    assert shell(f"tascnet runs /nowhere/at-all {closed}").returncode == 2


def test_threads_finalizers_and_exit_leave_no_traceback(own_logs: Path):
    code = (
        "import atexit, dataclasses, sys, threading\n"
        "from tascnet import cli\n"
        "class Broken:\n"
        "    def __del__(self): {}['finalizer']\n"
        "def verb(options, command):\n"
        "    thread = threading.Thread(target=lambda: {}['thread']); thread.start(); thread.join()\n"
        "    Broken()\n"
        "atexit.register(lambda: {}['exit'])\n"
        "cli.VERBS['runs'] = dataclasses.replace(cli.VERBS['runs'], run=verb)\n"
        "sys.argv = ['tascnet', 'runs']\n"
        "sys.exit(cli.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("tascnet: warning: an error ") for line in lines)
    logged = "".join(path.read_text() for path in own_logs.iterdir())
    assert all(f"KeyError: '{where}'" in logged for where in ("thread", "finalizer", "exit"))


@pytest.mark.parametrize(
    "arguments",
    [["train", "--config", "PIPE"], ["train", "--config=PIPE"], ["data", "check", "PIPE"], ["info", "PIPE"]],
)
def test_a_named_pipe_does_not_hold_up_a_command(tascnet: Callable[..., Said], tmp_path: Path, arguments: list[str]):
    os.mkfifo(tmp_path / "a.yaml")
    said = tascnet(*(text.replace("PIPE", str(tmp_path / "a.yaml")) for text in arguments))
    assert said.code == 2
    assert "a.yaml is a named pipe" in said.err


def test_names_that_are_not_utf_8_can_be_given_on_the_command_line(tmp_path: Path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    done = subprocess.run(
        [sys.executable, "-m", "tascnet", "runs", folder], capture_output=True, check=False, timeout=60
    )
    assert b"Traceback" not in done.stderr
    assert b"caf\\udce9" in done.stdout + done.stderr
    assert done.returncode in (0, 2)


class TestFiles:
    def test_json_holds_no_lone_surrogate_and_other_text_stays(self, tmp_path: Path):
        value = {"a\udcff": ["\U0001f600", "\\udcff", "x\ud800", 1.5, None, ("t\udc80",)], "b": True}
        write_json(tmp_path / "a.json", value)
        expected = {"a\ufffd": ["\U0001f600", "\\udcff", "x\ufffd", 1.5, None, ["t\ufffd"]], "b": True}
        assert read_json(tmp_path / "a.json") == expected

    def test_text(self, tmp_path: Path):
        write_text(tmp_path / "a.md", "caf\udce9 \U0001f600")
        assert (tmp_path / "a.md").read_text(encoding="utf-8") == "caf\ufffd \U0001f600"
        assert valid_text("Straße") == "Straße"

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
    def test_a_full_disk_leaves_the_old_file_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ):
        write_text(tmp_path / "a.md", "old")
        error = OSError(number, os.strerror(number))
        monkeypatch.setattr(Path, "write_text", raising(error))
        with pytest.raises(
            InputError, match=rf"cannot write .*a\.md: {os.strerror(number)}\. Check permission and free space"
        ):
            write_text(tmp_path / "a.md", "new")
        with pytest.raises(InputError, match=r"cannot write .*folder"), atomic_folder(tmp_path / "folder"):
            raise error
        assert [path.name for path in tmp_path.iterdir()] == ["a.md"]
        assert (tmp_path / "a.md").read_text() == "old"

    def test_a_named_pipe_is_refused_at_once(self, tmp_path: Path):
        os.mkfifo(tmp_path / "a.json")
        with pytest.raises(InputError, match=r"a\.json is a named pipe; a file was expected"):
            read_json(tmp_path / "a.json")


def test_other_errors_are_not_called_a_lack_of_memory():
    assert not is_no_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_no_memory(ValueError("out of memory"))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG])
def test_what_the_user_may_not_read_is_bad_input(
    number: int, tascnet: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_logs: Path
):
    """A folder without permission, for instance: no fault of the program, and no log is needed."""

    def forbidden(*arguments: object) -> None:
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr("tascnet.commands.runs.print_runs", forbidden)
    said = tascnet("runs", str(tmp_path))
    assert said.code == 2
    reason = os.strerror(number)
    assert said.err == f"tascnet: error: cannot use some/file: {reason}. Check the path and its permissions.\n"
    assert not own_logs.exists()


def test_a_long_name_is_not_printed_whole():
    assert len(sentence_of(OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000))) < 400


class TestResourceTracker:
    """A process that is killed leaves shared memory behind; multiprocessing's tracker frees it, and warns."""

    CODE = (
        "import os, signal, sys\n"
        "from multiprocessing.shared_memory import SharedMemory\n"
        "from tascnet.commands.last_resort import watch_threads\n"
        "if sys.argv[1] == 'own': watch_threads([])\n"
        "memory = SharedMemory(create=True, size=8)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    def warnings(self, kind: str, **variables: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"} | variables
        command = [sys.executable, "-c", self.CODE, kind]
        done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60, env=environment)
        assert done.returncode == -signal.SIGKILL
        return done.stderr  # complete: the tracker, which has inherited it, has ended

    def test_is_silent_below_a_command(self):
        assert self.warnings("own") == ""

    def test_warns_below_other_programs(self):
        assert "leaked shared_memory" in self.warnings("other")

    def test_a_user_s_own_filter_counts(self):
        assert "leaked shared_memory" in self.warnings("own", PYTHONWARNINGS="default")
