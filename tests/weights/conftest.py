"""What the tests of weights share."""

from pathlib import Path

import pytest

from tascnet.checkpoint import Checkpoint
from tascnet.opening import open_network


@pytest.fixture(scope="session")
def golden(shared_data: Path) -> Path:
    """Folder of a small Panoptic FPN with what detectron2 computes from it."""
    folder = shared_data.parent / "golden"
    if not folder.is_dir():
        pytest.skip(f"no golden outputs at {folder}, beside the shared data")
    return folder


@pytest.fixture(scope="session")
def panoptic_fpn(panoptic_fpn_file: Path) -> Checkpoint:
    """The network in that file. Read it, do not change it."""
    return open_network(panoptic_fpn_file)
