"""Steps that are not applied: what is written, and what is said when they do not end."""

import json
import math
import re
from pathlib import Path

import pytest

from tascnet.training.guard import diagnosis, is_finite, write_bad_batch

FINE = {"rpn_cls": 1.0, "box": 2.0, "stuff": 3.0, "total": 6.0}


@pytest.mark.parametrize(
    ("change", "norm", "finite"),
    [({}, 1.0, True), ({"box": math.nan}, 1.0, False), ({"stuff": -math.inf}, 1.0, False), ({}, math.inf, False)],
)
def test_all_must_be_finite(change: dict[str, float], norm: float, finite: bool):
    assert is_finite(FINE | change, norm) is finite


def test_the_file_is_json_and_names_the_images(tmp_path: Path):
    losses = FINE | {"box": math.nan, "total": math.inf}
    batches = [{"images": ["a", "b"], "losses": {"box": "nan"}}]
    path = write_bad_batch(tmp_path / "bad_batches", 7, losses, math.nan, batches)

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    assert path.name == "step_000007.json"
    assert json.loads(path.read_text(), parse_constant=refuse) == {
        "step": 7,
        "losses": FINE | {"box": "nan", "total": "inf"},
        "gradient_norm": "nan",
        "batches": batches,
    }


@pytest.mark.parametrize(
    ("change", "norm", "cause"),
    [
        ({}, math.inf, r"losses are finite, but the norm of the gradients is inf: the learning rate \(0.02\)"),
        ({"box": math.nan, "total": math.nan}, math.nan, r"only box is not finite: boxes without width or height"),
        ({"box": math.nan, "stuff": math.nan}, math.nan, r"box, stuff are not finite: .*\(0.02\).*not normalised"),
    ],
)
def test_the_diagnosis(change: dict[str, float], norm: float, cause: str):
    said = str(diagnosis(FINE | change, norm, 0.02, Path("run/bad_batches")))
    assert said.startswith("the losses or gradients of 3 steps in a row were not finite")
    assert re.search(cause, said)
    assert "run/bad_batches" in said
