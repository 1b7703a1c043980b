"""What a network costs, printed for a config and for a checkpoint."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from tascnet import __version__
from tascnet.commands.info import print_info
from tascnet.errors import InputError
from tascnet.networks.network import Origin
from tascnet.networks.opening import load_network
from tascnet.networks.sharing import write_shared_file
from tascnet.settings import from_dict, read_config

CONFIG = {
    "data": {"train": {"num_images": 1}, "val": {"num_images": 1}},
    "model": {
        "backbone": {"name": "test_efficientnet", "weights": "random", "added_channels": 128},
        "pyramid_channels": 32,
        "stuff_head": {"channels": 32},
        "things_head": {"box_channels": 16, "mask_channels": 8, "mask_convs": 1},
    },
}
SIDES = (64, 128)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def printed(path: Path, num_stuff: int = 11, num_things: int = 8) -> str:
    console = Console(file=StringIO(), width=120)
    print_info(path, *SIDES, num_stuff, num_things, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def table(text: str) -> dict[str, list[str]]:
    rows = [line.strip("│").split("│") for line in text.splitlines() if line.startswith("│")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_of_a_config(config_file: Path):
    text = printed(config_file, num_stuff=3, num_things=2)
    assert "3 stuff + 2 thing categories, 64 x 128 pixels" in text
    rows = table(text)
    parts = [name for name in rows if name == "FPN" or name.startswith(("backbone", "stuff head", "things head"))]
    assert len(parts) == 6
    total = sum(float(rows[name][0]) for name in parts)
    assert float(rows["TASCNet"][0]) == pytest.approx(total, abs=0.04)
    # what they share, backbone and pyramid, the two networks have twice
    shared = sum(float(rows[name][0]) for name in ("backbone", "FPN"))
    assert float(rows["two networks"][0]) == pytest.approx(total + shared, abs=0.05)
    assert rows["two networks"][2] == "100% / 100%"


def test_more_categories_cost_more(config_file: Path):
    few, many = (table(printed(config_file, number, number)) for number in (2, 2000))
    assert float(few["TASCNet"][0]) < float(many["TASCNet"][0])
    assert few["backbone"] == many["backbone"]


def test_of_a_run_and_of_a_checkpoint(tiny_run: Path):
    label_space = load_network(tiny_run).label_space
    for path in (tiny_run, tiny_run / "checkpoints" / "step_000001"):
        text = printed(path)
        assert f"after {2 if path == tiny_run else 1} steps\n" in text
        assert f"{len(label_space.stuff)} stuff + {len(label_space.things)} thing categories" in text
        assert float(table(text)["TASCNet"][0]) > 0


def facts(text: str) -> dict[str, str]:
    """The lines about the past of a network: name -> text."""
    lines = [line for line in text.splitlines() if line.startswith("  ") and line[2] != " "]
    return {line[2:15].strip(): line[15:] for line in lines}


def test_the_past_of_a_checkpoint(tiny_run: Path):
    known = facts(printed(tiny_run))
    pq = json.loads((tiny_run / "report.json").read_text())["pq"]["all"]
    assert known["5 things"] == "person, car, truck, bicycle, traffic sign"
    assert known["5 stuff"] == "road, pavement, building, vegetation, sky"
    assert known["measured"].startswith(f"PQ {pq:.1f}, PQ things ")
    assert known["measured"].endswith("on 2 pictures of streets, num_images 2, first 1000, height 64, width 128")
    assert known["weights from"] == "backbone test_efficientnet: random weights"
    assert known["trained on"] == "streets, num_images 5, height 64, width 128"
    assert known["command"] == "tascnet train --config tiny.yaml"
    assert known["started"].startswith("20")
    assert known["tascnet"].startswith(__version__)
    assert known["input"] == "red, green, blue of 0-255, less 123.7 116.3 103.5, divided by 58.4 57.12 57.38"
    assert facts(printed(tiny_run / "checkpoints" / "step_000001"))["measured"] == "unknown"


def test_of_a_file_whose_past_is_not_known(tiny_run: Path, tmp_path: Path):
    alone = replace(load_network(tiny_run), origin=Origin())
    write_shared_file(alone, tmp_path / "a.safetensors", "float32")
    text = printed(tmp_path / "a.safetensors")
    assert text.startswith(f"{tmp_path / 'a.safetensors'}: after 2 steps\n")
    unknown = {name for name, told in facts(text).items() if told == "unknown"}
    assert unknown == {"measured", "weights from", "trained on", "command", "started", "tascnet"}
    assert table(text) == table(printed(tiny_run))


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"\xff\xd8\xff", "a.yaml is not valid YAML"),
        (b"a: [1", "a.yaml is not valid YAML"),
        (b"- 1", "a.yaml holds no settings"),
        (b"", "a.yaml holds no settings"),
        (b"modle: {}", "a.yaml: .*modle"),
        (b"training: {steps: many}", r"a.yaml: .*training\.steps"),
        (b"training: {steps: 0}", r"a.yaml: training\.steps is 0"),
    ],
)
def test_what_is_no_config(config_file: Path, content: bytes, finding: str):
    config_file.write_bytes(content)
    with pytest.raises(InputError, match=finding):
        read_config(config_file)


def test_a_config_is_read(config_file: Path):
    assert read_config(config_file) == from_dict(CONFIG)


def test_missing(tmp_path: Path):
    with pytest.raises(InputError, match=r"a.yaml does not exist\. Check the path"):
        printed(tmp_path / "a.yaml")
    with pytest.raises(InputError, match="holds no checkpoint"):
        printed(tmp_path)


@pytest.mark.parametrize(("stuff", "things"), [(0, 1), (1, 0)])
def test_no_categories(config_file: Path, stuff: int, things: int):
    with pytest.raises(InputError, match="stuff and things must be at least 1"):
        printed(config_file, stuff, things)


@pytest.mark.parametrize(("height", "width"), [(10**9, 10**9), (100_001, 8), (8, 2**70)])
def test_sizes_that_cannot_be_counted(config_file: Path, height: int, width: int):
    with pytest.raises(InputError, match="pixels is too large; height and width are up to 100,000"):
        print_info(config_file, height, width, 11, 8, Console(quiet=True))
