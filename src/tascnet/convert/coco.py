"""PanopticSegmentation <-> COCO panoptic dictionaries with a map of ids. All of it comes back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from tascnet.convert.checks import integers, require_keys, segment_of, validated
from tascnet.data.formats.coco import decode_ids, segments_info
from tascnet.structures import LabelSpace, PanopticSegmentation


def to_coco(
    segmentation: PanopticSegmentation, image_id: int | str, file_name: str
) -> tuple[dict[str, Any], np.ndarray]:
    """The entry of an image in COCO panoptic JSON, and its map of segment ids.

    Args:
        segmentation: of one image.
        image_id: of the image.
        file_name: of the PNG that will hold the map; `data.coco.write_coco_panoptic` writes whole data sets.

    Returns:
        `{"image_id", "file_name", "segments_info"}`, where a segment is `{"id", "category_id", "area", "bbox",
        "iscrowd"}` and has a "score" where it is set, bbox as x, y, width, height in pixels; and (H, W) int32,
        0 where VOID.
    """
    annotation = {"image_id": image_id, "file_name": file_name, "segments_info": segments_info(segmentation)}
    return annotation, segmentation.id_map.numpy().copy()


def from_coco(
    annotation: Mapping[str, Any], id_map: np.ndarray | Tensor, label_space: LabelSpace
) -> PanopticSegmentation:
    """The inverse of `to_coco`. Areas and boxes are not read: they are counted from the pixels.

    Args:
        annotation: an object with `segments_info`.
        id_map: (H, W) integers, or the pixels of COCO's PNG, (H, W, 3) uint8, id = red + 256 green + 65536 blue.
        label_space: its categories.

    Raises:
        InputError: a segment lacks its id or category, its category is unknown, or map and segments disagree.
    """
    require_keys(annotation, ("segments_info",), "a COCO annotation")
    ids = integers(id_map, "an id map")
    if ids.ndim == 3 and ids.shape[2] == 3 and ids.dtype == np.uint8:
        ids = decode_ids(ids)
    return validated(ids, [segment_of(entry, label_space) for entry in annotation["segments_info"]], label_space)
