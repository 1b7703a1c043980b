"""Generated street scenes with exact panoptic annotation: the embedded default data set, no download.

A scene is laid out in metres (`layout`), then painted from far to near into image and segment ids at
once (`painting`), so the annotation is exact to the pixel.
"""

from dataclasses import replace
from typing import get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tascnet.data.sample import Sample
from tascnet.data.streets.canvas import Canvas
from tascnet.data.streets.categories import STREETS
from tascnet.data.streets.layout import Difficulty, lay_out_street
from tascnet.data.streets.painting import FIRST_THING, expose, paint_street
from tascnet.errors import InputError
from tascnet.structures import VOID, LabelSpace, PanopticSegmentation, Segment, Size

__all__ = ["DEFAULT_SIZE", "MIN_SIDE", "MIN_THING_AREA", "STREETS", "Streets", "render_street"]

DEFAULT_SIZE = Size(256, 512)

MIN_SIDE = 64
"""Pixels: smaller pictures hold no street."""

MIN_THING_AREA = 64
"""Pixels: a thing of which less can be seen is VOID, because nobody could annotate it."""


class Streets(Dataset[Sample]):
    """Generated street scenes, any number of them: the same on every machine, in every process, in any order.

    Scene i is made of (seed, first + i) alone, so ranges that do not overlap are independent sets of scenes:
    train on `Streets(1000)`, evaluate on `Streets(100, first=1000)`.

    Args:
        num_scenes: how many.
        size: of the pictures, at least 64 x 64; a scene looks alike at every size.
        seed: chooses one of many endless rows of scenes, 0 or more.
        first: number of the first scene in that row, 0 or more.
        difficulty: "hard" adds what the two heads of a panoptic network disagree about: crowds of overlapping things,
            small ones far away, and stuff that looks like things.

    Raises:
        InputError: a number is out of range, or there is no such difficulty.
    """

    label_space: LabelSpace = STREETS

    def __init__(
        self,
        num_scenes: int,
        size: Size = DEFAULT_SIZE,
        seed: int = 0,
        first: int = 0,
        difficulty: Difficulty = "normal",
    ):
        if min(num_scenes, seed, first) < 0:
            raise InputError(
                f"num_scenes, seed and first of the generated streets are {num_scenes}, {seed} and {first}; "
                "none may be negative. Fix the setting."
            )
        _check_size(size)
        _check_difficulty(difficulty)
        self.num_scenes, self.size, self.seed, self.first = num_scenes, Size(*size), seed, first
        self.difficulty: Difficulty = difficulty

    def __len__(self) -> int:
        return self.num_scenes

    def __getitem__(self, index: int) -> Sample:
        """Scene number `index`; negative numbers count from the end.

        Raises:
            IndexError: there is no such scene.
        """
        if not -self.num_scenes <= index < self.num_scenes:
            raise IndexError(f"there is no scene {index} among {self.num_scenes}.")
        number = self.first + index % self.num_scenes
        image, segmentation = render_street(self.seed, number, self.size, self.difficulty)
        prefix = "street" if self.difficulty == "normal" else f"{self.difficulty}_street"
        return Sample(image, segmentation, name=f"{prefix}_{self.seed}_{number:06d}", image_id=number)

    def annotation(self, index: int) -> PanopticSegmentation:
        """The annotation of scene number `index`; it is painted together with the image."""
        return self[index].segmentation


def render_street(
    seed: int, index: int, size: Size = DEFAULT_SIZE, difficulty: Difficulty = "normal"
) -> tuple[Tensor, PanopticSegmentation]:
    """Render one scene.

    Args:
        seed, index: which scene; both 0 or more.
        size: of the picture, at least 64 x 64.
        difficulty: normal or hard, as in `Streets`.

    Returns:
        (3, H, W) uint8 image, and its annotation. A stuff segment has its category's id, things have ids from 100 up.
        VOID are the own car's bonnet, an unlabelled border, bins, and things of which less than 64 pixels can be seen.

    Raises:
        InputError: the size is too small, or there is no such difficulty.
    """
    _check_size(size)
    _check_difficulty(difficulty)
    generator = np.random.Generator(np.random.PCG64([seed, index]))
    street = lay_out_street(generator, difficulty)
    canvas = Canvas.blank(Size(*size))
    segments = paint_street(canvas, street)
    image, ids = expose(canvas, street, generator), canvas.ids
    if street.mirrored:
        image, ids = image[:, :, ::-1], ids[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(image)), _annotate(ids, segments)


def _annotate(ids: np.ndarray, segments: list[Segment]) -> PanopticSegmentation:
    """Keep the segments that can be seen; things of which too little is seen become VOID."""
    areas = np.bincount(ids.ravel(), minlength=FIRST_THING + len(segments)).tolist()
    kept = np.full(len(areas), VOID, np.int32)
    seen = []
    for segment in segments:
        area = areas[segment.id]
        if area >= (MIN_THING_AREA if segment.id >= FIRST_THING else 1):
            kept[segment.id] = segment.id
            seen.append(replace(segment, area=area))
    return PanopticSegmentation(torch.from_numpy(kept[ids]), tuple(seen))


def _check_size(size: Size) -> None:
    height, width = size
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"generated streets of {height} x {width} pixels (height x width) are too small; "
            f"both sides must be at least {MIN_SIDE}. Choose a larger size."
        )


def _check_difficulty(difficulty: str) -> None:
    if difficulty not in get_args(Difficulty):
        raise InputError(
            f"difficulty of the generated streets is {difficulty!r}; it must be {' or '.join(get_args(Difficulty))}. "
            "Fix the setting."
        )
