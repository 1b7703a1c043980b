"""Rare categories seen more often: how many times an epoch each image is shown, by the categories in it."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from tascnet.data.stream import PanopticDataset


@runtime_checkable
class ListsCategories(Protocol):
    """A data set that may list the categories of an image without reading its pixels."""

    def listed_categories(self, index: int, /) -> frozenset[int] | None:
        """Category ids of the segments of image number `index`; None where only the pixels show them."""


def listed_categories(dataset: PanopticDataset, index: int) -> frozenset[int] | None:
    """The categories in an image, where the data set lists them without reading pixels; else None."""
    return dataset.listed_categories(index) if isinstance(dataset, ListsCategories) else None


def categories_of_images(
    dataset: PanopticDataset, on_image: Callable[[int], None] = lambda done: None
) -> list[frozenset[int]]:
    """The category ids in each image of a data set; `on_image` is called with the number of images done.

    Listed categories are taken where there are some; else the annotation is read, the photo never.

    Raises:
        InputError: an annotation cannot be read.
    """
    result = []
    for index in range(len(dataset)):
        categories = listed_categories(dataset, index)
        if categories is None:
            categories = frozenset(segment.category_id for segment in dataset.annotation(index).segments)
        result.append(categories)
        on_image(index + 1)
    return result


def repeat_factors(categories: Sequence[Collection[int]], threshold: float) -> np.ndarray:
    """How often each image is shown in an epoch, on average: repeat factor sampling (Gupta et al. 2019, LVIS).

    A category c that is in a share f(c) of the images has the factor r(c) = max(1, sqrt(threshold / f(c))); an image
    has the largest factor of its categories, and 1 without any.

    Args:
        categories: the category ids in each image.
        threshold: 0..1; categories in a smaller share of the images are repeated.

    Returns:
        (number of images,) float64, each at least 1.
    """
    images_with = Counter(category for ids in categories for category in set(ids))
    factor_of = {
        category: max(1.0, (threshold * len(categories) / images) ** 0.5) for category, images in images_with.items()
    }
    return np.array([max((factor_of[category] for category in ids), default=1.0) for ids in categories])
