"""The first images of a data set."""

import pytest

from tascnet.data.streets.dataset import Streets
from tascnet.data.subset import FirstImages
from tascnet.errors import InputError
from tascnet.structures import Size

FIVE = Streets(5, Size(64, 64))


def test_the_first_two_of_five():
    two = FirstImages(FIVE, 2)
    assert len(two) == 2
    assert two.label_space == FIVE.label_space
    assert [two[index].name for index in range(2)] == [FIVE[0].name, FIVE[1].name]
    assert two[-1].name == FIVE[1].name


@pytest.mark.parametrize("index", [2, -3])
def test_beyond_the_end(index: int):
    with pytest.raises(IndexError):
        FirstImages(FIVE, 2)[index]


def test_iteration_ends():
    assert [sample.image_id for sample in FirstImages(FIVE, 3)] == [FIVE[index].image_id for index in range(3)]


def test_all_of_them():
    assert len(FirstImages(FIVE, 5)) == 5


@pytest.mark.parametrize("number", [6, 0, -1])
def test_more_than_there_are_or_none(number: int):
    with pytest.raises(InputError, match=f"num_images is {number}, but the data set has 5 images; lower it"):
        FirstImages(FIVE, number)


def test_annotation_alone():
    two = FirstImages(FIVE, 2)
    assert two.annotation(1).segments == two[1].segmentation.segments
    with pytest.raises(IndexError):
        two.annotation(2)
