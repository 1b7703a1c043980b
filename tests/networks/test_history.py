"""What a run's folder knows of a checkpoint in it; only figures that were measured on that very checkpoint count."""

import json
import shutil
from pathlib import Path

import pytest

from tascnet.networks.network import Evaluation, Origin
from tascnet.networks.opening import fill_from_run, load_network, open_network


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A run that the test changes."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def measured(run: Path, step: int = 2) -> Evaluation:
    return fill_from_run(load_network(run / f"checkpoints/step_{step:06d}")).evaluation


def test_origin_is_recorded_in_every_checkpoint(tiny_run: Path):
    facts = json.loads((tiny_run / "run.json").read_text())
    for step in (1, 2):
        assert load_network(tiny_run / f"checkpoints/step_{step:06d}").origin == Origin(
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
    assert measured(run, step=1) == Evaluation()  # nothing was measured after that step


def change_report(run: Path, **changes: object) -> None:
    """Change entries of the run's report; None removes one."""
    report = json.loads((run / "report.json").read_text()) | changes
    (run / "report.json").write_text(json.dumps({name: value for name, value in report.items() if value is not None}))


@pytest.mark.parametrize("step", [1, 3, None, "2", True])
def test_a_report_about_another_checkpoint_is_passed_over(run: Path, step: object):
    change_report(run, step=step)  # None: those of early versions name no step
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
    (run / "report.json").unlink()
    assert measured(run) == Evaluation()


def test_a_report_needs_no_log(run: Path):
    wanted = measured(run)
    (run / "metrics.jsonl").unlink()
    assert measured(run) == wanted != Evaluation()


def test_the_last_of_several_validations_at_a_step_counts(run: Path):
    (run / "report.json").unlink()
    (run / "metrics.jsonl").write_text(
        '{"step": 2, "val/pq": 1.5, "val_ema/pq": 7.0}\n{"step": 2, "val/pq": 2.5}\n{"step": 2, "lr": 1.0}\n'
    )
    assert measured(run).figures == {"PQ": 2.5}
    assert open_network(run, use="newest").evaluation.figures == {"PQ": 2.5}


def test_broken_files_of_the_run_do_not_stand_in_the_way(run: Path):
    log = (run / "metrics.jsonl").read_text()
    (run / "report.json").write_text("{")
    assert measured(run).figures["PQ"] == json.loads(log.splitlines()[-1])["val/pq"]
    (run / "metrics.jsonl").unlink()
    assert measured(run) == Evaluation()


def test_an_early_checkpoint_without_origin_takes_what_the_run_says(run: Path):
    file = run / "checkpoints/step_000002/checkpoint.json"
    facts = json.loads(file.read_text())
    wanted = load_network(run).origin
    del facts["origin"]
    file.write_text(json.dumps(facts))
    assert load_network(run).origin == Origin()
    assert fill_from_run(load_network(run)).origin == wanted
    (run / "run.json").write_text("5")
    origin = fill_from_run(load_network(run)).origin
    assert (origin.command, origin.weights) == ("", wanted.weights)


def test_outside_a_run_nothing_is_looked_for(run: Path, tmp_path: Path):
    shutil.copytree(run / "checkpoints/step_000002", tmp_path / "alone")
    checkpoint = load_network(tmp_path / "alone")
    assert fill_from_run(checkpoint) is checkpoint
