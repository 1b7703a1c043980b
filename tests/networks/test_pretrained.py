"""The public network: loaded by name, wrapped in a Predictor, saved, sent."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.hf_api import RepoUrl

from tascnet import Predictor, TASCNet
from tascnet.build import build_model
from tascnet.config import Config, FusionConfig
from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.errors import InputError
from tascnet.model import tascnet as plain
from tascnet.networks.checkpoint import load_checkpoint
from tascnet.structures import Size


@pytest.fixture(scope="module")
def network(tiny_run: Path) -> TASCNet:
    return TASCNet.from_pretrained(tiny_run)


@pytest.fixture
def by_hand(tiny_config: Callable[[], Config]) -> TASCNet:
    parts = build_model(tiny_config(), STREETS)
    return TASCNet(parts.backbone, parts.fpn, parts.stuff_head, parts.things_head, parts.num_stuff)


def test_it_is_the_network_of_the_checkpoint(network: TASCNet, tiny_run: Path):
    checkpoint = load_checkpoint(tiny_run)
    assert isinstance(network, plain.TASCNet)
    assert not network.training
    assert network.config == checkpoint.config
    assert network.label_space == checkpoint.label_space == STREETS
    assert network.progress["step"] == 2
    assert network.origin.weights == ("backbone test_efficientnet: random weights",)
    assert network.measured.images == 2
    assert list(network.state_dict()) == list(checkpoint.model.state_dict())
    image = Streets(1, Size(64, 128))[0].image[None]
    with torch.inference_mode():
        assert torch.equal(network(image).stuff_logits, checkpoint.model(image).stuff_logits)


def test_it_is_all_that_a_predictor_needs(network: TASCNet, tiny_run: Path):
    image = Streets(1, Size(64, 128))[0].image
    wanted = Predictor.from_checkpoint(tiny_run).predict(image)
    found = Predictor(network).predict(image)
    assert torch.equal(found.segmentation.id_map, wanted.segmentation.id_map)
    assert found.segmentation.segments == wanted.segmentation.segments
    assert wanted.segmentation.segments
    # what is given goes before what the network knows
    everything_void = FusionConfig(score_threshold=1.0, min_stuff_area=64 * 128 + 1)
    assert not Predictor(network, fusion=everything_void)(image).segments


def test_saved_and_loaded_again(network: TASCNet, tmp_path: Path):
    folder = tmp_path / "saved"
    network.save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "checkpoint.json",
        "config.yaml",
        "model.safetensors",
    }
    again = TASCNet.from_pretrained(str(folder))
    for name in ("config", "label_space", "progress", "origin", "measured"):
        assert getattr(again, name) == getattr(network, name), name
    wanted = network.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in again.state_dict().items())


def test_saved_over_an_earlier_one(network: TASCNet, tmp_path: Path):
    network.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("my own words")
    again = TASCNet.from_pretrained(tmp_path)
    with torch.no_grad():
        again.stuff_head.classifier.bias.fill_(5)
    again.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my own words"
    assert TASCNet.from_pretrained(tmp_path).stuff_head.classifier.bias.unique().tolist() == [5]


def test_sent_to_the_hub(network: TASCNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sent: dict[str, bytes] = {}
    asked = []

    def create_repo(self: HfApi, repo_id: str, **options: object) -> RepoUrl:
        asked.append((repo_id, options.get("private")))
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self: HfApi, *, repo_id: str, folder_path: Path, **options: object) -> str:
        asked.append((repo_id, options["commit_message"]))
        sent.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
        return f"https://huggingface.co/{repo_id}/commit/1"

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    address = network.push_to_hub(
        "ann/streets", private=True, commit_message="first", model_card_kwargs={"licence": "mit"}
    )
    assert address == "https://huggingface.co/ann/streets/commit/1"
    assert asked == [("ann/streets", True), ("ann/streets", "first")]
    assert set(sent) == {"README.md", "checkpoint.json", "config.yaml", "model.safetensors"}
    card = ModelCard(sent["README.md"].decode())
    assert (card.data.license, card.data.library_name) == ("mit", "tascnet")
    assert 'Predictor.from_checkpoint("hf:ann/streets")' in card.text
    # what was sent is a network
    for name, content in sent.items():
        (tmp_path / name).write_bytes(content)
    assert TASCNet.from_pretrained(tmp_path).label_space == STREETS


def test_put_together_by_hand(by_hand: TASCNet, tiny_config: Callable[[], Config], tmp_path: Path):
    image = Streets(1, Size(64, 128))[0].image[None]
    assert by_hand.eval()(image).stuff_logits.shape == (1, len(STREETS.stuff) + 1, 16, 32)
    for needs_more in (
        lambda: by_hand.save_pretrained(tmp_path),
        lambda: by_hand.push_to_hub("ann/streets"),
        lambda: Predictor(by_hand),
    ):
        with pytest.raises(
            InputError, match=r"put together by hand: its settings and categories are not known. Use one"
        ):
            needs_more()
    by_hand.config, by_hand.label_space = tiny_config(), STREETS
    by_hand.save_pretrained(tmp_path)
    assert not (tmp_path / "config.json").exists()
    assert TASCNet.from_pretrained(tmp_path).label_space == STREETS
    assert Predictor(by_hand).label_space == STREETS


def test_a_plain_network_needs_the_rest(tiny_config: Callable[[], Config]):
    config = tiny_config()
    model = build_model(config, STREETS)
    with pytest.raises(InputError, match=r"does not know its settings and categories; give Predictor its label_space"):
        Predictor(model, STREETS, config.data.input)
    assert Predictor(model, STREETS, config.data.input, config.fusion).label_space == STREETS


def test_nothing_there(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere does not exist. Give a run folder"):
        TASCNet.from_pretrained(tmp_path / "nowhere")
