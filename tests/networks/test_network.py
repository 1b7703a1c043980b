"""A network from Python: opened by name, wrapped in a Predictor, saved, sent."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.hf_api import RepoUrl

import tascnet
from tascnet import Network, Predictor, TASCNet, from_pretrained, open_network, push_network, save_network
from tascnet.build import build_model
from tascnet.config import Config, FusionOptions
from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.errors import InputError
from tascnet.model import tascnet as figure_2
from tascnet.model.folding import make_inference_ready
from tascnet.networks.opening import load_network
from tascnet.structures import Size

FOLDER_FILES = {"README.md", "checkpoint.json", "config.yaml", "model.safetensors"}


@pytest.fixture(scope="module")
def network(tiny_run: Path) -> Network:
    return open_network(tiny_run)


@pytest.fixture
def by_hand(tiny_config: Callable[[], Config]) -> Network:
    torch.manual_seed(5)
    return Network(build_model(tiny_config(), STREETS).eval(), tiny_config(), STREETS)


def same_weights(first: Network, second: Network) -> bool:
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_it_is_the_network_of_the_checkpoint(network: Network, tiny_run: Path):
    alone = load_network(tiny_run)
    assert type(network.model) is TASCNet is figure_2.TASCNet
    assert not network.model.training
    assert network.config == alone.config
    assert network.label_space == alone.label_space == STREETS
    assert network.step == 2
    assert network.seconds == alone.seconds > 0
    assert network.origin.weights == ("backbone test_efficientnet: random weights",)
    assert network.evaluation.images == 2
    assert same_weights(network, alone)


def test_from_pretrained_is_the_same(network: Network, tiny_run: Path):
    found = from_pretrained(tiny_run)
    assert (found.path, found.evaluation, found.config) == (network.path, network.evaluation, network.config)
    assert same_weights(found, network)


def test_it_is_all_that_a_predictor_needs(network: Network, tiny_run: Path):
    image = Streets(1, Size(64, 128))[0].image
    wanted = Predictor.from_checkpoint(tiny_run).predict(image)
    found = Predictor(network).predict(image)
    assert torch.equal(found.segmentation.id_map, wanted.segmentation.id_map)
    assert found.segmentation.segments == wanted.segmentation.segments
    assert wanted.segmentation.segments
    # what is given goes before what the network knows
    everything_void = FusionOptions(score_threshold=1.0, min_stuff_area=64 * 128 + 1)
    assert not Predictor(network, fusion=everything_void)(image).segments


@pytest.mark.parametrize("name", ["saved", "saved.safetensors"])
def test_saved_and_opened_again(network: Network, name: str, tmp_path: Path):
    save_network(network, str(tmp_path / name))
    if (tmp_path / name).is_dir():
        assert {path.name for path in (tmp_path / name).iterdir()} == FOLDER_FILES
    again = open_network(str(tmp_path / name))
    for field in ("config", "label_space", "step", "seconds", "origin", "evaluation"):
        assert getattr(again, field) == getattr(network, field), field
    assert same_weights(again, network)
    assert again.has_checksum
    assert again.path == tmp_path / name


def test_an_earlier_one_is_not_replaced(network: Network, tmp_path: Path):
    save_network(network, tmp_path / "saved")
    (tmp_path / "saved" / "README.md").write_text("my own words")
    with pytest.raises(InputError, match=r"saved exists; give another name, or remove it first"):
        save_network(network, tmp_path / "saved")
    assert (tmp_path / "saved" / "README.md").read_text() == "my own words"


def test_other_endings_and_licences_are_refused(network: Network, tmp_path: Path):
    with pytest.raises(InputError, match=r"a\.pth ends as files of weights do that others write"):
        save_network(network, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"licence is '\\n'"):
        save_network(network, tmp_path / "a", licence="\n")
    assert not list(tmp_path.iterdir())


def test_sent_to_the_hub(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sent: dict[str, bytes] = {}
    asked = []

    def create_repo(self: HfApi, repo_id: str, **options: object) -> RepoUrl:
        asked.append((repo_id, options.get("private"), self.token))
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def create_branch(self: HfApi, repo_id: str, *, branch: str, **options: object) -> None:
        asked.append((repo_id, branch, options["exist_ok"]))

    def upload_folder(self: HfApi, *, repo_id: str, folder_path: Path, **options: object) -> str:
        asked.append((repo_id, options["commit_message"], options["revision"]))
        sent.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
        return f"https://huggingface.co/{repo_id}/commit/1"

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "create_branch", create_branch)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    address = push_network(
        network, "ann/streets", licence="mit", private=True, token="hf_a", branch="b", commit_message="first"
    )
    assert address == "https://huggingface.co/ann/streets"
    assert asked == [("ann/streets", True, "hf_a"), ("ann/streets", "b", True), ("ann/streets", "first", "b")]
    assert set(sent) == FOLDER_FILES
    card = ModelCard(sent["README.md"].decode())
    assert (card.data.license, card.data.library_name) == ("mit", "tascnet")
    assert 'Predictor.from_checkpoint("hf:ann/streets")' in card.text
    # what was sent is a network
    for name, content in sent.items():
        (tmp_path / name).write_bytes(content)
    assert same_weights(open_network(tmp_path), network)


def test_put_together_by_hand(by_hand: Network, tmp_path: Path):
    assert (by_hand.step, by_hand.origin.command, by_hand.evaluation.figures) == (0, "", {})
    assert Predictor(by_hand).label_space == STREETS
    save_network(by_hand, tmp_path / "saved")
    again = open_network(tmp_path / "saved")
    assert again.label_space == STREETS
    assert same_weights(again, by_hand)


def test_a_plain_network_needs_the_rest(tiny_config: Callable[[], Config]):
    config = tiny_config()
    model = build_model(config, STREETS)
    with pytest.raises(InputError, match=r"does not contain its settings and categories: pass label_space"):
        Predictor(model, STREETS, config.data.input)
    assert Predictor(model, STREETS, config.data.input, config.fusion).label_space == STREETS


def test_nothing_there(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere does not exist. Give a run folder"):
        tascnet.open_network(tmp_path / "nowhere")


def test_a_folded_model_is_not_saved(tiny_run: Path, tmp_path: Path):
    network = open_network(tiny_run)
    make_inference_ready(network.model)
    with pytest.raises(InputError, match=r"folded for inference.*Save the network of open_network"):
        save_network(network, tmp_path / "folded")
    assert list(tmp_path.iterdir()) == []


def test_what_it_is_in_a_line(tiny_run: Path):
    text = repr(open_network(tiny_run))
    assert re.fullmatch(r"<Network .*step_000002: \w+, 5 things \+ 5 stuff, 2 steps, PQ [\d.]+>", text)
