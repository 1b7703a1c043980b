"""Weights by name: the catalogue's facts, names and paths told apart, and the command line that uses them."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from loopback import CONTENT, SHA256, Server
from PIL import Image
from rich.console import Console
from said import Said
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_V2_Weights, MaskRCNN_ResNet50_FPN_Weights

from tascnet.commands.weights import print_known
from tascnet.errors import InputError
from tascnet.inference.predictor import Predictor
from tascnet.networks.foreign.catalog import (
    DEFAULT_NETWORK,
    KNOWN,
    NETWORK_SUFFIXES,
    KnownWeights,
    get,
    is_network,
    resolve,
)
from tascnet.networks.foreign.download import Digest
from tascnet.networks.network import Network, Origin
from tascnet.networks.opening import load_network

READER = "tascnet.networks.opening.read_foreign"
"""What reads a file that is not our own."""


def foreign(run: Path) -> Network:
    """The network of a run, as if it came from elsewhere."""
    return replace(load_network(run), origin=Origin(weights=("a file",)))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TASCNET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def tiny(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server, whose file is known as "tiny" and as the network that is taken where none is named."""
    known = KnownWeights(
        server.url, Digest("sha256", SHA256[:8]), 1, "a test", "bytes", "none", "none", pq=12.3, mask_ap=4.5
    )
    monkeypatch.setitem(KNOWN, "tiny", known)
    monkeypatch.setitem(KNOWN, DEFAULT_NETWORK, known)
    return server


def quiet() -> Console:
    return Console(file=StringIO(), width=80)


class TestCatalogue:
    def test_names_are_no_paths_and_files_are_weights(self) -> None:
        assert len(KNOWN) >= 7
        for name, known in KNOWN.items():
            assert re.fullmatch(r"[a-z0-9-]+", name)
            assert known.url.startswith("https://")
            assert Path(known.url).suffix in NETWORK_SUFFIXES
            assert known.pq is None or name.startswith("panoptic")

    def test_the_digest_is_the_one_in_the_files_name(self) -> None:
        published = {name: (known.digest.algorithm, known.digest.prefix) for name, known in KNOWN.items()}
        assert published["panoptic-fpn-r50-coco"] == ("md5", "c10459")
        assert published["torchvision-mask-rcnn-r50-coco"] == ("sha256", "bf2d0c1e")
        for name, (algorithm, prefix) in published.items():
            assert re.fullmatch(r"[0-9a-f]+", prefix), name
            assert len(prefix) == {"md5": 6, "sha256": 8}[algorithm]
            assert Path(KNOWN[name].url).stem.endswith(prefix)

    def test_figures_of_torchvision_are_torchvisions_own(self) -> None:
        for name, theirs in (
            ("torchvision-mask-rcnn-r50-coco", MaskRCNN_ResNet50_FPN_Weights.COCO_V1),
            ("torchvision-mask-rcnn-r50-v2-coco", MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1),
        ):
            assert KNOWN[name].url == theirs.url
            assert KNOWN[name].mask_ap == theirs.meta["_metrics"]["COCO-val2017"]["mask_map"]
            assert KNOWN[name].megabytes == round(theirs.meta["_file_size"] * 2**20 / 10**6)  # theirs are 2^20 bytes

    def test_figures_of_detectron2_are_those_of_its_model_zoo(self) -> None:
        assert {name: (known.pq, known.mask_ap) for name, known in KNOWN.items() if known.source == "detectron2"} == {
            "panoptic-fpn-r50-1x-coco": (39.4, 34.7),
            "panoptic-fpn-r50-coco": (41.5, 36.5),
            "panoptic-fpn-r101-coco": (43.0, 38.5),
            "mask-rcnn-r50-coco": (None, 37.2),
            "mask-rcnn-r101-coco": (None, 38.6),
        }

    def test_the_documentation_says_the_same(self) -> None:
        text = (Path(__file__).parents[3] / "docs" / "weights.md").read_text(encoding="utf-8")
        cells = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in text.splitlines()]
        rows = {row[0]: row for row in cells if len(row) == 7}
        for name, known in KNOWN.items():
            figures = ["-" if value is None else str(value) for value in (known.pq, known.mask_ap)]
            assert rows[name][3:6] == [str(known.megabytes), *figures]
            assert rows[name][1].startswith(known.source)
            assert rows[name][2] == known.categories

    def test_the_table_fits_a_terminal_and_marks_what_is_here(self, tiny: Server) -> None:
        get("tiny")
        console = quiet()
        print_known(console)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
        assert rows["panoptic-fpn-r101-coco"] == ["261", "43.0", "38.5"]
        assert rows["mask-rcnn-r50-coco"] == ["178", "-", "37.2"]
        assert rows["tiny"] == ["1", "12.3", "4.5", "yes"]
        assert "detectron2, COCO, 80 things + 53 stuff, CC BY-SA 3.0" in "\n".join(lines)  # on one line


class TestResolve:
    def test_paths_stay_as_they_are(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path(DEFAULT_NETWORK).mkdir()
        for path in ("runs/demo", "weights.pth", DEFAULT_NETWORK, tmp_path / "none"):
            assert resolve(path) == Path(path)

    def test_names_are_downloaded_once(self, tiny: Server, home: Path) -> None:
        for _ in range(2):
            path = resolve("tiny")
            assert path == home / "weights" / "tiny.bin"
            assert path.read_bytes() == CONTENT
        assert len(tiny.asked) == 1

    @pytest.mark.parametrize("name", ["panoptic-fpn-r50", "panoptic_fpn_r50_coco"])
    def test_near_names_are_given(self, name: str) -> None:
        with pytest.raises(
            InputError, match=rf"{name} does not exist.*near it are .*panoptic-fpn-r50-coco.*weights list"
        ):
            resolve(name)

    def test_what_is_far_from_all_names(self) -> None:
        with pytest.raises(InputError, match=r"nowhere does .*, and no known weights have that name\. Give a run"):
            resolve("nowhere")

    def test_what_names_a_network(self) -> None:
        assert all(map(is_network, [DEFAULT_NETWORK, "a.pkl", "b/c.PTH", "model.safetensors"]))
        assert not any(map(is_network, ["photo.jpg", "runs/demo", "photos"]))

    def test_python_takes_names_too(self, tiny: Server, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened: list[Path] = []
        monkeypatch.setattr(READER, lambda path: opened.append(path) or foreign(tiny_run))
        predictor = Predictor.from_checkpoint("tiny")
        assert len(predictor.label_space.categories) > 1
        assert [path.name for path in opened] == ["tiny.bin"]


class TestCommands:
    def test_get_prints_the_path_alone(self, tascnet: Callable[..., Said], tiny: Server, home: Path) -> None:
        tiny.break_after = [1000]
        said = tascnet("weights", "get", "tiny")
        assert said.code == 0
        assert said.out == f"{home / 'weights' / 'tiny.bin'}\n"
        assert "trying again" in said.err
        assert tascnet("weights", "get", "tiny").out == said.out
        assert len(tiny.asked) == 2

    def test_get_checks_what_is_there(self, tascnet: Callable[..., Said], tiny: Server, home: Path) -> None:
        (home / "weights").mkdir(parents=True)
        (home / "weights" / "tiny.bin").write_bytes(b"cut short")
        said = tascnet("weights", "get", "tiny")
        assert said.code == 2
        assert said.out == ""
        assert re.search(r"tiny\.bin is not the file of http.*Remove it, and get it again", said.err)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["weights", "get", "panoptic"], "near it are"),
            (["evaluate", "mask-rcnn-r5-coco"], "near it are mask-rcnn-r50-coco"),
            (["info", "mask-rcnn-r5-coco"], "near it are mask-rcnn-r50-coco"),
        ],
    )
    def test_unknown_names(self, tascnet: Callable[..., Said], arguments: list[str], message: str) -> None:
        said = tascnet(*arguments)
        assert said.code == 2
        assert message in said.err
        assert len(said.err.splitlines()) == 1

    @pytest.mark.parametrize("verb", ["evaluate", "info"])
    def test_known_names_are_downloaded(
        self, tascnet: Callable[..., Said], tiny: Server, home: Path, verb: str
    ) -> None:
        said = tascnet(verb, "tiny")
        assert said.code == 2  # what came is no network
        assert str(home / "weights" / "tiny.bin") in said.err
        assert len(tiny.asked) == 1

    def test_listing_loads_no_torch(self) -> None:
        code = (
            "import sys; from tascnet.cli import main; assert main(['weights', 'list']) == 0\n"
            "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'timm')))"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
        assert ended.returncode == 0, ended.stderr
        assert DEFAULT_NETWORK in ended.stdout


class TestPredict:
    @pytest.fixture
    def photo(self, tmp_path: Path) -> Path:
        pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photo.png")
        return tmp_path / "photo.png"

    @pytest.fixture
    def opened(self, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        """Paths of the networks that were opened; each is the one of a tiny run."""
        paths: list[Path] = []
        monkeypatch.setattr(READER, lambda path: paths.append(path) or foreign(tiny_run))
        return paths

    def test_known_weights_are_downloaded_once(
        self, tascnet: Callable[..., Said], tiny: Server, opened: list[Path], photo: Path, home: Path, tmp_path: Path
    ) -> None:
        tiny.break_after = [100_000]
        for _ in range(2):
            said = tascnet("predict", photo, "--weights", "tiny", "--output", tmp_path / "out")
            assert said.code == 0, said.err
            assert "photos: 1; overlays in" in said.out
        assert len(json.loads((tmp_path / "out" / "panoptic.json").read_text())["annotations"]) == 1
        assert opened == [home / "weights" / "tiny.bin"] * 2
        assert tiny.ranges_asked() == [None, "bytes=100000-"]

    def test_a_photo_is_looked_for_before_anything_is_downloaded(
        self, tascnet: Callable[..., Said], tiny: Server, tmp_path: Path
    ) -> None:
        said = tascnet("predict", tmp_path / "none.jpg", "--weights", "tiny", "--output", tmp_path / "out")
        assert said.code == 2
        assert "none.jpg does not exist" in said.err
        assert not tiny.asked

    def test_the_network_may_come_first(
        self,
        tascnet: Callable[..., Said],
        tiny: Server,
        opened: list[Path],
        photo: Path,
        tiny_run: Path,
        tmp_path: Path,
    ) -> None:
        (tmp_path / "weights.pth").write_bytes(b"")
        checkpoint = next((tiny_run / "checkpoints").glob("step_*"))
        for network in (tiny_run, checkpoint, tmp_path / "weights.pth", "tiny"):
            said = tascnet("predict", network, photo, "--output", tmp_path / "out")
            assert said.code == 0, said.err
        assert [path.name for path in opened] == ["weights.pth", "tiny.bin"]  # the others are of our own

    def test_where_no_network_is_named(
        self, tascnet: Callable[..., Said], tiny: Server, opened: list[Path], photo: Path, tmp_path: Path
    ) -> None:
        said = tascnet("predict", photo, "--output", tmp_path / "out")
        assert said.code == 2
        assert re.search(
            rf"no network is named: .*photo\.png holds no checkpoint, and {DEFAULT_NETWORK}.*has not been downloaded.*"
            rf"--weights.*tascnet weights get {DEFAULT_NETWORK} \(1 MB\)",
            said.err,
        )
        assert not tiny.asked
        assert not (tmp_path / "out").exists()
        assert tascnet("weights", "get", DEFAULT_NETWORK).code == 0
        said = tascnet("predict", photo, "--output", tmp_path / "out")
        assert said.code == 0, said.err
        assert said.out.startswith(f"no network is named; {DEFAULT_NETWORK} is taken\n")
        assert [path.stem for path in opened] == [DEFAULT_NETWORK]
        assert len(tiny.asked) == 1

    def test_what_is_said_of_mistakes(
        self, tascnet: Callable[..., Said], tiny_run: Path, photo: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(tiny_run / "pictures", tmp_path / "pictures")
        for arguments, message in (
            ((tiny_run,), f"{tiny_run} is a network, and no photos are named"),
            ((DEFAULT_NETWORK,), f"{DEFAULT_NETWORK} is a network, and no photos are named"),
            ((tmp_path / "rnus", photo), "rnus does not exist. Give a run folder"),
            (("mask-rcnn", photo), "mask-rcnn does not exist, and no known weights have that name; near it are"),
            (("rnus",), "rnus does not exist. Give a network and photos"),
            (("nowhere.jpg", photo), "nowhere.jpg does not exist. Give a network and photos"),
            ((tmp_path / "pictures", photo), "pictures holds no checkpoint"),
            ((tmp_path / "weights.pth", photo), "weights.pth does not exist"),
            ((photo, "--weights", "mask-rcnn"), "mask-rcnn does not exist, and no known weights have that name"),
            ((photo, "--weights", tmp_path / "nowhere"), "nowhere does not exist"),
        ):
            said = tascnet("predict", *arguments, "--output", tmp_path / "out")
            assert said.code == 2, arguments
            assert message in said.err
            assert len(said.err.splitlines()) == 1
            assert not (tmp_path / "out").exists()
