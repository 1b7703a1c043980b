"""Names from files of strangers stay in their folder, and files are found under other spellings."""

import unicodedata
from pathlib import Path, PurePath

import pytest

from tascnet.data.file_names import find_file, relative_name, unique_names
from tascnet.data.problems import DataError, Kind


@pytest.mark.parametrize(
    "name",
    [
        "../a.jpg",
        "a/../../b.jpg",
        "a/..",
        "/etc/passwd",
        "\\\\server\\share\\a.jpg",
        "\\a.jpg",
        "..\\a.jpg",
        "a\\..\\..\\b.jpg",
        "C:\\a.jpg",
        "c:a.jpg",
        "D:/a.jpg",
        ".. /a.jpg",
        "a/.../b.jpg",
    ],
)
def test_names_that_lead_out(name: str) -> None:
    with pytest.raises(DataError, match=r"image number 3 has the file_name .* leads out of its folder") as caught:
        relative_name(name, "x.json, image number 3")
    assert caught.value.kind is Kind.OUTSIDE


@pytest.mark.parametrize("name", ["", ".", "./", None, 7, ["a.jpg"], "a\0.jpg", "a\nb.jpg", "\ud800.jpg"])
def test_names_of_no_file(name: object) -> None:
    with pytest.raises(DataError) as caught:
        relative_name(name, "x.json, image number 3")
    assert caught.value.kind is Kind.BROKEN_ENTRY
    str(caught.value).encode()  # can be printed


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.jpg", "a.jpg"),
        ("./a//b.jpg", "a/b.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        ("..a.jpg", "..a.jpg"),
        ("a../b...jpg", "a../b...jpg"),
        (".hidden", ".hidden"),
        ("道路 é.jpg", "道路 é.jpg"),
        ("می‌خواهم.jpg", "می‌خواهم.jpg"),  # a joiner is a letter's part here
    ],
)
def test_names_that_are_read(name: str, read: str) -> None:
    assert relative_name(name, "here") == read


@pytest.mark.parametrize(
    ("listed", "on_disk"),
    [
        ("a.jpg", "a.jpg"),
        (unicodedata.normalize("NFC", "Ünö/café.jpg"), unicodedata.normalize("NFD", "Ünö/café.jpg")),
        (unicodedata.normalize("NFD", "각.jpg"), unicodedata.normalize("NFC", "각.jpg")),
        ("x/a.jpg", "x/a.JPG"),
        ("a.PNG", "a.png"),
        ("x/a.jpg", "x\\a.jpg"),
    ],
)
def test_files_are_found_under_other_spellings(tmp_path: Path, listed: str, on_disk: str) -> None:
    path = tmp_path / on_disk
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    assert find_file(tmp_path, listed).samefile(path)


def test_the_exact_spelling_comes_first(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.JPG"):
        (tmp_path / name).write_text(name)
    assert find_file(tmp_path, "a.JPG").name == "a.JPG"


@pytest.mark.parametrize("name", ["a.jpg", "x" * 5000])
def test_a_file_that_is_nowhere_keeps_its_name(tmp_path: Path, name: str) -> None:
    assert find_file(tmp_path, name) == tmp_path / name


def test_names_in_folders_are_unique() -> None:
    files = ["a/1.jpg", "a/1.png", "b/1.jpg", "B/1.JPG", "a.b/1"]
    assert unique_names(map(PurePath, files)) == ["a/1", "a/1_png", "b/1", "B/1_JPG", "a.b/1"]
