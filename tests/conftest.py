"""What all tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of data for trying things on; tests that need it are skipped where it is missing."""
    beside_repository = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TASCNET_SHARED_DATA", beside_repository))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set TASCNET_SHARED_DATA to the folder that holds coco_mini")
    return folder
