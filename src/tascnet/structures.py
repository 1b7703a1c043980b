"""The nouns that run through everything: label space, segments, instances, targets.

Shapes are written in one notation throughout the project:

    B  images in a batch            H, W  image height and width in pixels
    N  instances of one image       h, w  the same at stride 4: H / 4, W / 4
    K  categories = K_st stuff + K_th things
    M  side of an instance's mask inside its box, 28 by default

Boxes are (x0, y0, x1, y1) in pixels of the image they come with; pixel (row i, column j) covers [j, j+1) x [i, i+1).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from tascnet.errors import InputError
from tascnet.precision import full_precision
from tascnet.values import color, flag, shown, text, whole

VOID = 0
"""The id of unlabelled pixels in every id map, as in COCO panoptic."""

IGNORE = -1
"""The value of unlabelled pixels in every semantic map; category indices start at 0."""

MAX_SEGMENT_ID = 256**3 - 1
"""Largest segment id: ids are stored as 24-bit colours."""


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


@dataclass(frozen=True)
class Category:
    """One category of a data set.

    Attributes:
        id: the data set's own number, any non-negative integer.
        name: the data set's own name.
        is_thing: True where objects are counted one by one, False for stuff.
        color: (red, green, blue), 0-255.
        supercategory: the group it belongs to; empty if the data set has none.
    """

    id: int
    name: str
    is_thing: bool
    color: tuple[int, int, int] = (128, 128, 128)
    supercategory: str = ""


@dataclass(frozen=True)
class LabelSpace:
    """The categories of a data set, and the only translator between its ids and contiguous indices.

    Outside `model/` a category is known by its data set id. Inside, there are two contiguous numberings:

    * the *semantic index*, 0..K-1: stuff categories first, then things, each in the order of `categories`;
    * the *thing index*, 0..K_th-1: the semantic index less K_st.
    """

    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        ids = [category.id for category in self.categories]
        if not ids:
            raise InputError("a label space needs at least one category; the list of categories is empty.")
        repeated = _repeated(ids)
        if repeated:
            raise InputError(
                f"category ids [{_some(repeated)}] appear more than once; give each category an id of its own."
            )

    @cached_property
    def stuff(self) -> tuple[Category, ...]:
        """Stuff categories, in order of semantic index."""
        return tuple(category for category in self.categories if not category.is_thing)

    @cached_property
    def things(self) -> tuple[Category, ...]:
        """Thing categories, in order of thing index."""
        return tuple(category for category in self.categories if category.is_thing)

    @cached_property
    def by_index(self) -> tuple[Category, ...]:
        """All categories in order of semantic index."""
        return self.stuff + self.things

    @cached_property
    def by_id(self) -> Mapping[int, Category]:
        """Category id -> category."""
        return {category.id: category for category in self.categories}

    @cached_property
    def _index_of(self) -> Mapping[int, int]:
        return {category.id: index for index, category in enumerate(self.by_index)}

    @cached_property
    def _place_of(self) -> Mapping[int, int]:
        return {category.id: place for place, category in enumerate(self.categories)}

    @cached_property
    def _number_of_name(self) -> Mapping[str, int]:
        return Counter(category.name for category in self.categories)

    def __contains__(self, category_id: int) -> bool:
        return category_id in self.by_id

    def __getitem__(self, category_id: int) -> Category:
        """The category with that id.

        Raises:
            InputError: the id is not in this label space.
        """
        try:
            return self.by_id[category_id]
        except KeyError:
            known = ", ".join(str(i) for i in sorted(self.by_id)[:12])
            raise InputError(
                f"category id {category_id} is unknown; this label space has {len(self.categories)} categories "
                f"({known}{', ...' if len(self.categories) > 12 else ''}). "
                "Add it to the list of categories or mend the annotation."
            ) from None

    def semantic_index(self, category_id: int) -> int:
        """Data set id -> semantic index, 0..K-1; raises `InputError` for an unknown id."""
        return self._index_of[self[category_id].id]

    def thing_index(self, category_id: int) -> int:
        """Data set id of a thing category -> thing index, 0..K_th-1."""
        return self.semantic_index(category_id) - len(self.stuff)

    def unique_name(self, category_id: int) -> str:
        """The category's name, and its id behind it where another category has the same name."""
        name = self[category_id].name
        return f"{name} ({category_id})" if self._number_of_name[name] > 1 else name

    def in_order(self, category_ids: Iterable[int]) -> list[int]:
        """Some of its category ids, in the order of `categories`."""
        return sorted(category_ids, key=self._place_of.__getitem__)

    def to_list(self) -> list[dict[str, Any]]:
        """The categories as COCO panoptic JSON writes them."""
        return [
            {
                "id": category.id,
                "name": category.name,
                "isthing": int(category.is_thing),
                "color": list(category.color),
                "supercategory": category.supercategory,
            }
            for category in self.categories
        ]

    @classmethod
    def from_list(cls, categories: Iterable[Mapping[str, Any]]) -> Self:
        """The inverse of `to_list`. Colours that are missing or null are chosen; `isthing` must be given.

        Numbers may be text, as some tools write them: "isthing": "0" is stuff. `values` lists what is accepted.

        Raises:
            InputError: a category lacks its id, name or `isthing`, or one of its values is of another kind.
        """
        return cls(tuple(_category_from(entry, position) for position, entry in enumerate(categories)))

    def merge(self, group_of: Callable[[Category], str | None], names: Iterable[str] = ()) -> "CategoryMerge":
        """Merge all categories for which `group_of` gives the same name; one for which it gives None becomes VOID.

        Merged ids are 1, 2, ... in the order of `names`, and behind those in order of appearance; a merged category
        has the colour of its first.

        Raises:
            InputError: a group would hold both things and stuff, or no category is left.
        """
        members: dict[str, list[Category]] = {name: [] for name in names}
        for category in self.categories:
            name = group_of(category)
            if name is not None:
                members.setdefault(name, []).append(category)
        merged, target_of = [], {}
        for new_id, (name, group) in enumerate(members.items(), start=1):
            if len({category.is_thing for category in group}) > 1:
                mixed = ", ".join(
                    f"{category.name} ({'thing' if category.is_thing else 'stuff'})" for category in group
                )
                raise InputError(f"group '{name}' mixes things and stuff: {mixed}. Split it in two.")
            merged.append(Category(new_id, name, group[0].is_thing, group[0].color, name))
            target_of.update({category.id: new_id for category in group})
        return CategoryMerge(source=self, target=LabelSpace(tuple(merged)), target_of=target_of)


def _category_from(entry: Mapping[str, Any], position: int) -> Category:
    """One entry of a list of categories; `position` in the list chooses its colour where it has none."""
    if not isinstance(entry, Mapping):
        raise InputError(f"category number {position} is {shown(entry)}; each is an object with id, name and isthing.")
    missing = [key for key in ("id", "name", "isthing") if entry.get(key) in (None, "")]
    if missing:
        raise InputError(
            f"category number {position} ({shown(dict(entry))}) lacks {', '.join(missing)}; "
            "each needs id, name and isthing (1 for things, 0 for stuff)."
        )
    given_color, supercategory = entry.get("color"), entry.get("supercategory")
    try:
        return Category(
            id=whole(entry["id"]),
            name=text(entry["name"]),
            is_thing=flag(entry["isthing"]),
            color=distinct_color(position) if given_color is None else color(given_color),
            supercategory="" if supercategory is None else text(supercategory),
        )
    except ValueError as error:
        raise InputError(f"category {shown(entry['name'])}: {error}. Correct the entry.") from error


@dataclass(frozen=True)
class CategoryMerge:
    """A mapping from one label space onto a coarser one.

    Attributes:
        source: the label space of the annotation.
        target: the merged label space.
        target_of: category id in `source` -> category id in `target`; categories that are not in it become VOID.
    """

    source: LabelSpace
    target: LabelSpace
    target_of: Mapping[int, int]

    def merged_ids(self, category_ids: Iterable[int]) -> frozenset[int]:
        """The merged ids of some categories of `source`; those that become VOID are left out."""
        return frozenset(self.target_of[category_id] for category_id in category_ids if category_id in self.target_of)

    def __call__(self, segmentation: "PanopticSegmentation") -> "PanopticSegmentation":
        """Rename the categories of a segmentation; stuff segments that now share a category become one."""
        kept: dict[int, Segment] = {}
        stuff_segment: dict[int, int] = {}  # merged stuff category -> id of its one segment
        new_ids = [VOID]
        for segment in segmentation.segments:
            category_id = self.target_of.get(self.source[segment.category_id].id)
            if category_id is None:
                new_ids.append(VOID)
                continue
            new_id = segment.id
            if not self.target[category_id].is_thing:
                new_id = stuff_segment.setdefault(category_id, segment.id)
            new_ids.append(new_id)
            if new_id in kept:
                kept[new_id] = replace(kept[new_id], area=kept[new_id].area + segment.area)
            else:
                kept[new_id] = replace(segment, category_id=category_id)
        id_map = torch.tensor(new_ids, dtype=torch.int32)[segmentation.index_map()]
        return PanopticSegmentation(id_map, tuple(kept.values()))


@dataclass(frozen=True)
class Segment:
    """One segment: a stuff region, an object, or a crowd of objects.

    Attributes:
        id: its value in the id map, 1..2**24-1, unique in the image.
        category_id: the data set's own id.
        area: number of pixels, counted from the id map.
        is_crowd: a region of uncounted objects of one category; annotation only.
        score: confidence, 0..1; None in annotations.
    """

    id: int
    category_id: int
    area: int
    is_crowd: bool = False
    score: float | None = None


@dataclass(frozen=True, eq=False)
class PanopticSegmentation:
    """A map of segment ids and the segments in it. Annotation and prediction differ only in the scores.

    Invariants: every id in the map is a segment's or VOID; every segment has pixels; ids are unique; areas are
    counted from the pixels. `from_id_map` establishes them, `validate` checks them.

    Attributes:
        id_map: (H, W) int32 on the CPU.
        segments: in any order.
    """

    id_map: Tensor
    segments: tuple[Segment, ...]

    @classmethod
    def from_id_map(cls, id_map: Tensor | np.ndarray, segments: Iterable[Segment]) -> Self:
        """Build a segmentation, counting each segment's area from the pixels (given areas are not believed).

        Args:
            id_map: (H, W), any integer type.
            segments: one for each id in the map.

        Raises:
            InputError: the map is not two-dimensional or not of integers, an id in the map has no segment,
                a segment has no pixel, or an id is used twice.
        """
        ids = id_map.cpu().numpy() if isinstance(id_map, Tensor) else id_map
        if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
            raise InputError(f"an id map is (height, width) of integers; got shape {tuple(ids.shape)}, {ids.dtype}.")
        # a larger type is looked at before it is given up: in int32, 2**32 + 7 would be 7
        if ids.dtype != np.int32 and ids.size and not VOID <= ids.min() <= ids.max() <= MAX_SEGMENT_ID:
            raise InputError(
                f"the id map holds ids {ids.min()} to {ids.max()}; ids are in 1..{MAX_SEGMENT_ID}, {VOID} means VOID."
            )
        uncounted = cls(torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int32)), tuple(segments))
        areas = uncounted.count_areas()
        segmentation = cls(
            uncounted.id_map,
            tuple(replace(segment, area=areas[segment.id]) for segment in uncounted.segments),
        )
        empty = [segment.id for segment in segmentation.segments if segment.area == 0]
        if empty:
            raise InputError(f"segments {_some(empty)} have no pixel in the id map; remove them or mend the map.")
        return segmentation

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        height, width = self.id_map.shape
        return Size(height, width)

    def index_map(self) -> Tensor:
        """(H, W) int32: 0 where VOID, k + 1 in the pixels of `segments[k]`.

        Raises:
            InputError: an id in the map has no segment, an id is used twice, or an id is out of range.
        """
        run_indices, lengths = self._runs()
        return torch.from_numpy(np.repeat(run_indices, lengths).reshape(self.id_map.shape))

    def count_areas(self) -> dict[int, int]:
        """Segment id -> number of its pixels."""
        run_indices, lengths = self._runs()
        counts = np.bincount(run_indices, lengths, minlength=len(self.segments) + 1)  # float64: exact for all pictures
        return {segment.id: int(count) for segment, count in zip(self.segments, counts[1:], strict=True)}

    def _runs(self) -> tuple[np.ndarray, np.ndarray]:
        """The runs of equal ids in reading order: (R,) int32 values of `index_map`, and (R,) int64 numbers of pixels.

        Segments are large: an id is looked up, and pixels are counted, once a run and not once a pixel.
        """
        ids = [segment.id for segment in self.segments]
        if len(set(ids)) != len(ids):
            raise InputError(f"segment ids {_some(_repeated(ids))} are used twice; ids are unique in an image.")
        out_of_range = [i for i in ids if not VOID < i <= MAX_SEGMENT_ID]
        if out_of_range:
            raise InputError(f"segment ids {_some(out_of_range)} are not in 1..{MAX_SEGMENT_ID}; {VOID} means VOID.")
        id_map = self.id_map.numpy().ravel()
        starts = run_starts(id_map)
        run_ids = id_map[starts]
        smallest = int(run_ids.min(initial=0))
        if smallest < 0:
            raise InputError(
                f"the id map has negative ids (smallest {smallest}); ids are in 1..{MAX_SEGMENT_ID}, {VOID} means VOID."
            )
        known = np.array([VOID, *ids])
        indices = np.argsort(known).astype(np.int32)  # VOID has index 0, `segments[k]` has k + 1
        positions = np.searchsorted(known, run_ids, sorter=indices).clip(max=len(ids))
        run_indices = indices[positions]
        unknown = known[run_indices] != run_ids
        if unknown.any():
            raise InputError(
                f"ids {_some(np.unique(run_ids[unknown]).tolist())} in the id map have no segment; "
                f"list them or set those pixels to {VOID}."
            )
        return run_indices, np.diff(starts, append=id_map.size)

    def validate(self, label_space: LabelSpace | None = None) -> Self:
        """Check all invariants, and the categories if a label space is given; return self.

        Raises:
            InputError: naming the invariant that does not hold.
        """
        if self.id_map.ndim != 2 or self.id_map.is_floating_point():
            raise InputError(
                f"an id map is (height, width) of integers; got shape {tuple(self.id_map.shape)}, {self.id_map.dtype}."
            )
        areas = self.count_areas()
        for segment in self.segments:
            if areas[segment.id] == 0:
                raise InputError(f"segment {segment.id} has no pixel in the id map.")
            if areas[segment.id] != segment.area:
                raise InputError(f"segment {segment.id} has {areas[segment.id]} pixels, its area says {segment.area}.")
            if label_space is not None and segment.is_crowd and not label_space[segment.category_id].is_thing:
                raise InputError(
                    f"segment {segment.id} is a crowd of '{label_space[segment.category_id].name}', "
                    "which is stuff; only things form crowds."
                )
            if label_space is not None:
                label_space[segment.category_id]  # raises where unknown
        return self

    def semantic_map(self, label_space: LabelSpace) -> Tensor:
        """(H, W) int64: the semantic index of each pixel, IGNORE where VOID. Crowds count as their category."""
        indices = [IGNORE] + [label_space.semantic_index(segment.category_id) for segment in self.segments]
        # four times as fast as a tensor's index
        return torch.from_numpy(np.array(indices, dtype=np.int64).take(self.index_map().numpy()))


@dataclass(frozen=True, eq=False)
class Instances:
    """Detections of one image, in descending order of score.

    Attributes:
        boxes: (N, 4) float, x0 y0 x1 y1 in pixels of the image they belong to.
        labels: (N,) int64, thing index 0..K_th-1.
        scores: (N,) float, 0..1.
        masks: (N, M, M) float, 0..1: probability of the object on an M x M grid inside its box.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor | slice) -> "Instances":
        """The instances that an index, a boolean mask or a slice selects."""
        return Instances(self.boxes[index], self.labels[index], self.scores[index], self.masks[index])

    def resized(self, scale_x: float, scale_y: float) -> "Instances":
        """The same instances in an image that is `scale_x` times as wide and `scale_y` times as high."""
        boxes = full_precision(self.boxes)
        x, y = boxes[:, 0::2] * scale_x, boxes[:, 1::2] * scale_y  # numbers, no tensor to be carried over
        return replace(self, boxes=torch.stack((x, y), dim=2).flatten(1))

    def to(self, device: torch.device | str) -> "Instances":
        """The same instances on another device."""
        return Instances(self.boxes.to(device), self.labels.to(device), self.scores.to(device), self.masks.to(device))


@dataclass(frozen=True, eq=False)
class Target:
    """What the network shall find in one image, in contiguous indices.

    Masks are not held as N planes: a panoptic annotation has no overlaps, so one map holds them all.

    Attributes:
        boxes: (N, 4) float, tight around the masks.
        labels: (N,) int64, thing index 0..K_th-1. Crowds are not among the instances.
        instance_map: (H, W) int32, k + 1 in the pixels of instance k, 0 elsewhere.
        semantic: (H, W) int64, semantic index 0..K-1 (stuff, then things), IGNORE where VOID.
    """

    boxes: Tensor
    labels: Tensor
    instance_map: Tensor
    semantic: Tensor

    def to(self, device: torch.device | str) -> "Target":
        """The same target on another device."""
        return Target(
            self.boxes.to(device), self.labels.to(device), self.instance_map.to(device), self.semantic.to(device)
        )


def run_starts(*arrays: np.ndarray) -> np.ndarray:
    """Where runs of equal values begin: all positions at which one of the arrays differs from the one before, and 0.

    Args:
        arrays: (L,), at least one, all of the same length.

    Returns:
        (number of runs,) int64, ascending; empty if the arrays are.
    """
    changes = np.ones(len(arrays[0]), dtype=bool)
    changes[1:] = arrays[0][1:] != arrays[0][:-1]
    for array in arrays[1:]:
        changes[1:] |= array[1:] != array[:-1]
    return np.flatnonzero(changes)


def distinct_color(index: int) -> tuple[int, int, int]:
    """A colour for category number `index`: far from those of its neighbours, never near black or white."""
    hue = index * 0.618033988749895 % 1.0  # golden ratio: consecutive hues are as far apart as can be
    value = (0.95, 0.75, 0.6)[index % 3]
    saturation = (0.65, 0.85)[index // 3 % 2]
    sextant, fraction = int(hue * 6), hue * 6 % 1
    low, falling, rising = (
        value * (1 - saturation),
        value * (1 - saturation * fraction),
        value * (1 - saturation * (1 - fraction)),
    )
    red, green, blue = (
        (value, rising, low), (falling, value, low), (low, value, rising),
        (low, falling, value), (rising, low, value), (value, low, falling),
    )[sextant]  # fmt: skip
    return round(red * 255), round(green * 255), round(blue * 255)


def _repeated(ids: Iterable[int]) -> set[int]:
    """Those that come more than once."""
    return {i for i, number in Counter(ids).items() if number > 1}


def _some(values: Iterable[int]) -> str:
    """The first few of many numbers, for an error message."""
    ordered = sorted(values)
    return ", ".join(map(str, ordered[:5])) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")
