"""A server on the loopback for every test of downloads, and no waiting between tries."""

from collections.abc import Iterator

import pytest
from loopback import Server, serving

from tascnet.weights import download


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "WAITS", (0.0, 0.0, 0.0))
    with serving() as plan:
        yield plan
