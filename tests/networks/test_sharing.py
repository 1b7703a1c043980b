"""A trained network becomes files that others can use: what is in them, what is not, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoUrl
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from said import Said

from tascnet.errors import InputError
from tascnet.model.tascnet import TASCNet
from tascnet.networks import sharing
from tascnet.networks.files import write_network_file
from tascnet.networks.network import Evaluation, Network, Origin
from tascnet.networks.opening import load_network
from tascnet.networks.sharing import in_precision, share, shared_facts, without_local_paths, write_shared_file

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@pytest.fixture
def trained(tiny_run: Path) -> Network:
    return load_network(tiny_run)


@pytest.fixture
def one_file(trained: Network, tmp_path: Path) -> Path:
    file = tmp_path / "tiny.safetensors"
    write_shared_file(trained, file, "float32")
    return file


def change_metadata(file: Path, change: Callable[[dict[str, str]], object]) -> None:
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    change(metadata)
    save_file(load_file(file), file, metadata)


def same_weights(model: TASCNet, other: TASCNet) -> bool:
    wanted, found = model.state_dict(), other.state_dict()
    return wanted.keys() == found.keys() and all(torch.equal(wanted[name], found[name]) for name in wanted)


class TestFolderAndFile:
    @pytest.mark.parametrize("output", ["shared", "shared.safetensors"])
    def test_what_was_trained_is_what_others_load(
        self, tiny_run: Path, trained: Network, output: str, tmp_path: Path, tascnet: Callable[..., Said]
    ):
        said = tascnet("share", tiny_run, tmp_path / output)
        assert said.code == 0
        assert f"{tmp_path / output}: weights of " in said.out
        loaded = load_network(tmp_path / output)
        assert loaded.path == tmp_path / output
        assert same_weights(trained.model, loaded.model)
        assert (loaded.config, loaded.label_space) == (trained.config, trained.label_space)
        assert (loaded.step, loaded.seconds) == (trained.step, trained.seconds)
        assert loaded.origin == trained.origin
        assert loaded.origin.command == "tascnet train --config tiny.yaml"
        report = json.loads((tiny_run / "report.json").read_text())
        assert loaded.evaluation.figures["PQ"] == report["pq"]["all"]
        assert loaded.evaluation.images == 2

    def test_the_files_of_a_folder(self, tiny_run: Path, tmp_path: Path, tascnet: Callable[..., Said]):
        folder = tmp_path / "shared"
        tascnet("share", tiny_run, folder)
        assert {path.name for path in folder.iterdir()} == {
            "README.md",
            "checkpoint.json",
            "config.yaml",
            "model.safetensors",
        }
        assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["pyramid_channels"] == 32

    def test_both_serve_the_verbs(
        self,
        one_file: Path,
        tiny_coco: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        tascnet: Callable[..., Said],
    ):
        monkeypatch.chdir(tmp_path)
        said = tascnet("predict", one_file, tiny_coco / "mini", "--output", "results")
        assert said.code == 0
        assert len(list(Path("results/overlays").iterdir())) == 3
        said = tascnet("evaluate", one_file, "--device", "cpu")
        assert said.code == 0
        assert Path("runs/tiny-evaluation/report.json").is_file()

    def test_sharing_what_was_shared(self, one_file: Path, tmp_path: Path, tascnet: Callable[..., Said]):
        assert tascnet("share", one_file, tmp_path / "again").code == 0
        assert same_weights(load_network(one_file).model, load_network(tmp_path / "again").model)

    def test_interrupted(self, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        def interrupted(*arguments: object) -> None:
            raise KeyboardInterrupt

        trained = load_network(tiny_run)
        for name in ("write_network", "write_network_file"):
            monkeypatch.setattr(sharing, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            sharing.write_shared_folder(trained, tmp_path / "folder", "float32", "")
        with pytest.raises(KeyboardInterrupt):
            sharing.write_shared_file(trained, tmp_path / "a.safetensors", "float32")
        assert list(tmp_path.iterdir()) == []


class TestPrecision:
    @pytest.mark.parametrize("precision", HALVES)
    def test_weights_take_it_and_norms_do_not(self, trained: Network, precision: str, tmp_path: Path):
        tensors = in_precision(trained.model, precision)
        parameters = dict(trained.model.named_parameters())
        for name, wanted in trained.model.state_dict().items():
            is_matrix = name in parameters and wanted.ndim > 1
            assert tensors[name].dtype == (HALVES[precision] if is_matrix else wanted.dtype), name
            if not is_matrix:
                assert torch.equal(tensors[name], wanted)
        assert tensors["backbone.pixel_mean"].dtype == torch.float32
        assert tensors["stuff_head.classifier.weight"].dtype == HALVES[precision]

    @pytest.mark.parametrize("precision", HALVES)
    def test_half_the_size_and_float32_again(
        self, tiny_run: Path, trained: Network, precision: str, tmp_path: Path, tascnet: Callable[..., Said]
    ):
        whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
        tascnet("share", tiny_run, whole)
        assert tascnet("share", tiny_run, half, "--precision", precision).code == 0
        assert 0.45 < half.stat().st_size / whole.stat().st_size < 0.6
        loaded = load_network(half).model.state_dict()
        for name, wanted in trained.model.state_dict().items():
            assert loaded[name].dtype == wanted.dtype
            # half a unit in the last place: float16 has 10 bits behind the first one, bfloat16 has 7
            relative = 2**-11 if precision == "float16" else 2**-8
            assert torch.allclose(loaded[name], wanted, rtol=relative, atol=2**-25)

    def test_too_large_for_it(self, trained: Network, tmp_path: Path):
        weight = trained.model.stuff_head.classifier.weight
        with torch.no_grad():
            weight[0, 0] = 70000
        with pytest.raises(
            InputError,
            match=r"stuff_head.classifier.weight holds 7e\+04, more than float16 can: 6.55e\+04. Use bfloat16",
        ):
            write_shared_file(trained, tmp_path / "a.safetensors", "float16")
        assert list(tmp_path.iterdir()) == []
        assert in_precision(trained.model, "bfloat16")["stuff_head.classifier.weight"].isfinite().all()


class TestPaths:
    def test_of_this_machine_stay_here(self, trained: Network, tmp_path: Path):
        trained.config.data.train.root = "/home/ann/data/coco"
        trained.config.data.val.group_by = "/home/ann/my groups.yaml"
        trained.config.data.val.root = "data/coco"
        origin = Origin(
            ("backbone b: /home/ann/weights.pth, or / some others",),
            {"format": "coco", "root": "/home/ann/data/coco"},
            "tascnet train --config /home/ann/a.yaml --data.train.root=/home/ann/data/coco --output 'runs/my run'",
        )
        evaluation = Evaluation({"PQ": 1.0}, {"root": "/home/ann/data/coco", "num_images": 3}, 3)
        shown = without_local_paths(replace(trained, origin=origin, evaluation=evaluation))
        assert shown.config.data.train.root == "coco"
        assert shown.config.data.val.group_by == "my groups.yaml"
        assert shown.config.data.val.root == "data/coco"
        assert shown.origin.command == "tascnet train --config a.yaml --data.train.root=coco --output 'runs/my run'"
        assert shown.origin.data == {"format": "coco", "root": "coco"}
        assert shown.evaluation == Evaluation({"PQ": 1.0}, {"root": "coco", "num_images": 3}, 3)
        assert shown.origin.weights == ("backbone b: weights.pth, or / some others",)
        assert trained.config.data.train.root == "/home/ann/data/coco"

    def test_a_command_that_is_none(self, trained: Network):
        origin = Origin(command="it's")
        assert without_local_paths(replace(trained, origin=origin)).origin == origin


class TestRefused:
    @pytest.mark.parametrize("output", ["taken", "taken.safetensors"])
    def test_what_exists_stays(self, tiny_run: Path, output: str, tmp_path: Path, tascnet: Callable[..., Said]):
        (tmp_path / "taken").mkdir()
        (tmp_path / "taken.safetensors").write_text("mine")
        said = tascnet("share", tiny_run, tmp_path / output)
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert f"{output} exists; give another name, or remove it first." in said.err
        assert (tmp_path / "taken.safetensors").read_text() == "mine"

    def test_nowhere_to_share_to(self, tiny_run: Path, tmp_path: Path, tascnet: Callable[..., Said]):
        assert "nowhere to share to; give OUTPUT" in tascnet("share", tiny_run).err
        said = tascnet("share", tiny_run, tmp_path / "a.safetensors", "--push", "ann/streets")
        assert said.code == 2
        assert "the hub wants a folder with a model card" in said.err

    @pytest.mark.parametrize("name", ["bad name", "a/b/c"])
    def test_no_name_of_a_repository(self, tiny_run: Path, name: str, tmp_path: Path, tascnet: Callable[..., Said]):
        said = tascnet("share", tiny_run, tmp_path / "shared", "--push", name)
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert f"'{name}' is no name of a repository" in said.err
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["a.pth", "a.PT", "a.bin", "a.pkl"])
    def test_endings_of_other_files_of_weights(
        self, tiny_run: Path, name: str, tmp_path: Path, tascnet: Callable[..., Said]
    ):
        said = tascnet("share", tiny_run, tmp_path / name)
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert f"{name} ends as files of weights do that others write" in said.err
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_cannot_be_made(self, tiny_run: Path, tmp_path: Path, tascnet: Callable[..., Said]):
        (tmp_path / "file").write_text("")
        for output in ("file/shared", "file/a.safetensors"):
            said = tascnet("share", tiny_run, tmp_path / output)
            assert said.code == 2
            assert "cannot make the folder" in said.err

    def test_no_space(self, trained: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        def no_space(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        for name in ("write_network", "write_network_file"):
            monkeypatch.setattr(sharing, name, no_space)
        for write in (
            lambda: sharing.write_shared_file(trained, tmp_path / "a.safetensors", "float32"),
            lambda: sharing.write_shared_folder(trained, tmp_path / "a", "float32", ""),
        ):
            with pytest.raises(InputError, match=r"cannot write .*No space left on device. Check permission and free"):
                write()

    def test_no_network(self, tmp_path: Path, tascnet: Callable[..., Said]):
        said = tascnet("share", tmp_path, tmp_path / "out")
        assert said.code == 2
        assert "holds no checkpoint. Give a run folder" in said.err


class TestSending:
    @pytest.fixture
    def sent(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
        """What would have been sent, by file name."""
        files: dict[str, bytes] = {}

        def upload_folder(self: HfApi, *, repo_id: str, folder_path: Path, **options: object) -> None:
            files.update({path.name: path.read_bytes() for path in folder_path.iterdir()})

        monkeypatch.setattr(
            HfApi,
            "create_repo",
            lambda self, repo_id, private, exist_ok: RepoUrl(f"https://huggingface.co/{repo_id}"),
        )
        monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
        return files

    def test_with_and_without_a_folder_that_stays(
        self, tiny_run: Path, sent: dict[str, bytes], tmp_path: Path, tascnet: Callable[..., Said]
    ):
        said = tascnet("share", tiny_run, "--push", "ann/streets", "--precision", "float16", "--licence", "mit")
        assert (said.code, said.out) == (0, "sent to https://huggingface.co/ann/streets\n")
        assert set(sent) == {"README.md", "checkpoint.json", "config.yaml", "model.safetensors"}
        assert b"license: mit" in sent["README.md"]
        first = dict(sent)
        sent.clear()
        arguments = ["--push", "ann/streets", "--precision", "float16", "--licence", "mit"]
        assert tascnet("share", tiny_run, tmp_path / "shared", *arguments).code == 0
        # the card names the repository, whatever the folder is called
        assert sent == first == {path.name: path.read_bytes() for path in (tmp_path / "shared").iterdir()}


class TestBrokenFile:
    @pytest.mark.parametrize("keep", [0, 5, 1000, -1])
    def test_cut_short(self, one_file: Path, keep: int):
        one_file.write_bytes(one_file.read_bytes()[:keep])
        with pytest.raises(InputError, match=r"tiny.safetensors cannot be read .*cut short. Use another"):
            load_network(one_file)

    @pytest.mark.parametrize("name", ["config", "checkpoint"])
    def test_weights_alone(self, one_file: Path, name: str):
        change_metadata(one_file, lambda metadata: metadata.pop(name))
        with pytest.raises(InputError, match=r"holds weights without settings and categories. Give the folder"):
            load_network(one_file)

    @pytest.mark.parametrize(
        ("metadata", "finding"),
        [
            ({"config": "{"}, "metadata of .*tiny.safetensors is not valid JSON"),
            ({"config": "[]"}, "tiny.safetensors holds no settings"),
            ({"config": '{"modle": {}}'}, "tiny.safetensors: modle is not a setting"),
            ({"checkpoint": "[]"}, "tiny.safetensors has format version None"),
            ({"checkpoint": '{"format_version": 1}'}, "tiny.safetensors lacks a usable entry"),
            # the version is looked at first: a newer one may have other settings
            ({"checkpoint": '{"format_version": 2}', "config": '{"new": 1}'}, "version 2; .* up to 1. Upgrade tascnet"),
        ],
    )
    def test_metadata(self, one_file: Path, metadata: dict[str, str], finding: str):
        change_metadata(one_file, lambda known: known.update(metadata))
        with pytest.raises(InputError, match=finding):
            load_network(one_file)

    def test_all_kinds_of_differences_are_named(self, trained: Network, tmp_path: Path):
        tensors = dict(trained.model.state_dict())
        del tensors["stuff_head.classifier.bias"]
        for number in range(5):
            tensors[f"surplus{number}"] = torch.zeros(1)
        tensors["backbone.pixel_std"] = torch.zeros(2)
        file = tmp_path / "a.safetensors"
        write_network_file(file, tensors, trained.config, shared_facts(trained))
        with pytest.raises(
            InputError,
            match=r"a.safetensors are not those of the network .* tensors: 1 missing \(stuff_head.classifier.bias\); "
            r"5 not known \(surplus0, surplus1, surplus2 and 2 more\); "
            r"1 of another shape \(backbone.pixel_std has shape \(2,\), not \(3, 1, 1\)\). Restore",
        ):
            load_network(file)

    def test_origin_and_figures_that_are_none_do_not_matter(self, trained: Network, tmp_path: Path):
        file = tmp_path / "a.safetensors"
        facts = shared_facts(trained) | {
            "origin": {"weights": 5, "command": None},
            "measured": {"figures": {"PQ": "high", "AP": True, "mIoU": 4}, "images": "two", "notes": None},
        }
        write_network_file(file, trained.model.state_dict(), trained.config, facts)
        loaded = load_network(file)
        assert (loaded.origin, loaded.evaluation) == (Origin(), Evaluation({"mIoU": 4.0}))


def test_a_network_in_half_precision_computes_as_one_whose_weights_were_rounded(trained: Network, tmp_path: Path):
    write_shared_file(trained, tmp_path / "half.safetensors", "float16")
    half = load_network(tmp_path / "half.safetensors").model
    image = torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = trained.model(image).stuff_logits
        for parameter in trained.model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half().float())
        wanted, found = trained.model(image).stuff_logits, half(image).stuff_logits
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)
    assert not torch.equal(found, before)


@pytest.mark.parametrize("licence", ["\x1b[31m", "", "  ", "a\nb", "x" * 101, "\u202egpl"])
def test_a_licence_that_is_no_name(tiny_run: Path, tmp_path: Path, licence: str):
    with pytest.raises(InputError, match=r"--licence is .*; it is a name"):
        share(tiny_run, tmp_path / "out", "float32", licence, None)
    assert not (tmp_path / "out").exists()
