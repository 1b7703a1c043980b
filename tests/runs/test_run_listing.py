"""tascnet runs: what became of each run in a folder."""

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from said import Said

from tascnet.commands.runs import print_runs
from tascnet.errors import InputError
from tascnet.runs.listing import Run, find_runs, read_run
from tascnet.runs.record import metrics_line
from tascnet.runs.state import State

Tascnet = Callable[..., Said]


def write_run(
    folder: Path,
    pqs: dict[int, float | None] | None = None,
    started: str = "2026-11-24T10:00:00+00:00",
    command: str = "tascnet train --config configs/small.yaml",
    finished: bool = True,
) -> Path:
    """A run of 40 steps that logged every tenth and spent half a second on each."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"command": command, "started": started}))
    (folder / "config.yaml").write_text(yaml.safe_dump({"training": {"steps": 40}}))
    lines = [metrics_line(step, {"loss/total": 1.0, "seconds": step / 2}) for step in (10, 20, 30)]
    lines += [metrics_line(step, {"val/pq": pq}) for step, pq in (pqs or {}).items()]
    (folder / "metrics.jsonl").write_text("".join(lines))
    if finished:
        (folder / "report.json").write_text("{}")
    return folder


def table(text: str) -> dict[str, list[str]]:
    """Name of a run -> words of its row."""
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("─")]
    return {row[0]: row[1:] for row in rows[1:]}


def test_all_that_is_known_of_a_run(tmp_path: Path):
    folder = write_run(tmp_path / "a", {20: 30.0, 30: 50.0, 40: 45.0})
    assert read_run(folder) == Run(
        name="a",
        path=str(folder),
        state=State.FINISHED,
        reason="",
        config="small",
        step=40,
        steps=40,
        best_pq=50.0,
        best_step=30,
        last_pq=45.0,
        started="2026-11-24T10:00:00+00:00",
        seconds=15.0,
        notes=(),
    )


def test_a_run_that_never_logged(tmp_path: Path):
    folder = write_run(tmp_path / "a", finished=False)
    (folder / "metrics.jsonl").unlink()
    run = read_run(folder)
    assert (run.state, run.step, run.best_pq, run.last_pq, run.seconds) == (State.INTERRUPTED, 0, None, None, None)


def test_a_pq_that_there_is_none_of(tmp_path: Path):
    run = read_run(write_run(tmp_path / "a", {20: 30.0, 40: None}))
    assert (run.best_pq, run.best_step, run.last_pq) == (30.0, 20, None)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("tascnet train --config configs/a.yaml --training.steps 3", "a"),
        ("tascnet train --config=a.yaml", "a"),
        ("tascnet train --config base.yaml --config 'my run.yaml'", "my run"),
        ("tascnet train --data.train.num_images 3", ""),
        ("tascnet demo --steps 3", "demo"),
        ("tascnet train --config", ""),
        ("an 'open quote", ""),
        ("", ""),
    ],
)
def test_the_name_of_the_config(tmp_path: Path, command: str, name: str):
    assert read_run(write_run(tmp_path / "a", command=command)).config == name


def test_a_real_run(tiny_run: Path):
    run = read_run(tiny_run)
    assert (run.state, run.step, run.steps, run.config, run.notes) == (State.FINISHED, 2, 2, "tiny", ())
    assert run.best_pq == run.last_pq == json.loads((tiny_run / "report.json").read_text())["pq"]["all"]
    assert run.seconds is not None
    assert run.seconds > 0


class TestAFolder:
    @pytest.fixture
    def runs(self, tmp_path: Path) -> Path:
        write_run(tmp_path / "b", {40: 20.0}, started="2026-11-24T10:00:00+00:00")
        write_run(tmp_path / "a", {40: 60.0}, started="2026-11-24T11:30:00+02:00")  # earlier: 9:30 in UTC
        write_run(tmp_path / "c", started="2026-11-24T10:00:01+00:00", finished=False)
        write_run(tmp_path / "d", {40: 40.0}, started="unknown")
        return tmp_path

    @pytest.mark.parametrize(("order", "names"), [("started", "cbad"), ("name", "abcd"), ("pq", "adbc")])
    def test_is_sorted(self, tascnet: Tascnet, runs: Path, order: str, names: str):
        said = tascnet("runs", runs, "--sort", order, "--json")
        assert "".join(run["name"] for run in json.loads(said.out)["runs"]) == names

    def test_as_a_table(self, tascnet: Tascnet, runs: Path):
        said = tascnet("runs", runs)
        assert said.code == 0
        assert table(said.out) == {
            "c": ["small", "interrupted", "30/40", "-", "-", "2026-11-24", "10:00", "0:00:15"],
            "b": ["small", "finished", "40/40", "20.0", "20.0", "2026-11-24", "10:00", "0:00:15"],
            "a": ["small", "finished", "40/40", "60.0", "60.0", "2026-11-24", "11:30", "0:00:15"],
            "d": ["small", "finished", "40/40", "40.0", "40.0", "unknown", "0:00:15"],
        }

    def test_names_are_whole_where_lines_go_to_a_file(self, tascnet: Tascnet, runs: Path):
        name = "a_name_" + "that_is_long_" * 12
        write_run(runs / name)
        assert name in tascnet("runs", runs).out

    def test_fits_a_terminal(self, runs: Path):
        write_run(runs / ("a_name_" + "that_is_long_" * 4))
        console = Console(file=StringIO(), force_terminal=True, width=80, color_system=None)
        print_runs(runs, "name", False, console)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert max(map(len, lines)) <= 80
        assert any("30/40" in line and "0:00:15" in line for line in lines)

    def test_what_is_no_run_is_named(self, tascnet: Tascnet, runs: Path):
        (runs / "photos").mkdir()
        (runs / ".hidden").mkdir()
        (runs / "file.txt").write_text("")
        (runs / "broken").mkdir()
        (runs / "broken" / "run.json").write_text('{"comm')
        (runs / "list").mkdir()
        (runs / "list" / "run.json").write_text("[]")
        said = tascnet("runs", runs, "--json")
        values = json.loads(said.out)
        assert said.code == 0
        assert [run["name"] for run in values["runs"]] == ["c", "b", "a", "d"]
        assert sorted(values["problems"]) == ["broken", "list", "photos"]
        text = tascnet("runs", runs).out
        assert f"photos: {runs}/photos is not a run folder: there is no run.json in it." in text
        assert "broken/run.json is not valid JSON" in text
        assert "list/run.json holds no facts of a run" in text

    def test_broken_files_of_a_run_are_notes(self, tascnet: Tascnet, runs: Path):
        (runs / "a" / "config.yaml").write_text("a: [")
        (runs / "b" / "state.json").write_text("{}")
        with (runs / "d" / "metrics.jsonl").open("a") as file:
            file.write('xx\n{"step": 50}\n{"step": 60, "l')
        text = tascnet("runs", runs).out
        rows = table(text)
        assert rows["a"][2] == "40/?"
        assert rows["b"][1] == "interrupted"
        assert rows["d"][2] == "50/40"
        assert "a/config.yaml is not valid YAML" in text
        assert "b/state.json is no state of a run" in text
        assert "d: lines of metrics.jsonl that cannot be read: 1" in text

    def test_what_interrupted_a_run_is_said(self, tascnet: Tascnet, runs: Path):
        values = {"state": "interrupted", "reason": "the photo [b] is broken", "host": "h", "process": 1}
        (runs / "c" / "state.json").write_text(json.dumps(values))
        assert "c: interrupted: the photo [b] is broken\n" in tascnet("runs", runs).out

    def test_one_run_alone(self, runs: Path):
        found, problems = find_runs(runs / "b")
        assert [run.name for run in found] == ["b"]
        assert problems == {}


def test_no_runs(tascnet: Tascnet, tmp_path: Path):
    assert tascnet("runs", tmp_path).out.startswith(f"{tmp_path} holds no runs.")
    assert json.loads(tascnet("runs", tmp_path, "--json").out) == {"runs": [], "problems": {}}


def test_runs_is_the_folder_if_none_is_given(tascnet: Tascnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    said = tascnet("runs")
    assert said.code == 2
    assert said.err == (
        "tascnet: error: runs cannot be read as a folder of runs: No such file or directory. "
        "Give the folder that runs are in, or train a first one: tascnet demo.\n"
    )
    write_run(tmp_path / "runs" / "x")
    assert list(table(tascnet("runs").out)) == ["x"]


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match="Not a directory"):
        find_runs(tmp_path / "a")


@pytest.mark.parametrize("name", ["run.json", "state.json", "config.yaml", "metrics.jsonl"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 50,
        bytes(range(256)),
        b"null",
        b"[]",
        b"7",
        b"{}",
        b"[" * 5000,
        b"9" * 5000,
        b'{"step": ' + b"9" * 400 + b', "val/pq": 1}\n{"step": 1, "val/pq": ' + b"9" * 400 + b"}\n",
        b'{"started": "0001-01-01T00:00:00+14:00", "command": ["\\ud800"], "training": {"steps": Infinity}}',
        b'{"state": "running", "host": "x", "process": Infinity, "reason": ""}',
        b"training: {steps: .inf}",
        None,
    ],
)
def test_one_damaged_run_does_not_hide_the_others(
    tiny_run: Path, tmp_path: Path, tascnet: Tascnet, name: str, content: bytes | None
):
    for run in ("damaged", "sound"):
        (tmp_path / run).mkdir()
        for file in ("run.json", "state.json", "config.yaml", "metrics.jsonl"):
            shutil.copy(tiny_run / file, tmp_path / run)
    damaged = tmp_path / "damaged" / name
    damaged.unlink()
    if content is None:
        damaged.mkdir()
    else:
        damaged.write_bytes(content)
    said = tascnet("runs", tmp_path)
    assert said.code == 0
    assert "sound" in said.out
    json.loads(tascnet("runs", tmp_path, "--json").out)


def test_control_characters_of_names_do_not_reach_the_terminal(tmp_path: Path):
    evil = "\x1b[31mred\x07\u202e"
    folder = write_run(tmp_path / evil, started=evil, command=f"tascnet train --config '{evil}.yaml'")
    assert read_run(folder).name == evil
    for as_json in (False, True):
        printed = StringIO()
        print_runs(tmp_path, "name", as_json, Console(file=printed, width=200))
        assert "red" in printed.getvalue()
        assert not set(printed.getvalue()) & set("\x1b\x07\u202e")
