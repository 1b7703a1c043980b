"""A reader never meets half a file: not after an error, not where nothing can be written."""

import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tascnet.data.images import write_png
from tascnet.errors import InputError
from tascnet.files import (
    UnwritableError,
    at_home,
    atomic_folder,
    atomic_path,
    check_writable,
    make_folder,
    read_json,
    read_yaml,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def below_a_file(tmp_path: Path) -> Path:
    """A folder that nobody can make, not even root: there is a file where its parent should be."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "folder"


def interrupt_writing(path: Path) -> None:
    path.write_text("ha")
    raise KeyboardInterrupt


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


class TestAtomicPath:
    def test_the_file_appears_when_the_block_is_done(self, tmp_path: Path):
        path = tmp_path / "new" / "report.json"
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.suffix == ".json"
            temporary.write_text("whole")
            assert not path.exists()
        assert path.read_text() == "whole"
        assert names(path.parent) == ["report.json"]

    def test_an_error_leaves_the_old_file_and_nothing_else(self, tmp_path: Path):
        path = tmp_path / "report.json"
        path.write_text("old")
        with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
            interrupt_writing(temporary)
        assert path.read_text() == "old"
        assert names(tmp_path) == ["report.json"]

    def test_an_error_of_a_writer_that_removed_its_file(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt") as temporary:
            temporary.unlink()
        assert names(tmp_path) == []

    def test_the_file_is_as_readable_as_any_other(self, tmp_path: Path):
        (tmp_path / "plain").write_text("")
        write_text(tmp_path / "ours", "")
        assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_a_name_as_long_as_the_file_system_takes(self, tmp_path: Path):
        write_text(tmp_path / ("a" * 251 + ".txt"), "long")
        assert (tmp_path / ("a" * 251 + ".txt")).read_text() == "long"

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("tempfile.mkstemp", refuse)
        with pytest.raises(InputError, match=f"cannot write in {tmp_path}: Permission denied. Choose a folder"):
            write_text(tmp_path / "a.txt", "")

    def test_the_parent_is_a_file(self, below_a_file: Path):
        with pytest.raises(InputError, match=f"cannot make the folder {below_a_file}: Not a directory"):
            write_text(below_a_file / "a.txt", "")


class TestAtomicFolder:
    def write(self, path: Path, text: str) -> None:
        with atomic_folder(path) as temporary:
            (temporary / "a.txt").write_text(text)
            assert temporary.parent == path.parent

    def test_the_folder_appears_whole(self, tmp_path: Path):
        with atomic_folder(tmp_path / "step") as temporary:
            (temporary / "a.txt").write_text("a")
            assert not (tmp_path / "step").exists()
        assert names(tmp_path) == ["step"]
        assert names(tmp_path / "step") == ["a.txt"]

    def test_a_folder_of_that_name_is_replaced(self, tmp_path: Path):
        self.write(tmp_path / "step", "old")
        (tmp_path / "step" / "other.txt").write_text("")
        self.write(tmp_path / "step", "new")
        assert names(tmp_path / "step") == ["a.txt"]
        assert (tmp_path / "step" / "a.txt").read_text() == "new"

    def test_an_error_leaves_the_old_folder_and_nothing_else(self, tmp_path: Path):
        self.write(tmp_path / "step", "old")
        with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "step") as temporary:
            interrupt_writing(temporary / "a.txt")
        assert names(tmp_path) == ["step"]
        assert (tmp_path / "step" / "a.txt").read_text() == "old"

    def test_folder_and_files_are_as_readable_as_any_other(self, tmp_path: Path):
        (tmp_path / "plain").mkdir()
        (tmp_path / "plain" / "a.txt").write_text("")
        with atomic_folder(tmp_path / "ours") as temporary:
            os.close(os.open(temporary / "a.txt", os.O_CREAT, 0o600))  # as safetensors makes its files
        for name in (".", "a.txt"):
            assert (tmp_path / "ours" / name).stat().st_mode == (tmp_path / "plain" / name).stat().st_mode

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("tempfile.mkdtemp", refuse)
        with pytest.raises(InputError, match=f"cannot write in {tmp_path}: Permission denied. Choose a folder"):
            self.write(tmp_path / "step", "")


class TestFolders:
    def test_made_with_its_parents(self, tmp_path: Path):
        assert make_folder(tmp_path / "a" / "b").is_dir()
        assert make_folder(tmp_path / "a" / "b").is_dir()

    def test_cannot_be_made(self, below_a_file: Path):
        for folder in (below_a_file, below_a_file.parent):
            for make in (make_folder, check_writable):
                with pytest.raises(InputError, match=f"cannot make the folder {folder}: .*Choose a folder"):
                    make(folder)

    def test_proof_that_it_can_be_written_to_leaves_nothing(self, tmp_path: Path):
        assert check_writable(tmp_path / "a") == tmp_path / "a"
        assert names(tmp_path / "a") == []

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("tempfile.TemporaryFile", refuse)
        with pytest.raises(InputError, match=f"cannot write in {tmp_path}: Permission denied"):
            check_writable(tmp_path)


class TestJson:
    def test_what_is_written_is_read(self, tmp_path: Path):
        value = {"pq": [1.5, None, True], "name": "Füße"}
        write_json(tmp_path / "a.json", value, indent=1)
        assert read_json(tmp_path / "a.json") == value

    def test_a_value_that_is_no_json_leaves_the_old_file(self, tmp_path: Path):
        write_json(tmp_path / "a.json", 1)
        with pytest.raises(TypeError):
            write_json(tmp_path / "a.json", {"a": object()})
        assert read_json(tmp_path / "a.json") == 1
        assert names(tmp_path) == ["a.json"]

    def test_missing(self, tmp_path: Path):
        with pytest.raises(InputError, match=r"none.json does not exist. Check the path."):
            read_json(tmp_path / "none.json")

    def test_a_folder(self, tmp_path: Path):
        with pytest.raises(InputError, match=f"{tmp_path} cannot be read: Is a directory"):
            read_json(tmp_path)

    @pytest.mark.parametrize("content", [b'{"images": [1, 2', b""], ids=["cut", "empty"])
    def test_not_json(self, tmp_path: Path, content: bytes):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(InputError, match=r"a.json is not valid JSON.*(download it again|not text in UTF-8)"):
            read_json(tmp_path / "a.json")

    def test_not_text(self, tmp_path: Path):
        (tmp_path / "a.json").write_bytes(b"\xff\xd8\xff\xe0")
        with pytest.raises(InputError, match=r"a.json is not valid JSON: it is not text in UTF-8, .* or not be text"):
            read_json(tmp_path / "a.json")


def test_a_folder_of_that_name_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out.json").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*out\.json: Is a directory\. Choose another name\."):
        write_json(tmp_path / "out.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


class TestBounds:
    """Files that are tiny and ask for much, and values that neither format has."""

    @pytest.mark.parametrize(
        ("content", "finding"),
        [
            ("[" * 100_000, "nested too deeply"),
            ('{"a":' * 5_000, "nested too deeply"),
            (f"[{'7' * 5000}]", "thousands of digits"),
            ('{"a": NaN}', "it holds NaN"),
            ("[-Infinity]", "it holds -Infinity"),
        ],
    )
    def test_json(self, tmp_path: Path, content: str, finding: str):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(InputError, match=rf"a.json is not valid JSON.*{finding}"):
            read_json(tmp_path / "a.json")

    @pytest.mark.parametrize(
        ("content", "finding"),
        [
            ("[" * 5000, "nest"),
            ("\n".join(f"{' ' * level}a:" for level in range(200)), "more than 100 levels deep"),
            ("\n".join(["- &a0 [x]", *(f"- &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30))]), "its aliases"),
            (
                "b0: &b0 {k: 1}\n"
                + "".join(f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 9)}]}}\n" for n in range(1, 9)),
                "its aliases",
            ),
            ("a: &a [*a]", "contains itself"),
            (f"a: {'1' * 5000}", "thousands of digits"),
            (f"a: 0x{'f' * 9000}", "thousands of digits"),
            ("a: 2024-99-99", "date 2024-99-99"),
            ("a: !!int ''", "not of its type"),
            ("a: !!timestamp x", "not of its type"),
            (f"a: '{'x' * 200_000}'", "an entry of 200,000 characters"),
            ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ],
        ids=lambda value: value[:12],
    )
    def test_yaml(self, tmp_path: Path, content: str, finding: str):
        (tmp_path / "a.yaml").write_text(content)
        with pytest.raises(InputError, match=rf"a.yaml.*{finding}") as found:
            read_yaml(tmp_path / "a.yaml")
        assert len(str(found.value)) < 1000

    def test_aliases_that_people_write(self, tmp_path: Path):
        (tmp_path / "a.yaml").write_text(
            "a: &size {height: 64, width: 96}\nb: {<<: *size, width: 32}\nc: [*size, *size]"
        )
        size = {"height": 64, "width": 96}
        assert read_yaml(tmp_path / "a.yaml") == {"a": size, "b": size | {"width": 32}, "c": [size, size]}

    @pytest.mark.parametrize("read", [read_json, read_yaml])
    def test_encodings_and_archives(self, tmp_path: Path, read: Callable[[Path], object]):
        file = tmp_path / "a.txt"
        file.write_bytes('{"a": "Füße"}'.encode("utf-8-sig"))
        assert read(file) == {"a": "Füße"}
        for content, finding in (
            ('{"a": 1}'.encode("utf-16-le"), "not valid .*UTF-16"),
            (b"\x1f\x8b\x08\xff", r"an archive \(gzip\). Unpack it"),
            (b"PK\x03\x04\xff", r"an archive \(zip\). Unpack it"),
            ('{"a": "ü"}'.encode("latin1"), "not valid .*not text in UTF-8, byte 7 cannot be read"),
            (bytes(100), "not valid .*zero bytes"),
        ):
            file.write_bytes(content)
            with pytest.raises(InputError, match=rf"a.txt is {finding}") as found:
                read(file)
            assert "cut short" not in str(found.value)

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path):
        os.mkfifo(tmp_path / "a.json")
        with pytest.raises(InputError, match=r"a.json is a named pipe"):
            read_json(tmp_path / "a.json")


class FullDisk:
    """Files of at most 4 KiB, which a full disk resembles."""

    def __enter__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, self._before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)
        signal.signal(signal.SIGXFSZ, self._handler)


class TestAFullDisk:
    def test_a_text_file(self, tmp_path: Path):
        write_text(tmp_path / "a.txt", "before")
        with FullDisk(), pytest.raises(InputError, match=rf"cannot write {tmp_path}/a.txt: File too large.*free space"):
            write_text(tmp_path / "a.txt", "x" * 5000)
        assert names(tmp_path) == ["a.txt"]
        assert (tmp_path / "a.txt").read_text() == "before"

    def test_a_picture(self, tmp_path: Path):
        noise = np.random.default_rng(0).integers(0, 256, (60, 61, 3), np.uint8)
        with FullDisk(), pytest.raises(InputError, match=rf"cannot write {tmp_path}/a.png: File too large"):
            write_png(tmp_path / "a.png", noise)
        assert names(tmp_path) == []

    def test_a_folder(self, tmp_path: Path):
        with (
            FullDisk(),
            pytest.raises(InputError, match=rf"cannot write {tmp_path}/a: File too large"),
            atomic_folder(tmp_path / "a") as temporary,
        ):
            (temporary / "file").write_bytes(b"x" * 5000)
        assert names(tmp_path) == []

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_full_in_other_ways(self, tmp_path: Path, number: int):
        with pytest.raises(UnwritableError, match=os.strerror(number)), atomic_path(tmp_path / "a"):
            raise OSError(number, os.strerror(number))

    def test_other_errors_stay_what_they_are(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
            (tmp_path / "missing").read_text()


class TestTheUmask:
    def test_is_never_set(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """It belongs to the whole process: files that other threads write at that instant would be open to all."""
        monkeypatch.setattr(os, "umask", refuse)
        write_text(tmp_path / "a", "")
        with atomic_folder(tmp_path / "b") as temporary:
            (temporary / "file").write_text("")

    @pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077])
    def test_is_applied(self, tmp_path: Path, mask: int):
        before = os.umask(mask)
        try:
            write_text(tmp_path / "ours", "")
            (tmp_path / "plain").write_text("")
            with atomic_folder(tmp_path / "folder") as temporary:
                save_file({"a": torch.zeros(1)}, temporary / "tensors")
            (tmp_path / "plain_folder").mkdir()
        finally:
            os.umask(before)
        modes = {path.name: path.stat().st_mode for path in [*tmp_path.iterdir(), tmp_path / "folder/tensors"]}
        assert modes["ours"] == modes["tensors"] == modes["plain"]
        assert modes["folder"] == modes["plain_folder"]


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("")
    (tmp_path / "link").symlink_to("elsewhere")
    with atomic_folder(tmp_path / "link") as temporary:
        (temporary / "new").write_text("")
    assert names(tmp_path / "elsewhere") == ["kept"]
    assert names(tmp_path / "link") == ["new"]
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("content", ["[" * 3000, "9" * 5000, '{"a": ' * 3000])
@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_deep_or_huge_content(tmp_path: Path, read: Callable[[Path], object], content: str):
    (tmp_path / "a").write_text(content)
    with pytest.raises(InputError, match=f"{tmp_path}/a is (not valid|nested more than 100 levels deep)"):
        read(tmp_path / "a")


class TestHome:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        return tmp_path / "home"

    @pytest.mark.parametrize(
        ("path", "wanted"),
        [
            ("~", "{home}"),
            ("~/a/b.yaml", "{home}/a/b.yaml"),
            ("a~", "a~"),
            ("/x/~", "/x/~"),
            ("", "."),
        ],
    )
    def test_the_home_folder(self, home: Path, path: str, wanted: str):
        assert str(at_home(path)) == wanted.format(home=home)

    @pytest.mark.parametrize("path", ["~no_such_user_7/x", "~\0/x"])
    def test_no_such_home(self, path: str):
        assert str(at_home(path)) == path

    def test_what_is_there_counts(self):
        Path("~").mkdir()
        Path("~/x").touch()
        assert at_home("~/x") == Path("~/x")
