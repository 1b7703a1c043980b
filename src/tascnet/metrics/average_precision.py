"""Average precision of masks: pairs of detections and annotated segmentations -> COCO's AP figures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as rle

from tascnet.metrics.image_names import refuse_repeated
from tascnet.planes.paste import paste_instances
from tascnet.structures import Instances, LabelSpace, PanopticSegmentation, Size, run_starts

_AT_50, _AT_75 = 0, 5  # positions among the IoU thresholds 0.50, 0.55, ..., 0.95
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)  # positions among the areas


@dataclass(frozen=True)
class AveragePrecisionResult:
    """Average precision of masks, as fractions 0..1; None where no object was annotated.

    Attributes:
        ap: mean over categories and over the IoU thresholds 0.50, 0.55, ..., 0.95.
        ap50: mean over categories at IoU 0.50.
        ap75: mean over categories at IoU 0.75.
        ap_small: as `ap`, objects of up to 32 x 32 pixels.
        ap_medium: as `ap`, objects from 32 x 32 to 96 x 96 pixels.
        ap_large: as `ap`, objects from 96 x 96 pixels.
        per_category: category id -> its part of `ap`, in the order of the label space; only categories with an
            annotated object that is no crowd.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    per_category: dict[int, float]


@dataclass(frozen=True)
class _ImageMasks:
    """One image's masks as COCO writes them, without ids: run-length codes, a few dozen bytes each."""

    size: Size
    annotated: list[dict[str, Any]]
    detected: list[dict[str, Any]]


class AveragePrecision:
    """COCO's mask AP of detections against the things of panoptic annotations, through faster-coco-eval.

    COCO's rules: of each image at most the 100 best detections of a category count; crowds match any number of
    detections and count neither as found nor as missed. The size of an object is counted from its pixels.

    The state is the run-length codes of all masks by the image's name: it can be pickled and sent between processes.
    Images are evaluated in the order of their names, so the result does not depend on how they were divided.
    """

    def __init__(self, label_space: LabelSpace) -> None:
        self.label_space = label_space
        self._images: dict[str, _ImageMasks] = {}

    def update(self, prediction: Instances, annotation: PanopticSegmentation, name: str) -> None:
        """Add one image.

        Args:
            prediction: N detections, their boxes in pixels of the annotated image.
            annotation: (H, W); its stuff is not looked at.
            name: identifies the image; unique in the data set.

        Raises:
            InputError: an image of that name was added before, a category is unknown, or a label is no thing index.
        """
        refuse_repeated([name], self._images)
        self._images[name] = _ImageMasks(
            size=annotation.size,
            annotated=_annotated_masks(annotation, self.label_space),
            detected=_detected_masks(prediction, annotation.size, self.label_space),
        )

    def merge(self, other: "AveragePrecision") -> None:
        """Add the images of another process; `other` stays as it is.

        Raises:
            ValueError: it counts in another label space.
            InputError: an image was added to both.
        """
        if other.label_space != self.label_space:
            raise ValueError("only metrics of the same label space can be merged.")
        refuse_repeated(other._images, self._images)
        self._images.update(other._images)

    def compute(self) -> AveragePrecisionResult:
        """The figures over all images so far."""
        things, precision = self._precision()
        by_thing = [_mean(precision[:, :, place, _ALL]) for place in range(len(things))]
        return AveragePrecisionResult(
            ap=_mean(precision[..., _ALL]),
            ap50=_mean(precision[_AT_50, ..., _ALL]),
            ap75=_mean(precision[_AT_75, ..., _ALL]),
            ap_small=_mean(precision[..., _SMALL]),
            ap_medium=_mean(precision[..., _MEDIUM]),
            ap_large=_mean(precision[..., _LARGE]),
            per_category={
                self.label_space.things[thing].id: ap
                for thing, ap in zip(things, by_thing, strict=True)
                if ap is not None
            },
        )

    def _precision(self) -> tuple[list[int], np.ndarray]:
        """The things that are annotated, T thing indices in order, and interpolated precision.

        That is (IoU thresholds, recalls, T, areas), -1 where no object was annotated. Detections of other things count
        nowhere, and leaving them out spares their share of the table: 97 KB a category.
        """
        images = [self._images[name] for name in sorted(self._images)]
        annotated = _numbered([image.annotated for image in images])
        classes = {mask["category_id"] for mask in annotated}  # thing index + 1: any id may be theirs in the data set
        things = sorted(number - 1 for number in classes)
        if not annotated:
            return things, np.full((_AT_75 + 1, 1, 0, _LARGE + 1), -1.0)
        dataset = COCO(
            {
                "images": [
                    {"id": number, "height": image.size.height, "width": image.size.width}
                    for number, image in enumerate(images, start=1)
                ],
                "categories": [{"id": thing + 1} for thing in things],
                "annotations": annotated,
            }
        )
        detections = [[mask for mask in image.detected if mask["category_id"] in classes] for image in images]
        evaluation = COCOeval_faster(
            dataset, dataset.loadRes(_numbered(detections)), iouType="segm", print_function=_print_nothing
        )
        evaluation.evaluate()
        evaluation.accumulate()
        precision: np.ndarray = evaluation.eval["precision"][..., -1]  # the last of 1, 10, 100 detections
        return things, precision


def _annotated_masks(annotation: PanopticSegmentation, label_space: LabelSpace) -> list[dict[str, Any]]:
    """The things of one image as COCO annotations, without ids."""
    # Column by column, as run-length codes go, the index map is cut into runs once for all segments.
    index_map = annotation.index_map().T.contiguous().numpy().ravel()
    starts = run_starts(index_map)
    ends = np.append(starts[1:], index_map.size)
    # and the runs are sorted by segment once: those of one segment are then side by side, in their order
    runs_by_segment = np.argsort(index_map[starts], kind="stable")
    segment_of_run = index_map[starts[runs_by_segment]]
    first_run = np.searchsorted(segment_of_run, np.arange(len(annotation.segments) + 2))
    masks = []
    for index, segment in enumerate(annotation.segments, start=1):
        if not label_space[segment.category_id].is_thing:
            continue
        runs = runs_by_segment[first_run[index] : first_run[index + 1]]
        masks.append(
            {
                "category_id": label_space.thing_index(segment.category_id) + 1,
                "segmentation": _run_length_code(np.stack([starts[runs], ends[runs]], axis=1).ravel(), annotation.size),
                "area": int((ends[runs] - starts[runs]).sum()),
                "iscrowd": int(segment.is_crowd),
            }
        )
    return masks


def _detected_masks(instances: Instances, size: Size, label_space: LabelSpace) -> list[dict[str, Any]]:
    """The detections of one image as COCO results, without ids."""
    masks = []
    for label, score, pasted in paste_instances(instances, size, len(label_space.things)):
        # The columns that the box covers, one after the other in full height, between two pixels that are empty: so a
        # run may end one column and begin the next, and each edge is a change between neighbours.
        rows, columns = pasted.window
        padded = np.zeros(pasted.pixels.shape[1] * size.height + 2, dtype=bool)
        padded[1:-1].reshape(-1, size.height)[:, rows] = pasted.pixels.numpy().T
        edges = np.flatnonzero(padded[1:] != padded[:-1]) + columns.start * size.height
        masks.append({"category_id": label + 1, "score": score, "segmentation": _run_length_code(edges, size)})
    return masks


def _run_length_code(edges: np.ndarray, size: Size) -> dict[str, Any]:
    """COCO's compressed code of a mask, given where its runs start and end by turns, counted down the columns."""
    counts = np.diff(edges, prepend=0, append=size.height * size.width)
    code: dict[str, Any] = rle.frPyObjects({"counts": counts.tolist(), "size": list(size)}, size.height, size.width)
    return code


def _numbered(masks_of_images: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All masks in one list, with ids from 1 and the numbers of their images, from 1. The masks are copied."""
    masks = [{**mask, "image_id": number} for number, masks in enumerate(masks_of_images, start=1) for mask in masks]
    return [{**mask, "id": number} for number, mask in enumerate(masks, start=1)]


def _mean(precision: np.ndarray) -> float | None:
    """Mean of what is defined; None if nothing is."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None


def _print_nothing(*_: object) -> None:
    """Stands in for the evaluation's own reports."""
