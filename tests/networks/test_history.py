"""What a run's folder knows of a checkpoint in it; only figures that were measured on that very checkpoint count."""

import json
import shutil
from pathlib import Path

import pytest

from tascnet.networks.checkpoint import load_checkpoint
from tascnet.networks.history import with_what_its_run_knows
from tascnet.networks.origin import Measured, Origin


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A run that the test changes."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def measured(run: Path, step: int = 2) -> Measured:
    return with_what_its_run_knows(load_checkpoint(run / f"checkpoints/step_{step:06d}")).measured


def test_origin_is_recorded_in_every_checkpoint(tiny_run: Path):
    facts = json.loads((tiny_run / "run.json").read_text())
    for step in (1, 2):
        assert load_checkpoint(tiny_run / f"checkpoints/step_{step:06d}").origin == Origin(
            weights=("backbone test_efficientnet: random weights",),
            data={"format": "streets", "num_images": 5, "height": 64, "width": 128},
            command="tascnet train --config tiny.yaml",
            started=facts["started"],
            tascnet=facts["tascnet"],
            git_commit=facts["git_commit"] or "",
        )


def test_the_report_is_about_the_last_checkpoint(run: Path):
    report = json.loads((run / "report.json").read_text())
    found = measured(run)
    assert found.figures["PQ things"] == report["pq"]["things"]
    assert found.figures["boundary PQ"] == report["boundary_pq"]["all"]
    assert found.pq_per_category == report["pq"]["per_category"]
    assert found.images == 2
    assert found.data == {"format": "streets", "num_images": 2, "first": 1000, "height": 64, "width": 128}
    assert measured(run, step=1) == Measured()  # nothing was measured after that step


def test_a_report_about_another_checkpoint_is_passed_over(run: Path):
    (run / "metrics.jsonl").write_text(
        '{"step": 2, "val/pq": 1.5, "val/pq_stuff": null, "val/ap": 0.5}\n{"step": 3, "val/pq": 9.0}\n'
    )
    found = measured(run)
    assert found.figures == {"PQ": 1.5, "AP": 0.5}
    assert (found.images, found.pq_per_category) == (0, {})


@pytest.mark.parametrize(
    "lines", [b'{"step": 2, "val/pq": 1.', b"\xff\xd8", b'"val/pq"', b'{"step": 1, "val/pq": 1.5}', b""]
)
def test_a_broken_log_measures_nothing(run: Path, lines: bytes):
    (run / "metrics.jsonl").write_bytes(lines)
    assert measured(run) == Measured()


def test_broken_files_of_the_run_do_not_stand_in_the_way(run: Path):
    log = (run / "metrics.jsonl").read_text()
    (run / "report.json").write_text("{")
    assert measured(run).figures["PQ"] == json.loads(log.splitlines()[-1])["val/pq"]
    (run / "metrics.jsonl").unlink()
    assert measured(run) == Measured()


def test_an_early_checkpoint_without_origin_takes_what_the_run_says(run: Path):
    file = run / "checkpoints/step_000002/checkpoint.json"
    facts = json.loads(file.read_text())
    wanted = load_checkpoint(run).origin
    del facts["origin"]
    file.write_text(json.dumps(facts))
    assert load_checkpoint(run).origin == Origin()
    assert with_what_its_run_knows(load_checkpoint(run)).origin == wanted
    (run / "run.json").write_text("5")
    origin = with_what_its_run_knows(load_checkpoint(run)).origin
    assert (origin.command, origin.weights) == ("", wanted.weights)


def test_outside_a_run_nothing_is_looked_for(run: Path, tmp_path: Path):
    shutil.copytree(run / "checkpoints/step_000002", tmp_path / "alone")
    checkpoint = load_checkpoint(tmp_path / "alone")
    assert with_what_its_run_knows(checkpoint) is checkpoint
