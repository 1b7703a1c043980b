"""What the tests of weights share: a server on the loopback, and a network from elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Server, serving

from tascnet.networks.foreign import download
from tascnet.networks.network import Network
from tascnet.networks.opening import open_network


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """It serves what a test lays into it; there is no waiting between tries."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "WAITS", (0.0, 0.0, 0.0))
    with serving() as plan:
        yield plan


@pytest.fixture(scope="session")
def golden(shared_data: Path) -> Path:
    """Folder of a small Panoptic FPN with what detectron2 computes from it."""
    folder = shared_data.parent / "golden"
    if not folder.is_dir():
        pytest.skip(f"no golden outputs at {folder}, beside the shared data")
    return folder


@pytest.fixture(scope="session")
def panoptic_fpn(panoptic_fpn_file: Path) -> Network:
    """The network in that file. Read it, do not change it."""
    return open_network(panoptic_fpn_file)
