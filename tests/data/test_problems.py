"""Problems and their kinds."""

import pytest

from tascnet.data.problems import DataError, Kind, first_few, stop
from tascnet.errors import InputError


def test_a_problem_is_the_user_s_to_mend() -> None:
    problem = DataError("a.png is broken.", Kind.UNREADABLE, "a.png")
    with pytest.raises(InputError, match=r"^a\.png is broken\.$"):
        stop(problem)
    assert (problem.kind, problem.file) == ("file cannot be read", "a.png")


def test_it_can_be_made_of_its_text_as_a_dataloader_does() -> None:
    problem = DataError("Caught DataError in DataLoader worker process 0.")
    assert (problem.kind, problem.file) == (Kind.OTHER, "")


def test_the_first_few_of_many() -> None:
    assert first_few(range(9)) == "0, 1, 2, 3, 4, 5, 6, 7 and 1 more"
    assert first_few(["a", "b"]) == "a, b"
    assert first_few([]) == ""
