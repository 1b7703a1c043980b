"""A damaged file beside the newest checkpoint: the one before is taken, whatever the damage."""

import json
import os
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from tascnet.commands.console import ConsoleObserver
from tascnet.errors import InputError
from tascnet.files import UNFINISHED
from tascnet.networks.opening import load_network
from tascnet.training import resume
from tascnet.training.run import _newest_usable
from tascnet.training.state import Progress, save_checkpoint

TEXT_FILES = ("config.yaml", "checkpoint.json", "training.json")

DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "utf-16 without a mark": lambda path: path.write_text(path.read_text(), encoding="utf-16-le"),
    "null": lambda path: path.write_text("null"),
    "a list": lambda path: path.write_text("[1, 2]"),
    "a number": lambda path: path.write_text("7"),
    "a text": lambda path: path.write_text('"text"'),
    "an empty object": lambda path: path.write_text("{}"),
    "nested without end": lambda path: path.write_text("[" * 5000),
    "a huge number": lambda path: path.write_text("9" * 5000),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nothing")),
}
VALUES = (None, [], {}, "x", -1, float("nan"), float("inf"), 10**400, True, [[]], {"a": None})
"""What a value of the wrong kind may be."""


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


def taken(run: Path) -> str:
    """The checkpoint that a resumed run would go on from."""
    console = Console(file=StringIO(), width=10_000)
    newest = max((run / "checkpoints").glob("step_*"))
    checkpoint, saved = _newest_usable(run, ConsoleObserver(console))
    assert checkpoint.step == saved.progress.step
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("a checkpoint is not usable" in shown) is (checkpoint.path != newest)
    return checkpoint.path.name


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", TEXT_FILES)
def test_a_damaged_text_file(run: Path, name: str, damage: str):
    DAMAGES[damage](run / "checkpoints" / "step_000002" / name)
    assert taken(run) == "step_000001"


def paths(values: object, path: tuple = ()) -> list[tuple]:
    """The places of all values in an object."""
    if not isinstance(values, dict):
        return []
    return [place for name, value in values.items() for place in ((*path, name), *paths(value, (*path, name)))]


def changed(values: dict, path: tuple, value: object) -> dict:
    values = json.loads(json.dumps(values))
    inner = values
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return values


@pytest.mark.parametrize("name", ["checkpoint.json", "training.json"])
def test_a_value_of_the_wrong_kind(run: Path, name: str):
    """It is refused by a sentence, or does no harm; never by another error."""
    shutil.rmtree(run / "checkpoints" / "step_000001")
    file = run / "checkpoints" / "step_000002" / name
    values = json.loads(file.read_text())
    refused = []
    for path in paths(values):
        for value in VALUES:
            file.write_text(json.dumps(changed(values, path, value)))
            try:
                _newest_usable(run)
            except InputError as error:
                refused.append(str(error))
    assert len(refused) > 20
    assert [message for message in refused if str(file.parent) not in message] == []


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("setting", ["training", "steps", "data"])
def test_a_setting_of_the_wrong_kind(run: Path, setting: str, value: object):
    file = run / "checkpoints" / "step_000002" / "config.yaml"
    values = yaml.safe_load(file.read_text())
    if setting == "steps":
        values["training"]["steps"] = value
    else:
        values[setting] = value
    file.write_text(yaml.safe_dump(values))
    if value in ({}, True) and not isinstance(value, float):
        return  # a group of defaults; and 1, as Python sees it
    assert taken(run) == "step_000001"


def test_a_checkpoint_that_is_a_link(run: Path, tmp_path: Path):
    """The newest one was moved to another disk; more checkpoints follow, and it grows old."""
    newest = run / "checkpoints" / "step_000002"
    shutil.move(newest, tmp_path / "elsewhere")
    newest.symlink_to(tmp_path / "elsewhere")
    (run / "checkpoints" / "step_000003").symlink_to("nowhere")
    assert taken(run) == "step_000002"
    resume(run)
    assert (tmp_path / "elsewhere" / "checkpoint.json").exists()


def test_an_old_link_is_removed_and_not_what_it_leads_to(run: Path, tmp_path: Path):
    checkpoints = run / "checkpoints"
    shutil.move(checkpoints / "step_000001", tmp_path / "elsewhere")
    (checkpoints / "step_000001").symlink_to(tmp_path / "elsewhere")
    (checkpoints / f"{UNFINISHED}link").symlink_to(tmp_path / "elsewhere")
    found = load_network(run)
    weights = found.model.state_dict()
    save_checkpoint(checkpoints, weights, {}, found.config, found.label_space, Progress(3, 1.0))
    names = sorted(path.name for path in checkpoints.glob("step_*"))
    assert names == ["step_000002", "step_000003"]
    assert not os.path.lexists(checkpoints / "step_000001")
    assert (tmp_path / "elsewhere" / "model.safetensors").exists()
