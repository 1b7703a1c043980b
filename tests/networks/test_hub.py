"""owner/name or a path; what the hub's client says becomes a sentence; what is fetched cannot run."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hub_stub import serving
from huggingface_hub import HfApi, constants
from said import Said

from tascnet import Predictor, from_pretrained, open_network, push_network
from tascnet.errors import InputError
from tascnet.networks.hub import download, hub_id, plain_hub_id, upload
from tascnet.networks.opening import load_network

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens


@pytest.fixture
def shared(tiny_run: Path, tmp_path: Path, tascnet: Callable[..., Said]) -> Path:
    folder = tmp_path / "shared"
    assert tascnet("share", tiny_run, folder).code == 0
    return folder


@pytest.fixture
def point_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Points the client of the hub to a server, with an empty cache and an empty current folder."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def point(address: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )

    return point


@pytest.mark.parametrize(
    ("path", "found", "found_by_from_pretrained"),
    [
        ("owner/name", None, "owner/name"),
        ("own.er/na-me_1.5", None, "own.er/na-me_1.5"),
        (Path("owner/name"), None, "owner/name"),
        ("./owner/name", None, "owner/name"),  # a Path does not tell the two apart
        ("hf:owner/name", "owner/name", "owner/name"),
        (Path("hf:owner/name"), "owner/name", "owner/name"),
        ("hf://owner/name", "owner/name", "owner/name"),
        (Path("hf://owner/name"), "owner/name", "owner/name"),  # a Path has one slash only
        ("hf:runs/name", "runs/name", "runs/name"),
        ("hf:here/name", "here/name", "here/name"),
        ("here/name", None, None),
        ("runs/demo", None, None),
        ("../owner", None, None),
        ("/owner/name", None, None),
        ("owner", None, None),
        ("owner/name/more", None, None),
        ("owner/name.safetensors", None, None),
        ("owner/name.yaml", None, None),
        ("owner/na me", None, None),
        ("owner/Füße", None, None),
        ("", None, None),
        ("hf:here", None, None),  # a folder of that name is there
    ],
)
def test_path_or_repository(
    path: str | Path,
    found: str | None,
    found_by_from_pretrained: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    (tmp_path / "here").mkdir()
    (tmp_path / "hf:here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert hub_id(path) == found
    assert plain_hub_id(path) == found_by_from_pretrained


@pytest.mark.parametrize("path", ["hf:", "hf:owner", "hf:a/b/c", "hf:owner/na me", "hf:../etc"])
def test_the_prefix_without_a_repository(path: str):
    with pytest.raises(InputError, match=r"names nothing on Hugging Face's hub. Give hf:OWNER/NAME"):
        hub_id(path)


@pytest.mark.parametrize(
    "arguments",
    [("info", "rnus/demo"), ("evaluate", "nets/mine"), ("predict", "nets/mine", "photo.jpg", "--output", "out")],
)
def test_a_mistyped_path_never_asks_the_hub(
    arguments: tuple[str, ...], shared: Path, point_to: Callable[[str], None], tascnet: Callable[..., Said]
):
    with serving(shared, arguments[1]) as hub:  # a stranger has a network of that name
        point_to(hub.address)
        Path("photo.jpg").write_bytes(b"")
        said = tascnet(*arguments)
        assert said.code == 2
        assert f"{arguments[1]} does not exist" in said.err
        assert f"On Hugging Face's hub it would be hf:{arguments[1]}." in said.err
        assert hub.fetched == []


def test_a_network_of_the_hub_is_fetched_once(shared: Path, tiny_run: Path, point_to: Callable[[str], None]):
    (shared / "training.py").write_text("raise SystemExit")
    (shared / "pytorch_model.bin").write_bytes(b"a pickle")
    with serving(shared, "ann/streets") as hub:
        point_to(hub.address)
        network = from_pretrained("ann/streets")
        assert sorted(hub.fetched) == ["README.md", "checkpoint.json", "config.yaml", "model.safetensors"]
        assert Predictor.from_checkpoint("hf://ann/streets").label_space == network.label_space
        assert len(hub.fetched) == 4
    # and without the hub
    again = from_pretrained("ann/streets", local_files_only=True)
    wanted = load_network(tiny_run).model.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in again.model.state_dict().items())


def test_there_is_none_of_that_name(shared: Path, point_to: Callable[[str], None], tascnet: Callable[..., Said]):
    with serving(shared, "ann/streets") as hub:
        point_to(hub.address)
        said = tascnet("info", "hf:ann/street")
    assert said.code == 2
    assert said.err.startswith("tascnet: error: ann/street is neither here nor, for you, on Hugging Face's hub. Check")
    assert said.err.count("\n") == 1


def test_offline(point_to: Callable[[str], None], tascnet: Callable[..., Said]):
    point_to(NOWHERE)
    said = tascnet("evaluate", "hf:ann/streets")
    assert said.code == 2
    assert "ann/streets cannot be fetched: Hugging Face's hub cannot be reached" in said.err
    assert said.err.count("\n") == 1
    with pytest.raises(InputError, match=r"ann/streets cannot be fetched"):
        download("ann/streets", local_files_only=True)
    with pytest.raises(InputError, match=r"'a/b/c' is no name of a repository on Hugging Face's hub; give owner/name"):
        download("a/b/c")


def test_sending_offline_or_without_account(
    shared: Path, point_to: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
):
    point_to(NOWHERE)
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    with pytest.raises(InputError, match=r"ann/streets cannot be sent: Hugging Face's hub cannot be reached"):
        upload(shared, "ann/streets")
    with pytest.raises(InputError, match=r"ann/streets cannot be sent: Hugging Face's hub cannot be reached"):
        push_network(open_network(shared), "ann/streets")
    with serving(shared, "ann/streets") as hub:
        point_to(hub.address)
        monkeypatch.setattr(HfApi, "create_repo", _refuse)
        with pytest.raises(InputError, match=r"cannot be sent: Hugging Face's hub refuses. Log in \(hf auth login\)"):
            upload(shared, "ann/streets")


class _RefusalError(OSError):
    class response:  # noqa: N801 - as the library names it
        status_code = 403


def _refuse(*arguments: object, **options: object) -> None:
    raise _RefusalError
