"""Checkpoints: what is saved is loaded, what is broken is named, and an interruption costs nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import optim

from tascnet.build import build_model, build_optimizer
from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.model.tascnet import TASCNet
from tascnet.networks import files as network_files
from tascnet.networks.checkpoint import find_checkpoint
from tascnet.networks.network import Network, check_label_space
from tascnet.networks.opening import load_network
from tascnet.structures import Category, LabelSpace
from tascnet.training.state import Progress, load_optimizer, optimizer_tensors, save_checkpoint

SPACE = LabelSpace(
    (
        Category(90, "car", True, (0, 0, 142), "vehicle"),
        Category(3, "sky", False, (70, 130, 180), "nature"),
        Category(7, "Füße", True, (1, 2, 3)),
    )
)
FILES = {"model.safetensors", "training.safetensors", "training.json", "config.yaml", "checkpoint.json"}


class Saved:
    """A model after one step of its optimiser, and the way to save it."""

    def __init__(self, config: Config, folder: Path):
        torch.manual_seed(1)
        self.config, self.folder = config, folder
        self.model: TASCNet = build_model(config, SPACE)
        # not the values a new model has: a checkpoint must carry them
        self.model.backbone.set_normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        self.optimizer: optim.Optimizer = build_optimizer(config.optimizer, self.model)
        for parameter in self.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        self.optimizer.step()

    def save(self, step: int) -> Path:
        progress = Progress(step, step / 10)
        weights, state = self.model.state_dict(), optimizer_tensors(self.optimizer)
        return save_checkpoint(self.folder, weights, state, self.config, SPACE, progress)


@pytest.fixture
def saved(tiny_config: Callable[[], Config], tmp_path: Path) -> Saved:
    return Saved(tiny_config(), tmp_path / "checkpoints")


@pytest.fixture
def broken(saved: Saved) -> Path:
    """A checkpoint that the test breaks."""
    return saved.save(10)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def change_facts(folder: Path, change: Callable[[dict], object]) -> None:
    facts = json.loads((folder / "checkpoint.json").read_text())
    change(facts)
    (folder / "checkpoint.json").write_text(json.dumps(facts))


class TestRoundTrip:
    def test_weights_settings_categories_and_progress(self, saved: Saved):
        loaded = load_network(saved.save(10))
        assert loaded.path == saved.folder / "step_000010"
        assert loaded.config == saved.config
        assert loaded.label_space == SPACE
        assert (loaded.step, loaded.seconds) == (10, 1.0)
        assert not loaded.model.training
        wanted, found = saved.model.state_dict(), loaded.model.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)

    def test_normalisation(self, saved: Saved):
        backbone = load_network(saved.save(10)).model.backbone
        assert backbone.pixel_mean.flatten().tolist() == pytest.approx([25.5, 51.0, 76.5])
        assert backbone.pixel_std.flatten().tolist() == pytest.approx([102.0, 127.5, 153.0])

    @pytest.mark.parametrize("name", ["adamw", "sgd"])
    def test_the_optimiser_goes_on_as_it_would_have(self, tiny_config: Callable[[], Config], tmp_path: Path, name: str):
        config = tiny_config()
        config.optimizer.name = name
        saved = Saved(config, tmp_path)
        loaded = load_network(saved.save(1))
        optimizer = build_optimizer(config.optimizer, loaded.model)
        load_optimizer(loaded.path, optimizer)
        for model, its_optimizer in ((saved.model, saved.optimizer), (loaded.model, optimizer)):
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, 0.5)
            its_optimizer.step()
        pairs = zip(saved.model.parameters(), loaded.model.parameters(), strict=True)
        assert all(torch.equal(wanted, found) for wanted, found in pairs)

    def test_nothing_in_it_is_a_pickle(self, saved: Saved):
        folder = saved.save(10)
        assert set(names(folder)) == FILES
        for name in ("model.safetensors", "training.safetensors"):
            content = (folder / name).read_bytes()
            header = content[8 : 8 + int.from_bytes(content[:8], "little")]
            assert isinstance(json.loads(header), dict)
        assert isinstance(yaml.safe_load((folder / "config.yaml").read_text()), dict)

    def test_others_may_read_it_as_far_as_the_umask_lets_them(self, saved: Saved, tmp_path: Path):
        (tmp_path / "plain").write_text("")
        folder = saved.save(10)
        modes = {(folder / name).stat().st_mode for name in FILES}
        assert modes == {(tmp_path / "plain").stat().st_mode}


class TestSaving:
    def test_the_newest_two_stay(self, saved: Saved):
        for step in (2, 4, 10):
            saved.save(step)
        assert names(saved.folder) == ["step_000004", "step_000010"]

    def test_newest_by_number_not_by_name(self, saved: Saved):
        for step in (999_998, 999_999, 1_000_000):
            saved.save(step)
        assert names(saved.folder) == ["step_1000000", "step_999999"]
        assert find_checkpoint(saved.folder).name == "step_1000000"

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
    @pytest.mark.parametrize("call", [1, 2])
    def test_an_interruption_leaves_the_earlier_ones(
        self, saved: Saved, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], call: int
    ):
        saved.save(1)
        saved.save(2)
        calls = []

        def interrupted(tensors: dict, path: Path, *metadata: dict) -> None:
            calls.append(path)
            if len(calls) == call:
                path.write_bytes(b"half a")
                raise error
            save_file(tensors, path, *metadata)

        monkeypatch.setattr(network_files, "save_file", interrupted)
        with pytest.raises(error):
            saved.save(3)
        assert len(calls) == call
        assert names(saved.folder) == ["step_000001", "step_000002"]
        assert load_network(saved.folder).step == 2

    def test_no_space_is_said_in_a_sentence(self, saved: Saved, monkeypatch: pytest.MonkeyPatch):
        def no_space(*_: object) -> None:
            raise OSError(28, "No space left on device")

        saved.save(1)
        monkeypatch.setattr(network_files, "save_file", no_space)
        with pytest.raises(InputError, match=r"step_000002: .*No space left on device.*free space.*--resume"):
            saved.save(2)
        assert names(saved.folder) == ["step_000001"]

    def test_a_folder_that_cannot_be_made(self, saved: Saved, tmp_path: Path):
        (tmp_path / "file").write_text("")
        saved.folder = tmp_path / "file" / "checkpoints"
        with pytest.raises(InputError, match=r"cannot make the folder .*file/checkpoints: Not a directory"):
            saved.save(1)


class TestFinding:
    def test_by_checkpoint_folder_by_run_and_by_checkpoints(self, saved: Saved):
        old, new = saved.save(9), saved.save(10)
        assert find_checkpoint(old) == old
        assert find_checkpoint(saved.folder) == new
        assert find_checkpoint(saved.folder.parent) == new
        assert find_checkpoint(str(saved.folder.parent)) == new

    def test_what_a_killed_run_left_half_written_is_no_checkpoint(self, saved: Saved):
        new = saved.save(9)
        shutil.copytree(new, saved.folder / ".writing-abc")
        (saved.folder / "step_000010").mkdir()
        assert find_checkpoint(saved.folder.parent) == new

    def test_none(self, tmp_path: Path):
        with pytest.raises(InputError, match=r"holds no checkpoint. Give a run folder, a checkpoint folder"):
            find_checkpoint(tmp_path)
        with pytest.raises(InputError, match=r"nowhere does not exist. Give a run folder"):
            find_checkpoint(tmp_path / "nowhere")


class TestBroken:
    @pytest.mark.parametrize("keep", [0, 5, 100, -1])
    def test_weights_cut_short(self, broken: Path, keep: int):
        path = broken / "model.safetensors"
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(InputError, match=r"model.safetensors cannot be read .*cut short. Use another checkpoint"):
            load_network(broken)

    @pytest.mark.parametrize("name", ["model.safetensors", "config.yaml"])
    def test_a_file_is_missing(self, broken: Path, name: str):
        (broken / name).unlink()
        with pytest.raises(InputError, match=rf"{name}.*Use another checkpoint"):
            load_network(broken)

    def test_the_optimiser_s_state_is_missing_or_cut_short(self, broken: Path, saved: Saved):
        path = broken / "training.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        load_network(broken)  # enough for everything but going on with the training
        with pytest.raises(InputError, match=r"training.safetensors cannot be read"):
            load_optimizer(broken, saved.optimizer)
        path.unlink()
        with pytest.raises(InputError, match=r"training.safetensors does not exist; the checkpoint is incomplete"):
            load_optimizer(broken, saved.optimizer)

    @pytest.mark.parametrize("version", [2, "1", None, 0, -1, True])
    def test_another_format_version(self, broken: Path, version: object):
        change_facts(broken, lambda facts: facts.update(format_version=version))
        with pytest.raises(InputError, match=rf"format version {version}; this tascnet reads from 1 up to 1. Upgrade"):
            load_network(broken)

    @pytest.mark.parametrize(
        "change",
        [
            lambda facts: facts.pop("categories"),
            lambda facts: facts.pop("progress"),
            lambda facts: facts.update(categories=[5]),
            lambda facts: facts.update(categories=[]),
            lambda facts: facts["categories"][0].pop("isthing"),
            lambda facts: facts["progress"].pop("step"),
            lambda facts: facts["progress"].update(seconds="long"),
        ],
    )
    def test_facts_that_lack_something(self, broken: Path, change: Callable[[dict], object]):
        change_facts(broken, change)
        with pytest.raises(InputError, match=r"checkpoint.json .*Use another checkpoint"):
            load_network(broken)

    @pytest.mark.parametrize("content", [b"[1, 2]", b'{"format_version"'])
    def test_facts_that_are_none(self, broken: Path, content: bytes):
        (broken / "checkpoint.json").write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint.json"):
            load_network(broken)

    @pytest.mark.parametrize(
        ("content", "finding"),
        [
            (b"- a\n- b", "holds no settings"),
            (b"a: [1", "is not valid YAML"),
            (b"\xff\xd8", "is not valid YAML"),
            (b"training: {stepz: 4}", "stepz"),
            (b"training: {steps: 0}", "training.steps is 0"),
        ],
    )
    def test_settings_that_are_none(self, broken: Path, content: bytes, finding: str):
        (broken / "config.yaml").write_bytes(content)
        with pytest.raises(InputError, match=rf"config.yaml.*{finding}"):
            load_network(broken)

    def change_config(self, folder: Path, change: Callable[[dict], object]) -> None:
        values = yaml.safe_load((folder / "config.yaml").read_text())
        change(values["model"])
        (folder / "config.yaml").write_text(yaml.safe_dump(values))

    def test_settings_of_a_wider_network(self, broken: Path):
        self.change_config(broken, lambda model: model["stuff_head"].update(channels=64))
        tensors = load_file(broken / "model.safetensors")
        # all of the stuff head but its last bias: two numbers for two outputs
        differing = sum(name.startswith("stuff_head.") for name in tensors) - 1
        with pytest.raises(
            InputError,
            match=rf"Of {len(tensors)} tensors: {differing} of another shape "
            r"\(stuff_head\S* has shape \(32, 32, 3, 3\), not \(64, 32, 3, 3\), "
            rf".* and {differing - 3} more\). Restore the original files",
        ):
            load_network(broken)

    def test_settings_of_a_network_with_other_parts(self, broken: Path):
        self.change_config(broken, lambda model: model["things_head"].update(mask_convs=3))
        with pytest.raises(
            InputError, match=r"not those of the network that its settings.*: \d+ missing \(things_\S+, "
        ):
            load_network(broken)

    def test_a_tensor_too_many(self, broken: Path):
        path = broken / "model.safetensors"
        save_file(load_file(path) | {"surplus": torch.zeros(1)}, path)
        with pytest.raises(InputError, match=r"tensors: 1 not known \(surplus\). Restore"):
            load_network(broken)


class TestLabelSpace:
    def checkpoint(self, saved: Saved) -> Network:
        return Network(saved.model, saved.config, SPACE, path=saved.folder)

    def test_the_same_in_other_colours_and_another_order(self, saved: Saved):
        same = LabelSpace.from_list(
            {"id": c.id, "name": c.name, "isthing": c.is_thing} for c in reversed(SPACE.categories)
        )
        check_label_space(self.checkpoint(saved), same)

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            (Category(90, "cars", True), "car"),
            (Category(91, "car", True), "car"),
            (Category(90, "car", False), "car"),
        ],
    )
    def test_another_name_id_or_kind(self, saved: Saved, changed: Category, named: str):
        other = LabelSpace((changed, *SPACE.categories[1:]))
        with pytest.raises(InputError, match=rf"for 3 categories, the data set has 3; .* in '{named}s?' \(id 9[01]\)"):
            check_label_space(self.checkpoint(saved), other)

    def test_one_category_more(self, saved: Saved):
        other = LabelSpace((*SPACE.categories, Category(8, "bird", True)))
        with pytest.raises(InputError, match=r"for 3 categories, the data set has 4; .* in 'bird' \(id 8\)"):
            check_label_space(self.checkpoint(saved), other)
