"""The place of a process, from variables that may be nonsense."""

import pytest

from tascnet.errors import InputError
from tascnet.place import Place, restarts

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK")


def environment(*values: str | None) -> dict[str, str]:
    return {name: value for name, value in zip(NAMES, values, strict=True) if value is not None}


@pytest.mark.parametrize(
    ("values", "place"),
    [
        (("0", "1", "1", "0"), Place(0, 1, 1)),
        (("3", "4", "2", "1"), Place(3, 4, 2)),
        ((None, None, None, None), None),
        (("1", None, None, None), None),
        (("1", "2", None, None), None),  # no launcher of ours
        (("x", None, None, "0"), None),
    ],
)
def test_place(values: tuple[str | None, ...], place: Place | None):
    assert Place.from_environment(environment(*values)) == place


@pytest.mark.parametrize(
    "values",
    [
        (None, "2", "2", "0"),
        ("0", "2", None, "0"),
        ("2", "2", "2", "0"),
        ("-1", "2", "2", "0"),
        ("0", "0", "0", "0"),
        ("0", "3", "2", "0"),
        ("0", "2", "2", "2"),
        ("one", "2", "2", "0"),
        ("0", "2.0", "2", "0"),
        ("0", "", "2", "0"),
        ("0", "9" * 5000, "2", "0"),
    ],
)
def test_nonsense(values: tuple[str | None, ...]):
    with pytest.raises(InputError, match="variables of torchrun do not fit together: RANK="):
        Place.from_environment(environment(*values))


def test_restarts():
    assert restarts({}) == 0
    assert restarts({"TORCHELASTIC_RESTART_COUNT": "3"}) == 3
    for nonsense in ("", "x", "-1", "9" * 5000):
        with pytest.raises(InputError, match="TORCHELASTIC_RESTART_COUNT"):
            restarts({"TORCHELASTIC_RESTART_COUNT": nonsense})


def test_a_rank_by_itself_silences_nobody(tascnet, monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setenv("RANK", "1")
    assert "holds no runs" in tascnet("runs", tmp_path).out
    monkeypatch.setenv("LOCAL_RANK", "7")
    monkeypatch.setenv("WORLD_SIZE", "x")
    assert "holds no runs" in tascnet("runs", tmp_path).out  # only training depends on it
