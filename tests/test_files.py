"""A reader never meets half a file: not after an error, not where nothing can be written."""

import os
from pathlib import Path

import pytest

from tascnet.errors import InputError
from tascnet.files import (
    atomic_folder,
    atomic_path,
    check_writable,
    make_folder,
    read_json,
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
        with pytest.raises(InputError, match=r"a.json is not valid JSON .*copy or download it again"):
            read_json(tmp_path / "a.json")

    def test_not_text(self, tmp_path: Path):
        (tmp_path / "a.json").write_bytes(b"\xff\xd8\xff\xe0")
        with pytest.raises(InputError, match=r"a.json is not text in UTF-8: .* or be no text at all"):
            read_json(tmp_path / "a.json")


def test_a_folder_of_that_name_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out.json").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*out\.json: Is a directory\. Choose another name\."):
        write_json(tmp_path / "out.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
