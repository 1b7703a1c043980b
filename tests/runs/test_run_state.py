"""Whether a run goes on: said by its process, or found out where that is gone."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tascnet.errors import InputError
from tascnet.runs import state as module
from tascnet.runs.state import SECONDS_UNTIL_LOST, RunState, State, keep_state, read_state


def write(folder: Path, **changes: object) -> Path:
    values = {"state": "running", "reason": "", "host": platform.node(), "process": os.getpid()} | changes
    (folder / "state.json").write_text(json.dumps(values))
    return folder / "state.json"


def test_running_then_finished(tmp_path: Path):
    with keep_state(tmp_path):
        assert read_state(tmp_path) == RunState(State.RUNNING)
    assert read_state(tmp_path) == RunState(State.FINISHED)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), "Ctrl-C"),
        (InputError("the photo a.png is broken. Copy it again."), "the photo a.png is broken. Copy it again."),
        (RuntimeError("out of\nmemory"), "RuntimeError out of memory"),
    ],
)
def test_what_interrupted_it(tmp_path: Path, error: BaseException, reason: str):
    with pytest.raises(type(error)), keep_state(tmp_path):
        raise error
    assert read_state(tmp_path) == RunState(State.INTERRUPTED, reason)


def test_it_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_SIGNS", 0.01)
    with keep_state(tmp_path):
        os.utime(tmp_path / "state.json", (0, 0))
        until = time.monotonic() + 10
        while (tmp_path / "state.json").stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert read_state(tmp_path).state == State.RUNNING
        (tmp_path / "state.json").unlink()  # someone tidies up; the training must not fail for it
        time.sleep(0.05)
    assert read_state(tmp_path).state == State.FINISHED


def test_a_full_disk_does_not_hide_what_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def train() -> None:
        with keep_state(tmp_path):
            monkeypatch.setattr(module, "write_json", full)
            raise ValueError("the true reason")

    with pytest.raises(ValueError, match="the true reason"):
        train()


class TestWithoutAWord:
    @pytest.mark.parametrize("host", ["", "another-machine"])
    @pytest.mark.parametrize(
        ("age", "state"), [(SECONDS_UNTIL_LOST - 1, State.RUNNING), (SECONDS_UNTIL_LOST + 1, State.INTERRUPTED)]
    )
    def test_no_sign_for_long(self, tmp_path: Path, host: str, age: float, state: State):
        path = write(tmp_path, host=host or platform.node())
        assert read_state(tmp_path, now=path.stat().st_mtime + age) == RunState(state)

    @pytest.mark.skipif(sys.platform == "win32", reason="processes of Windows cannot be asked")
    def test_a_killed_process_is_known_at_once(self, tmp_path: Path):
        code = (
            "import sys, time; from pathlib import Path; from tascnet.runs.state import keep_state\n"
            "with keep_state(Path(sys.argv[1])): print('on', flush=True); time.sleep(60)"
        )
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"on\n"
            assert read_state(tmp_path).state == State.RUNNING
        finally:
            process.kill()
            process.communicate()
        assert json.loads((tmp_path / "state.json").read_text())["state"] == "running"
        assert read_state(tmp_path).state == State.INTERRUPTED

    def test_processes_of_other_machines_are_not_looked_for_here(self, tmp_path: Path):
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        write(tmp_path, host="another-machine", process=gone.pid)
        assert read_state(tmp_path).state == State.RUNNING


class TestOfEarlierVersions:
    def test_a_report_ends_a_run(self, tmp_path: Path):
        assert read_state(tmp_path) == RunState(State.INTERRUPTED)
        (tmp_path / "report.json").write_text("{}")
        assert read_state(tmp_path) == RunState(State.FINISHED)

    def test_a_resumed_run_is_not_finished_for_its_old_report(self, tmp_path: Path):
        (tmp_path / "report.json").write_text("{}")
        with keep_state(tmp_path):
            assert read_state(tmp_path).state == State.RUNNING


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"state": "asleep", "reason": "", "host": "a", "process": 1}', '{"state": 1}']
)
def test_no_state(tmp_path: Path, text: str):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(InputError, match=r"state.json is no state of a run .*Delete it"):
        read_state(tmp_path)
