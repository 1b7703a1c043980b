"""Downloads from a server on the loopback that misbehaves in the ways that servers and connections do."""

import hashlib
import threading
from io import StringIO
from pathlib import Path

import pytest
from loopback import CONTENT, ETAG, SHA256, Server
from rich.console import Console

from tascnet.commands.console import ConsoleObserver
from tascnet.errors import InputError
from tascnet.networks.foreign import download as module
from tascnet.networks.foreign.download import Digest, Download, cache_folder
from tascnet.progress import SILENT


@pytest.fixture
def download(server: Server, tmp_path: Path) -> Download:
    return Download("tiny", server.url, tmp_path / "cache" / "tiny.bin", Digest("sha256", SHA256[:8]))


def quiet() -> Console:
    return Console(file=StringIO(), width=200)


def names_in(folder: Path) -> list[str]:
    """Files of a folder, but for locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_file_is_downloaded_once(server: Server, download: Download) -> None:
    assert download.get(SILENT) == download.path
    assert download.path.read_bytes() == CONTENT
    assert names_in(download.path.parent) == ["tiny.bin"]
    assert download.get(SILENT) == download.path
    assert len(server.asked) == 1


def test_a_broken_connection_is_gone_on_with(server: Server, download: Download) -> None:
    server.break_after = [100_000, 50_000, 0, 1]
    console = quiet()
    download.get(ConsoleObserver(console))
    assert download.path.read_bytes() == CONTENT
    assert server.ranges_asked() == [None, *(f"bytes={start}-" for start in (100_000, 150_000, 150_000, 150_001))]
    assert {version for _, _, version in server.asked[1:]} == {ETAG}
    assert "the connection ended after 100,000 of 300,000 bytes; trying again" in console.file.getvalue()


def test_an_interrupted_download_goes_on_in_the_next_call(server: Server, download: Download) -> None:
    server.break_after = [120_000, 0, 0, 0, 0]
    with pytest.raises(
        InputError, match=r"cannot download tiny from http.*goes on where this ended.*put it at .*tiny\.bin"
    ):
        download.get(SILENT)
    assert not download.path.exists()
    assert len(server.asked) == 5  # one that brought bytes, four that did not
    server.asked.clear()
    server.break_after = []
    assert download.get(SILENT).read_bytes() == CONTENT
    assert server.ranges_asked() == ["bytes=120000-"]


def test_a_download_that_was_complete_but_not_renamed(server: Server, download: Download) -> None:
    server.break_after = [120_000, 0, 0, 0, 0]
    with pytest.raises(InputError):
        download.get(SILENT)
    (part,) = (path for path in download.path.parent.iterdir() if path.suffix == ".part")
    part.write_bytes(CONTENT)
    server.break_after = []
    assert download.get(SILENT).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "change", ["ranges are ignored", "the file has changed", "no version is named", "it got shorter"]
)
def test_what_cannot_be_gone_on_with_begins_again(server: Server, download: Download, change: str) -> None:
    if change == "no version is named":
        server.etag = None
    server.break_after = [120_000, 0, 0, 0, 0]
    with pytest.raises(InputError):
        download.get(SILENT)
    expected = CONTENT
    if change == "ranges are ignored":
        server.ranges = False
    elif change == "the file has changed":
        server.etag, server.content = '"version 2"', CONTENT[::-1]
        expected = server.content
    elif change == "it got shorter":
        server.content = expected = CONTENT[:60_000]
    server.break_after = []
    server.asked.clear()
    other = Download("tiny", server.url, download.path, Digest("sha256", hashlib.sha256(expected).hexdigest()[:8]))
    assert other.get(SILENT).read_bytes() == expected
    assert server.ranges_asked()[-1] == (
        None if change in ("no version is named", "it got shorter") else "bytes=120000-"
    )


def test_a_server_that_ignores_ranges_and_breaks_each_time_is_given_up(server: Server, download: Download) -> None:
    server.ranges = False
    server.break_after = [100_000] * 20
    with pytest.raises(InputError, match="cannot download tiny"):
        download.get(SILENT)
    assert len(server.asked) == 5


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b"<html>Log in to the network</html>", b""])
def test_a_wrong_file_is_removed(server: Server, download: Download, content: bytes) -> None:
    server.content = content
    found = hashlib.sha256(content).hexdigest()[:12]
    with pytest.raises(
        InputError, match=rf"sent another file than tiny.*begins with {found}, not with {SHA256[:8]}; it was removed"
    ):
        download.get(SILENT)
    assert names_in(download.path.parent) == []


def test_md5_is_checked_too(server: Server, download: Download) -> None:
    right = hashlib.md5(CONTENT).hexdigest()[:6]
    path = download.path.parent / "md5.pkl"
    assert Download("tiny", server.url, path, Digest("md5", right)).get(SILENT) == path
    with pytest.raises(InputError, match="its md5 begins with"):
        Download("tiny", server.url, path.with_name("other.pkl"), Digest("md5", "000000")).get(SILENT)


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_file_that_is_not_there(server: Server, download: Download, status: int) -> None:
    server.statuses = [status] * 9
    with pytest.raises(InputError, match=rf"{server.url} answers {status} .*put it at {download.path}"):
        download.get(SILENT)
    assert len(server.asked) == 1  # it will not be there a second later
    assert names_in(download.path.parent) == []


def test_a_server_that_is_busy_is_asked_again(server: Server, download: Download) -> None:
    server.statuses = [503, 429, 500]
    assert download.get(SILENT).read_bytes() == CONTENT
    assert len(server.asked) == 4


def test_a_redirection_is_followed_with_its_range(server: Server, download: Download) -> None:
    moved = Download("tiny", server.url.replace("file.bin", "moved"), download.path, download.digest)
    server.break_after = [100_000]
    assert moved.get(SILENT).read_bytes() == CONTENT
    assert server.asked[-1] == ("/file.bin", "bytes=100000-", ETAG)


def test_a_server_that_stalls(server: Server, download: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(module, "WAITS", ())
    server.stall = 0.3
    with pytest.raises(InputError, match=r"cannot download tiny from http.*\(the server does not answer\)"):
        download.get(SILENT)


def test_no_server_at_all(server: Server, download: Download) -> None:
    offline = Download("tiny", "http://127.0.0.1:1/file.bin", download.path, download.digest)
    with pytest.raises(
        InputError, match=rf"http://127\.0\.0\.1:1/file\.bin \(connection refused\).*at {download.path}"
    ):
        offline.get(SILENT)


def test_two_at_once_download_once(server: Server, download: Download) -> None:
    server.stall = 0.1
    consoles = [quiet() for _ in range(3)]
    threads = [threading.Thread(target=download.get, args=(ConsoleObserver(console),)) for console in consoles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert download.path.read_bytes() == CONTENT
    assert len(server.asked) == 1
    said = [console.file.getvalue() for console in consoles]
    assert sorted(said) == ["", *["tiny: another process is downloading it; waiting\n"] * 2]


def test_a_cache_that_cannot_be_written_to(server: Server, download: Download, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    nowhere = Download("tiny", server.url, tmp_path / "file" / "tiny.bin", download.digest)
    with pytest.raises(InputError, match=r"cannot make the folder .*file.*TASCNET_HOME"):
        nowhere.get(SILENT)
    assert not server.asked


def test_a_full_disk(server: Server, download: Download) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    download.path.parent.mkdir()
    server.etag = None
    (download.path.parent / ".tiny.bin.part").symlink_to(full)
    part = module._Part(download.path)
    part.discard = lambda: None  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"cannot write .*No space left.*TASCNET_HOME"):
        module._receive_once(server.url, part, "tiny", SILENT)


def test_a_file_put_there_by_hand_can_be_checked(server: Server, download: Download) -> None:
    download.path.parent.mkdir()
    download.path.write_bytes(CONTENT)
    download.check()
    download.path.write_bytes(CONTENT[:-5])
    with pytest.raises(InputError, match=r"tiny\.bin is not the file of http.*Remove it"):
        download.check()
    assert not server.asked


def test_progress_is_shown(server: Server, download: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEGABYTE", 1000)
    monkeypatch.setattr("tascnet.commands.console.SECONDS_BETWEEN_LINES", 0)
    console = quiet()
    download.get(ConsoleObserver(console))
    assert console.file.getvalue().splitlines()[-1] == "tiny 300/300  MB"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TASCNET_HOME": "/models"}, "/models"),
        ({"TASCNET_HOME": "~/models"}, "{home}/models"),
        ({"XDG_CACHE_HOME": "/scratch"}, "/scratch/tascnet"),
        ({"TASCNET_HOME": "/models", "XDG_CACHE_HOME": "/scratch"}, "/models"),
        ({"TASCNET_HOME": "", "XDG_CACHE_HOME": ""}, "{home}/.cache/tascnet"),
        ({}, "{home}/.cache/tascnet"),
    ],
)
def test_where_the_cache_is(
    variables: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TASCNET_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected.format(home=tmp_path))
