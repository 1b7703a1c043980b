"""The command line as a user meets it: it works, or it says in a sentence what is wrong and exits with code 2."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from said import Said

from tascnet import cli, training
from tascnet.commands import demo
from tascnet.config import Config
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.settings import to_dict

VERBS = ["demo", "train", "runs", "plot", "evaluate", "metrics", "predict", "triage", "share", "info"]

EVALUATION_FILES = ["best.png", "report.json", "report.md", "worst.png"]


@pytest.fixture
def config_file(tiny_config: Callable[[], Config], tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(to_dict(tiny_config())))
    return path


def change(path: Path, *keys: str, value: object) -> Path:
    """Change one value of a YAML or JSON file."""
    content = yaml.safe_load(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(yaml.safe_dump(content) if path.suffix == ".yaml" else json.dumps(content))
    return path


def assert_refused(said: Said, *words: str, nothing_in: Path | None = None) -> None:
    """Code 2; one line that holds all the words, and asks for something to be done; no file left behind."""
    assert said.code == 2, said
    assert said.out == ""
    assert said.err.startswith("tascnet: error: ")
    assert said.err.count("\n") == 1
    assert said.err.rstrip().endswith(".")
    for word in words:
        assert word in said.err
    if nothing_in is not None:
        assert [path for path in nothing_in.rglob("*") if path.is_file()] == []


class TestHelp:
    @pytest.mark.parametrize("verb", VERBS)
    def test_every_option_is_described(self, tascnet: Callable[..., Said], verb: str):
        said = tascnet(verb, "--help")
        assert said.code == 0
        parser = cli.VERBS[verb].parser()
        for action in parser._actions:
            name = action.option_strings[0] if action.option_strings else str(action.metavar or action.dest)
            assert name in said.out
            assert action.help, f"{verb} {name} has no description"

    def test_every_verb_is_listed(self, tascnet: Callable[..., Said]):
        said = tascnet("--help")
        assert said.code == 0
        assert all(verb in said.out for verb in VERBS)

    @pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["predict", "nowhere"]])
    def test_torch_is_not_loaded_for_it(self, arguments: list[str]):
        code = (
            "import sys; from tascnet.cli import main\n"
            "try: main(sys.argv[1:])\n"
            "except SystemExit: pass\n"
            "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'rich')))"
        )
        assert (
            subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=False).returncode == 0
        )

    @pytest.mark.parametrize("arguments", [[], ["tain"], ["predict", "run"], ["info"], ["train", "--outptu", "x"]])
    def test_what_cannot_be_parsed(self, tascnet: Callable[..., Said], arguments: list[str]):
        said = tascnet(*arguments)
        assert said.code == 2
        assert "Traceback" not in said.err
        assert "error:" in said.err
        assert len(said.err.splitlines()) < 10  # not a screen of all options


class TestTrain:
    def test_a_misspelt_group_with_nothing_in_it_is_named(self, tascnet: Callable[..., Said], tmp_path: Path):
        config = tmp_path / "run.yaml"
        config.write_text("data:\n  trian: {}\n")
        assert_refused(tascnet("train", "--config", config, "--output", tmp_path / "out"), "run.yaml", "data.trian")
        assert not (tmp_path / "out").exists()

    def test_the_printed_config_is_read_again(
        self, tascnet: Callable[..., Said], config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        asked = []
        monkeypatch.setattr("tascnet.training.train", lambda config, *given: asked.append(config) or 1 / 0)
        flags = ("--devices", 3, "--training.seed", 7, "--init", "a run")
        assert tascnet("train", "--config", config_file, *flags).code == 70
        printed = tmp_path / "printed.yaml"
        printed.write_text(tascnet("train", "--config", config_file, *flags, "--print_config").out)
        assert tascnet("train", "--config", printed).code == 70
        assert asked[0] == asked[1]
        assert (asked[0].training.devices, asked[0].training.seed, asked[0].training.init) == (3, 7, "a run")
        for other in (("info", printed), ("data", "augment", printed, "--output", tmp_path / "a.png", "--samples", 1)):
            said = tascnet(*other)
            assert said.code == 0, said.err

    def test_the_config_of_a_run_of_before_is_read_by_all(
        self, tascnet: Callable[..., Said], config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        asked = []
        monkeypatch.setattr("tascnet.training.train", lambda config, *given: asked.append(config) or 1 / 0)
        values = yaml.safe_load(config_file.read_text())
        values.setdefault("data", {}).setdefault("input", {})["resize_with"] = "torchvision"
        values.setdefault("loss", {})["tasc_distance"] = "squared"
        before = tmp_path / "of_before.yaml"
        before.write_text(yaml.safe_dump(values))
        assert tascnet("train", "--config", config_file).code == 70
        assert tascnet("train", "--config", before, "--training.seed", 0).code == 70
        assert asked[0] == asked[1]
        for other in (("info", before), ("data", "augment", before, "--output", tmp_path / "a.png", "--samples", 1)):
            said = tascnet(*other)
            assert said.code == 0, said.err

    def test_a_config_changed_by_flags_then_resumed(
        self, tascnet: Callable[..., Said], config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.chdir(tmp_path)
        said = tascnet("train", "--config", "tiny.yaml", "--training.steps", 1, "--data.val.num_images=1")
        assert said.code == 0, said.err
        assert said.err == ""
        (run,) = (tmp_path / "runs").iterdir()
        assert run.name.startswith("tiny-20")
        assert said.out.endswith(f"are in runs/{run.name}\n")
        assert "boundary" in said.out
        assert json.loads((run / "report.json").read_text())["images"] == 1
        assert json.loads((run / "run.json").read_text())["command"] == (
            "tascnet train --config tiny.yaml --training.steps 1 --data.val.num_images=1"
        )
        assert tascnet("train", "--resume", run).code == 0
        assert_refused(tascnet("train", "--config", "tiny.yaml", "--output", run), str(run), "--resume")

    @pytest.mark.parametrize(
        ("keys", "value", "named"),
        [
            (("data", "train", "num_imags"), 4, "data.train.num_imags"),
            (("training", "steps"), "many", "training.steps"),
            (("optimizer", "name"), "adam", "optimizer.name"),
            (("data", "input", "scale_jitter"), [1], "scale_jitter"),
            (("loss",), {"tasc": {}}, "loss.tasc"),
        ],
    )
    def test_a_typo_or_a_wrong_type_in_the_config(
        self, tascnet: Callable[..., Said], config_file: Path, tmp_path: Path, keys: tuple[str, ...], value, named: str
    ):
        change(config_file, *keys, value=value)
        said = tascnet("train", "--config", config_file, "--output", tmp_path / "run")
        assert said.code == 2
        assert named in said.err
        assert "Traceback" not in said.err
        assert len(said.err.splitlines()) < 10
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("keys", "value", "named"),
        [
            (("training", "steps"), 0, "training.steps is 0"),
            (("training", "steps"), None, "training.steps is empty"),
            (("loss",), None, "loss is empty"),
            (("model",), [1], "model is [1]"),
            (("data", "val", "height"), 5, "5 x 128"),
            (("model", "backbone", "name"), "resnet51", "resnet51"),
        ],
    )
    def test_an_impossible_value_in_the_config(
        self, tascnet: Callable[..., Said], config_file: Path, tmp_path: Path, keys: tuple[str, ...], value, named: str
    ):
        change(config_file, *keys, value=value)
        assert_refused(tascnet("train", "--config", config_file, "--output", tmp_path / "run"), named)
        assert not (tmp_path / "run").exists()

    def test_a_config_that_is_not_there(self, tascnet: Callable[..., Said], tmp_path: Path):
        said = tascnet("train", "--config", tmp_path / "none.yaml")
        assert said.code == 2
        assert "none.yaml" in said.err
        assert "Traceback" not in said.err

    def test_no_data_at_all(self, tascnet: Callable[..., Said]):
        assert_refused(tascnet("train"), "format streets and needs data.train.num_images; give it")

    def test_a_data_set_that_is_not_there(self, tascnet: Callable[..., Said], config_file: Path, tmp_path: Path):
        flags = ["--data.train.format", "coco", "--data.train.root", tmp_path / "none", "--data.train.split", "train"]
        said = tascnet("train", "--config", config_file, "--output", tmp_path / "run", *flags)
        assert_refused(said, "none/annotations/panoptic_train.json does not exist")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("arguments", [["--resume", "nowhere"], ["--resume", "."]])
    def test_nothing_to_resume(self, tascnet: Callable[..., Said], tmp_path: Path, monkeypatch, arguments: list[str]):
        monkeypatch.chdir(tmp_path)
        assert_refused(tascnet("train", *arguments), "is not a run folder", nothing_in=tmp_path)

    def test_a_folder_that_cannot_be_made(self, tascnet: Callable[..., Said], config_file: Path):
        assert_refused(tascnet("train", "--config", config_file, "--output", config_file / "run"), "tiny.yaml/run")

    def test_interrupted(self, tascnet: Callable[..., Said], config_file: Path, monkeypatch: pytest.MonkeyPatch):
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(training, "train", interrupted)
        assert tascnet("train", "--config", config_file) == Said(130, "", "tascnet: interrupted\n")


class TestDataSet:
    """A COCO panoptic data set, broken in one way after the other, and evaluated."""

    @pytest.fixture
    def root(self, tiny_coco: Path, tmp_path: Path) -> Path:
        shutil.copytree(tiny_coco, tmp_path / "coco")
        return tmp_path / "coco"

    @pytest.fixture
    def evaluate(self, tascnet: Callable[..., Said], tiny_run: Path, root: Path, tmp_path: Path) -> Callable[[], Said]:
        flags = ["--data.format", "coco", "--data.root", root, "--data.split", "mini", "--on_bad_sample", "fail"]
        return lambda: tascnet("evaluate", tiny_run, "--output", tmp_path / "out", *flags)

    @staticmethod
    def json_of(root: Path) -> Path:
        return root / "annotations" / "panoptic_mini.json"

    @staticmethod
    def first(folder: Path) -> Path:
        return sorted(folder.glob("*.png"))[0]

    def test_whole(self, evaluate: Callable[[], Said], tmp_path: Path):
        said = evaluate()
        assert said.code == 0, said.err
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == EVALUATION_FILES

    def test_a_photo_is_missing(self, evaluate: Callable[[], Said], root: Path, tmp_path: Path):
        photo = self.first(root / "mini")
        photo.unlink()
        assert_refused(evaluate(), str(photo), "does not exist", nothing_in=tmp_path / "out")

    def test_a_photo_is_cut_short(self, evaluate: Callable[[], Said], root: Path, tmp_path: Path):
        photo = self.first(root / "mini")
        photo.write_bytes(photo.read_bytes()[:-3000])
        assert_refused(evaluate(), str(photo), "cut short", "again", nothing_in=tmp_path / "out")

    def test_an_id_of_the_png_is_not_in_the_json(self, evaluate: Callable[[], Said], root: Path, tmp_path: Path):
        segments = json.loads(self.json_of(root).read_text())["annotations"][0]["segments_info"]
        change(self.json_of(root), "annotations", 0, "segments_info", value=segments[1:])
        assert_refused(
            evaluate(), "panoptic_mini.json", str(segments[0]["id"]), "have no segment", nothing_in=tmp_path / "out"
        )

    def test_an_area_that_differs_from_the_png_does_no_harm(self, evaluate: Callable[[], Said], root: Path):
        change(self.json_of(root), "annotations", 0, "segments_info", 0, "area", value=5)
        assert evaluate().code == 0  # official tools write areas of polygons; the pixels count

    def test_the_png_has_another_size(self, evaluate: Callable[[], Said], root: Path, tmp_path: Path):
        png = self.first(root / "annotations" / "panoptic_mini")
        with Image.open(png) as picture:
            cut = picture.crop((0, 0, 100, 60))
        cut.save(png)
        assert_refused(evaluate(), str(png), "60 x 100", "64 x 128", nothing_in=tmp_path / "out")

    def test_a_segment_of_an_unknown_category(self, evaluate: Callable[[], Said], root: Path, tmp_path: Path):
        change(self.json_of(root), "annotations", 0, "segments_info", 0, "category_id", value=77)
        assert_refused(evaluate(), "panoptic_mini.json", "category 77", nothing_in=tmp_path / "out")

    def test_no_annotations(self, evaluate: Callable[[], Said], root: Path, tmp_path: Path):
        change(self.json_of(root), "annotations", value=[])
        assert_refused(evaluate(), "panoptic_mini.json", "no annotations", nothing_in=tmp_path / "out")

    def test_the_json_is_cut_short(self, evaluate: Callable[[], Said], root: Path, tmp_path: Path):
        content = self.json_of(root).read_bytes()
        self.json_of(root).write_bytes(content[: len(content) // 2])
        assert_refused(evaluate(), "panoptic_mini.json", "cut short", nothing_in=tmp_path / "out")

    def test_other_categories_than_the_checkpoint_s(self, evaluate: Callable[[], Said], root: Path, tmp_path: Path):
        change(self.json_of(root), "categories", 0, "name", value="canal")
        assert_refused(evaluate(), "step_000002", "'canal'", "same categories", nothing_in=tmp_path / "out")

    def test_more_pictures_asked_for_than_there_are(self, tascnet: Callable[..., Said], tiny_run: Path, root: Path):
        flags = ["--data.format", "coco", "--data.root", root, "--data.split", "mini", "--data.num_images", 4]
        assert_refused(tascnet("evaluate", tiny_run, *flags), "num_images is 4", "3 images")


class TestEvaluate:
    def test_settings_are_checked(self, tascnet: Callable[..., Said], tiny_run: Path, tmp_path: Path):
        out = tmp_path / "out"
        call = ["evaluate", tiny_run, "--output", out]
        assert_refused(tascnet(*call, "--fusion.score_threshold", 7), "score_threshold is 7", nothing_in=out)
        assert_refused(tascnet(*call, "--data.format", "coco"), "data.root and data.split", nothing_in=out)
        assert_refused(tascnet(*call, "--device", "tpu"), "'tpu' is not available", nothing_in=out)
        assert tascnet(*call, "--fusion.method", "none").code == 2
        assert tascnet(*call, "--data.pictures", "5").code == 2

    def test_a_share_of_stuff_takes_the_place_of_the_run_s_pixels(
        self, tascnet: Callable[..., Said], tiny_run: Path, tmp_path: Path
    ):
        """The run has 16 pixels. No stuff fills a whole image; with an area of 0 pixels, given too, all of it stays."""
        dropped = []
        for number, area in enumerate([[], ["--fusion.min_stuff_area", 0]]):
            out = tmp_path / str(number)
            flags = ["--output", out, "--data.num_images", 1, "--fusion.unclaimed", "stuff"]
            said = tascnet("evaluate", tiny_run, *flags, "--fusion.min_stuff_share", 1, *area)
            assert said.code == 0, said.err
            dropped.append(json.loads((out / "report.json").read_text())["dropped_by_fusion"]["small_stuff"])
        assert dropped[0] > 0
        assert dropped[1] == 0

    def test_what_is_no_checkpoint(self, tascnet: Callable[..., Said], tmp_path: Path):
        assert_refused(tascnet("evaluate", tmp_path), "holds no checkpoint")
        assert_refused(tascnet("evaluate", tmp_path / "none"), "does not exist")

    def test_a_broken_checkpoint(self, tascnet: Callable[..., Said], tiny_run: Path, tmp_path: Path):
        shutil.copytree(tiny_run, tmp_path / "run")
        weights = tmp_path / "run" / "checkpoints" / "step_000002" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        assert_refused(tascnet("evaluate", tmp_path / "run"), str(weights), "cut short")
        assert not (tmp_path / "run" / "evaluation").exists()

    def test_a_folder_that_cannot_be_made(self, tascnet: Callable[..., Said], tiny_run: Path):
        out = tiny_run / "run.json" / "out"
        assert_refused(tascnet("evaluate", tiny_run, "--output", out), str(out), "Choose a folder")


class TestMetrics:
    @pytest.fixture
    def files(self, tiny_coco: Path, tmp_path: Path) -> list[Path]:
        """Predictions that are the annotation, less one picture, and the annotation."""
        annotations = tiny_coco / "annotations" / "panoptic_mini.json"
        predictions = tmp_path / "predictions.json"
        content = json.loads(annotations.read_text())
        del content["annotations"][1]
        content["annotations"][0]["segments_info"][0]["area"] = 5
        predictions.write_text(json.dumps(content))
        shutil.copytree(annotations.with_suffix(""), predictions.with_suffix(""))
        return [predictions, annotations]

    def test_missing_predictions_are_refused(
        self, tascnet: Callable[..., Said], files: list[Path], tiny_coco: Path, tmp_path: Path
    ):
        name = json.loads(files[1].read_text())["images"][1]["file_name"].removesuffix(".png")
        said = tascnet("metrics", *files, "--output", tmp_path / "out")
        assert_refused(said, "1 of 3", name, "--missing empty", nothing_in=tmp_path / "out")

    def test_or_count_as_empty_and_the_report_says_so(
        self, tascnet: Callable[..., Said], files: list[Path], tmp_path: Path
    ):
        said = tascnet("metrics", *files, "--output", tmp_path / "out", "--missing", "empty")
        assert said.code == 0, said.err
        lines = said.out.splitlines()[1:]  # the first tells that all is done
        assert lines[0].startswith("Note: 1 of 3 predictions are missing and count as empty: ")
        assert lines[1] == (
            f"Note: {files[0]} gives wrong areas for 1 segments; the pixels of the PNG files were counted."
        )
        assert any(line.startswith("│ all") for line in lines)
        assert lines[-1] == f"report.json and report.md are in {tmp_path / 'out'}"
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.json", "report.md"]
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        assert report["notes"] == [line.removeprefix("Note: ") for line in lines[:2]]
        assert sorted(report["pq_of_image"].values()) == [0, 100, 100]
        assert report["dataset"]["predictions"] == str(files[0])
        assert report["command"].startswith("tascnet metrics ")
        assert all(note in (tmp_path / "out" / "report.md").read_text() for note in report["notes"])

    def test_other_folders_and_no_output(self, tascnet: Callable[..., Said], files: list[Path], tmp_path: Path):
        folder = files[1].with_suffix("")
        shutil.rmtree(files[0].with_suffix(""))
        said = tascnet("metrics", *files, "--missing", "empty", "--prediction_folder", folder)
        assert said.code == 0, said.err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.json"]
        assert_refused(tascnet("metrics", *files, "--missing", "empty"), "predictions does not exist")

    @pytest.mark.parametrize("flags", [["--missing", "maybe"], ["--workers", "two"]])
    def test_flags_that_cannot_be(self, tascnet: Callable[..., Said], files: list[Path], flags: list[str]):
        said = tascnet("metrics", *files, *flags)
        assert said.code == 2
        assert flags[1] in said.err


class TestPredict:
    @pytest.fixture
    def predict(self, tascnet: Callable[..., Said], tiny_run: Path, tmp_path: Path) -> Callable[..., Said]:
        return lambda *photos: tascnet("predict", tiny_run, *photos, "--output", tmp_path / "out")

    @pytest.fixture
    def photo(self, tmp_path: Path) -> Image.Image:
        return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))

    def test_odd_photos(self, predict: Callable[..., Said], photo: Image.Image, tmp_path: Path):
        folder = tmp_path / "photos"
        folder.mkdir()
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees
        Image.new("RGB", (1, 1)).save(folder / "dot.png")
        Image.new("RGB", (12000, 100), (90, 120, 90)).save(folder / "long.jpg")
        photo.convert("L").save(folder / "grey.png")
        photo.convert("RGBA").save(folder / "rgba.png")
        Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(folder / "sixteen.png")
        photo.save(folder / "turned.jpg", exif=exif)

        said = predict(folder)
        assert said.code == 0, said.err
        assert said.err == ""
        assert f"photos: 6; overlays in {tmp_path / 'out' / 'overlays'}, COCO" in said.out
        dataset = CocoPanoptic(tmp_path / "out" / "panoptic.json")
        sizes = {dataset.sample_name(index): tuple(dataset.annotation(index).size) for index in range(len(dataset))}
        assert sizes == {
            "dot": (1, 1),
            "grey": (40, 60),
            "long": (100, 12000),
            "rgba": (40, 60),
            "sixteen": (40, 60),
            "turned": (60, 40),
        }
        for name, (height, width) in sizes.items():
            with Image.open(tmp_path / "out" / "overlays" / f"{name}.png") as overlay:
                assert overlay.size == (width, height)

    def test_a_photo_is_missing(self, predict: Callable[..., Said], photo: Image.Image, tmp_path: Path):
        photo.save(tmp_path / "a.png")
        assert_refused(predict(tmp_path / "a.png", tmp_path / "none.jpg"), "none.jpg does not exist")
        assert not (tmp_path / "out").exists()

    def test_a_photo_is_cut_short(self, predict: Callable[..., Said], photo: Image.Image, tmp_path: Path):
        photo.save(tmp_path / "a.jpg")
        (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-800])
        said = predict(tmp_path / "a.jpg")
        assert_refused(said, str(tmp_path / "a.jpg"), "cut short", "again", nothing_in=tmp_path / "out")

    def test_what_is_no_photo(self, predict: Callable[..., Said], tmp_path: Path):
        (tmp_path / "a.jpg").write_text("hello")
        said = predict(tmp_path / "a.jpg")
        assert_refused(said, "a.jpg is not a picture", "convert it", nothing_in=tmp_path / "out")

    def test_a_folder_without_photos(self, predict: Callable[..., Said], tmp_path: Path):
        (tmp_path / "empty").mkdir()
        assert_refused(predict(tmp_path / "empty"), "empty holds no pictures")
        assert not (tmp_path / "out").exists()

    def test_a_folder_that_cannot_be_made(
        self, tascnet: Callable[..., Said], tiny_run: Path, photo: Image.Image, tmp_path: Path
    ):
        photo.save(tmp_path / "a.png")
        out = tmp_path / "a.png" / "out"
        assert_refused(tascnet("predict", tiny_run, tmp_path / "a.png", "--output", out), str(out), "Choose a folder")


class TestInfo:
    def test_of_a_config_and_of_a_run(self, tascnet: Callable[..., Said], config_file: Path, tiny_run: Path):
        said = tascnet("info", config_file, "--stuff", 3, "--things", 2, "--height", 64, "--width", 64)
        assert said.code == 0
        assert "3 stuff + 2 thing categories, 64 x 64 pixels" in said.out
        said = tascnet("info", tiny_run, "--height", 64, "--width", 64)
        assert said.code == 0
        assert "TASCNet" in said.out

    def test_what_is_neither(self, tascnet: Callable[..., Said], config_file: Path, tiny_run: Path):
        assert_refused(tascnet("info", config_file, "--height", 0), "at least 1")
        assert_refused(tascnet("info", config_file.parent / "none.yaml"), "none.yaml does not exist")
        assert_refused(tascnet("info", config_file.parent), "holds no checkpoint")
        assert_refused(tascnet("info", tiny_run / "run.json"), "run.json: command is not a setting")
        change(config_file, "training", "steps", value=0)
        assert_refused(tascnet("info", config_file), "tiny.yaml: training.steps is 0")


class TestDemo:
    @pytest.fixture(autouse=True)
    def tiny_demo(self, tiny_config: Callable[[], Config], monkeypatch: pytest.MonkeyPatch) -> None:
        def settings(minutes: float, steps: int) -> Config:
            config = tiny_config()
            config.training.max_minutes, config.training.steps = minutes, steps or 1
            return config

        monkeypatch.setattr(demo, "demo_config", settings)

    def test_an_earlier_demo_is_replaced(self, tascnet: Callable[..., Said], tmp_path: Path):
        run = tmp_path / "demo"
        for steps in (2, 1):
            said = tascnet("demo", "--output", run, "--steps", steps)
            assert said.code == 0, said.err
        assert [path.name for path in (run / "checkpoints").glob("step_*")] == ["step_000001"]
        assert f"tascnet predict {run}" in said.out

    def test_nothing_else_is(self, tascnet: Callable[..., Said], tiny_run: Path, config_file: Path):
        before = sorted(tiny_run.rglob("*"))
        for output in (tiny_run, tiny_run / "pictures", config_file):
            assert_refused(tascnet("demo", "--output", output), f"{output} exists and is not an earlier demo")
        assert sorted(tiny_run.rglob("*")) == before

    def test_an_earlier_demo_is_kept_where_there_will_be_no_new_one(self, tascnet: Callable[..., Said], tmp_path: Path):
        run = tmp_path / "demo"
        tascnet("demo", "--output", run)
        assert_refused(tascnet("demo", "--output", run, "--steps", -3), "training.steps is -3")
        assert (run / "report.json").exists()
