"""Cityscapes' average precision: pairs of detections and annotated segmentations -> AP and AP50 of the benchmark."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tascnet.errors import InputError
from tascnet.metrics.counting import tally
from tascnet.metrics.image_names import refuse_repeated
from tascnet.planes.paste import PastedMask, paste_instances
from tascnet.structures import Instances, LabelSpace, PanopticSegmentation, Segment

MIN_OBJECT_AREA = 100
"""Pixels: a smaller object is neither found nor missed, and excuses detections as a crowd does."""

_IOU_THRESHOLDS = np.arange(0.5, 1.0, 0.05)  # written as the official script does, for the same rounding

_DETECTION = np.dtype(
    [
        ("thing", np.int32),  # thing index
        ("score", np.float64),
        ("segment", np.int64),  # position of the annotated segment of its category with the largest IoU
        ("iou", np.float64),  # with that segment
        ("is_object", np.bool_),  # that segment is an object to be found, neither crowd nor small
        ("excused", np.float64),  # share of its pixels on void, crowds and small objects
    ]
)


@dataclass(frozen=True)
class CityscapesAveragePrecisionResult:
    """Average precision by the rules of Cityscapes, as fractions 0..1; None where no object was annotated.

    Attributes:
        ap: mean over categories and over the IoU thresholds 0.50, 0.55, ..., 0.95.
        ap50: mean over categories at IoU 0.50.
        per_category: category id -> its part of `ap`, in the order of the label space; only categories with an
            annotated object that counts.
        per_category_ap50: the same at IoU 0.50.
    """

    ap: float | None
    ap50: float | None
    per_category: dict[int, float]
    per_category_ap50: dict[int, float]


@dataclass(frozen=True)
class _Image:
    """One image: a row of `_DETECTION` for each detection; the thing index of each object to be found."""

    detections: np.ndarray
    objects: np.ndarray  # (objects,)


class CityscapesAveragePrecision:
    """Mask AP of detections against the things of panoptic annotations, as the Cityscapes benchmark has it.

    Where it differs from COCO's AP:

    * there is no limit to the number of detections;
    * precision is not interpolated, and detections of equal score enter the curve together;
    * objects of less than 100 pixels are not looked for;
    * a detection that overlaps a crowd or a small object of its category by more than the IoU threshold is ignored,
      and so is one without match of which a larger share than the IoU threshold lies on void, crowds or small objects.

    Void is what the annotation has as VOID. In the official script it is a little less: caravans and trailers that
    have an object's number are not evaluated, and yet a false car on one counts as false. Given `void` with each
    image, which `Cityscapes.excusing_void` reads from the files, the figures equal the official ones.

    The state is 37 bytes a detection, by the image's name: it can be pickled and sent between processes. The result
    does not depend on how the images were divided.
    """

    def __init__(self, label_space: LabelSpace) -> None:
        self.label_space = label_space
        self._images: dict[str, _Image] = {}

    def update(
        self, prediction: Instances, annotation: PanopticSegmentation, name: str, void: Tensor | None = None
    ) -> None:
        """Add one image.

        Args:
            prediction: N detections, their boxes in pixels of the annotated image. Empty masks do not count.
            annotation: (H, W); its stuff is not looked at.
            name: identifies the image; unique in the data set.
            void: (H, W) bool, the pixels that excuse detections as void; None for the VOID of the annotation.

        Raises:
            InputError: an image of that name was added before, a category is unknown, a label is no thing index, or
                `void` has another size.
        """
        refuse_repeated([name], self._images)
        if void is not None and void.shape != annotation.id_map.shape:
            raise InputError(
                f"void of image '{name}' is {tuple(void.shape)}, its annotation {tuple(annotation.size)} (height, "
                "width); both must have one size."
            )
        num_things = len(self.label_space.things)
        segments = _AnnotatedThings(annotation, self.label_space)
        void_plane = segments.index_map == 0 if void is None else void.numpy(force=True).astype(bool)
        rows = [
            segments.compare(thing, score, pasted, int(np.count_nonzero(void_plane[pasted.window][pasted.pixels])))
            for thing, score, pasted in paste_instances(prediction, annotation.size, num_things)
            if pasted.pixels.any()
        ]
        self._images[name] = _Image(
            detections=np.array(rows, dtype=_DETECTION),
            objects=segments.things[segments.is_object],
        )

    def merge(self, other: "CityscapesAveragePrecision") -> None:
        """Add the images of another process; `other` stays as it is.

        Raises:
            ValueError: it counts in another label space.
            InputError: an image was added to both.
        """
        if other.label_space != self.label_space:
            raise ValueError("only metrics of the same label space can be merged.")
        refuse_repeated(other._images, self._images)
        self._images.update(other._images)

    def compute(self) -> CityscapesAveragePrecisionResult:
        """The figures over all images so far."""
        images = [self._images[name] for name in sorted(self._images)]
        # stable: the detections of a category keep their order
        detections = _by_falling_score(images)
        detections = detections[np.argsort(detections["thing"], kind="stable")]
        objects = np.concatenate([np.empty(0, dtype=np.int64), *(image.objects for image in images)])
        things, counts = tally(objects, len(self.label_space.things))
        first = np.searchsorted(detections["thing"], things, side="left")
        end = np.searchsorted(detections["thing"], things, side="right")
        by_category = {  # id -> AP at each threshold
            self.label_space.things[thing].id: _average_precisions(detections[first[place] : end[place]], count)
            for place, (thing, count) in enumerate(zip(things.tolist(), counts.tolist(), strict=True))
        }
        table = np.array(list(by_category.values())).reshape(-1, len(_IOU_THRESHOLDS))
        return CityscapesAveragePrecisionResult(
            ap=float(table.mean()) if len(table) else None,
            ap50=float(table[:, 0].mean()) if len(table) else None,
            per_category={category_id: float(row.mean()) for category_id, row in by_category.items()},
            per_category_ap50={category_id: float(row[0]) for category_id, row in by_category.items()},
        )


class _AnnotatedThings:
    """The annotated segments of one image, in arrays whose entry 0 is VOID: (S + 1,).

    Attributes:
        index_map: (H, W) int32, entry of each pixel.
        things: thing index, -1 for VOID and stuff.
        areas: pixels.
        is_object: to be found.
        excuses: how often a pixel of it excuses a detection of its category: the official script counts a crowd of
            less than 100 pixels twice, once as a crowd and once as small.
    """

    def __init__(self, annotation: PanopticSegmentation, label_space: LabelSpace) -> None:
        self.index_map = annotation.index_map().numpy()
        self.areas = np.bincount(self.index_map.ravel(), minlength=len(annotation.segments) + 1)
        self.things = np.array([-1, *(_thing_index(segment, label_space) for segment in annotation.segments)])
        is_crowd = np.array([False, *(segment.is_crowd for segment in annotation.segments)])
        is_small = self.areas < MIN_OBJECT_AREA
        self.is_object = (self.things >= 0) & ~is_crowd & ~is_small
        self.excuses = is_crowd.astype(int) + is_small

    def compare(self, thing: int, score: float, mask: PastedMask, on_void: int) -> tuple[int | float, ...]:
        """The row of `_DETECTION` of a detection, given its pixels and how many of them lie on void."""
        pixels = self.index_map[mask.window][mask.pixels.numpy()]
        area = len(pixels)
        touched, shared = tally(pixels, len(self.areas))
        shared = shared * (self.things[touched] == thing)
        ious = shared / (self.areas[touched] + area - shared)
        place = int(ious.argmax())  # of equal ones the first; all are 0 where it meets none of its category
        excused = (on_void + int(shared @ self.excuses[touched])) / area
        return thing, score, int(touched[place]), ious[place], self.is_object[touched[place]], excused


def _thing_index(segment: Segment, label_space: LabelSpace) -> int:
    return label_space.thing_index(segment.category_id) if label_space[segment.category_id].is_thing else -1


def _by_falling_score(images: list[_Image]) -> np.ndarray:
    """The detections of all images; `segment` is made unique across images."""
    parts = [np.empty(0, dtype=_DETECTION)]
    for number, image in enumerate(images):
        parts.append(image.detections.copy())
        parts[-1]["segment"] += number << 32  # ids have 24 bits, so there are fewer segments in an image
    detections = np.concatenate(parts)
    return detections[np.argsort(-detections["score"], kind="stable")]


def _average_precisions(detections: np.ndarray, num_objects: int) -> np.ndarray:
    """(IoU thresholds,) AP of one category.

    Args:
        detections: rows of `_DETECTION` of that category, best score first.
        num_objects: objects to be found, at least one.
    """
    result = []
    for threshold in _IOU_THRESHOLDS:
        matched = detections["iou"] > threshold
        found = np.flatnonzero(matched & detections["is_object"])
        is_true = np.zeros(len(detections), dtype=bool)
        is_true[found[np.unique(detections["segment"][found], return_index=True)[1]]] = True  # the best of each object
        is_false = np.where(matched, detections["is_object"] & ~is_true, detections["excused"] <= threshold)
        counted = is_true | is_false
        result.append(_area_under_curve(detections["score"][counted], is_true[counted], num_objects))
    return np.array(result)


def _area_under_curve(scores: np.ndarray, is_true: np.ndarray, num_objects: int) -> float:
    """The area under precision over recall.

    The curve starts at precision 1, recall 0, and has a point for each distinct score. Each point's precision holds
    halfway to its neighbours; that of the last point ends with it.

    Args:
        scores: of the detections that count, falling.
        is_true: whether each is a true positive.
        num_objects: true positives at recall 1.
    """
    last_of_score = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(scores)])
    true_positives = np.cumsum(is_true)[last_of_score]
    precision = np.append(1.0, true_positives / (last_of_score + 1))
    recall = np.append(0.0, true_positives / num_objects)
    padded = np.concatenate([[0.0], recall, recall[-1:]])
    return float(precision @ (padded[2:] - padded[:-2]) / 2)
