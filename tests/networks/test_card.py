"""The model card: a header that the hub's own reader reads, and Markdown that says what is known and no more."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tascnet.build import build_model
from tascnet.config import Config
from tascnet.networks.card import model_card
from tascnet.networks.network import Evaluation, Network, Origin
from tascnet.structures import Category, LabelSpace

SPACE = LabelSpace((Category(1, "car|van", True), Category(2, "dog_*", True), Category(3, "<sky>", False)))


@pytest.fixture(scope="module")
def unknown(tiny_config: Callable[[], Config]) -> Network:
    """A checkpoint of which nothing is known but what it must hold."""
    config = tiny_config()
    return Network(build_model(config, SPACE), config, SPACE)


@pytest.fixture(scope="module")
def known(unknown: Network) -> Network:
    origin = Origin(
        weights=("backbone b: ImageNet weights from timm",),
        data={"format": "coco", "root": "coco", "split": "train2017"},
        command="tascnet train --config `a`.yaml",
        started="2026-11-24T15:41:16+00:00",
        tascnet="0.1.0",
        git_commit="bf8244697e07",
    )
    evaluation = Evaluation(
        figures={"PQ": 41.26, "PQ things": 47.0, "AP": 30.999},
        data={"format": "coco", "root": "coco", "split": "val2017"},
        images=5000,
        pq_per_category={"car|van": 50.0, "<sky>": 32.51},
        notes=("Only the first 5000 of 5001 pictures were measured.",),
    )
    return replace(unknown, step=90000, seconds=7260.0, origin=origin, evaluation=evaluation)


def test_header_of_what_is_known(known: Network):
    card = ModelCard(model_card(known, "ann/cars", "apache-2.0"))
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "tascnet"
    assert card.data.pipeline_tag == "image-segmentation"
    assert "panoptic-segmentation" in card.data.tags
    assert card.data.datasets == ["coco"]
    assert card.data.model_name == "cars"
    results = {result.metric_name: result for result in card.data.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == {
        "PQ": 41.26,
        "PQ things": 47.0,
        "AP": 31.0,
    }
    assert results["PQ things"].metric_type == "pq_things"
    assert results["PQ"].dataset_name == "coco, root coco, split val2017"
    assert results["PQ"].task_type == "image-segmentation"


def test_header_of_what_is_not(unknown: Network):
    card = ModelCard(model_card(unknown, "folder"))
    assert card.data.license == "unknown"
    assert card.data.datasets is None
    assert card.data.eval_results is None
    assert card.data.pipeline_tag == "image-segmentation"


def test_text_of_what_is_known(known: Network):
    text = model_card(known, "ann/cars", "apache-2.0")
    for line in (
        "# cars",
        'predictor = Predictor.from_checkpoint("ann/cars")',
        "In percent, measured on 5000 pictures of: `coco, root coco, split val2017`.",
        "**Note: Only the first 5000 of 5001 pictures were measured.**",
        "| PQ | PQ things | AP |",
        "| 41.3 | 47.0 | 31.0 |",
        "| car\\|van | 50.0 |",
        "- first weights: backbone b: ImageNet weights from timm",
        "- data: `coco, root coco, split train2017`",
        "- command: `` tascnet train --config `a`.yaml ``",
        "- steps: 90000, in 121 minutes",
        "- tascnet: 0.1.0 (git bf8244697e07)",
        "- 2 things: car\\|van, dog\\_\\*",
        "- 1 stuff: \\<sky\\>",
        "apache-2.0",
    ):
        assert line in text.splitlines(), line


def test_text_of_what_is_not(unknown: Network):
    lines = model_card(unknown, "folder").splitlines()
    assert lines[lines.index("## Quality") + 2] == "Not measured."
    assert [line for line in lines if line.endswith(": unknown") and line.startswith("- ")] == [
        "- first weights: unknown",
        "- data: unknown",
        "- command: unknown",
        "- steps: unknown",
        "- started: unknown",
        "- tascnet: unknown",
    ]
    assert "The author has not said." in lines[-1]


@pytest.mark.parametrize("case", ["known", "unknown"])
def test_every_row_of_a_table_has_its_columns(case: str, request: pytest.FixtureRequest):
    text = model_card(request.getfixturevalue(case), "ann/cars")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert len(tables) == (2 if case == "known" else 0)
    for table in tables:
        assert len({row.replace("\\|", "").count("|") for row in table}) == 1
        assert set(table[1]) == set("| -")


def test_the_python_of_the_card_runs(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: Network):
    (code,) = [block.split("```")[0] for block in model_card(known, str(tiny_run)).split("```python\n")[1:]]
    monkeypatch.chdir(tmp_path)
    from PIL import Image

    Image.new("RGB", (90, 60)).save("photo.jpg")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["segmentation"].size == (60, 90)
