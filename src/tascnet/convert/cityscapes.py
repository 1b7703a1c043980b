"""Results -> the files that the Cityscapes benchmark evaluates: semantic, instance and panoptic.

Each kind has a folder of its own, because the official scripts take any file that begins with a picture's name.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from tascnet.data.formats.cityscapes import PHOTO_SUFFIX
from tascnet.data.formats.cityscapes_labels import CITYSCAPES, UNLABELED
from tascnet.data.formats.coco import NamedSegmentation, write_coco_panoptic
from tascnet.data.images import write_png
from tascnet.errors import InputError
from tascnet.files import atomic_folder, check_writable, write_text
from tascnet.planes.paste import paste_instances
from tascnet.structures import IGNORE, Instances, Size


def write_semantic(folder: str | Path, name: str, semantic_map: Tensor) -> Path:
    """Write the semantic segmentation of one picture as a PNG of labelIds.

    Args:
        folder: for the semantic results alone.
        name: of the picture, `<city>_<sequence>_<frame>`.
        semantic_map: (H, W) integer, semantic index in `CITYSCAPES` (its train id), or IGNORE, which becomes
            "unlabeled". `PanopticSegmentation.semantic_map` gives it, or `Predictor.predict(...).semantic`.

    Returns:
        The file, `folder`/NAME_labelIds.png.

    Raises:
        InputError: the name cannot be used, a value is no semantic index, or the file cannot be written.
    """
    _check_name(name)
    num_categories = len(CITYSCAPES.by_index)
    indices = semantic_map.numpy(force=True)
    if indices.size and not IGNORE <= indices.min() <= indices.max() < num_categories:
        raise InputError(
            f"the semantic map of '{name}' has values from {indices.min()} to {indices.max()}; those of Cityscapes are "
            f"0..{num_categories - 1}, and {IGNORE} where nothing is labelled. Was it made with other categories?"
        )
    label_ids = np.array([category.id for category in CITYSCAPES.by_index] + [UNLABELED], dtype=np.uint8)
    path = Path(folder) / f"{name}_labelIds.png"
    write_png(path, label_ids[indices])  # IGNORE is -1: the last
    return path


def write_instances(folder: str | Path, name: str, instances: Instances, size: Size) -> Path:
    """Write the detections of one picture: a text file with a line for each, and a folder with the mask of each.

    A line is `NAME/0000.png labelId score`. The masks are grey PNGs of the picture's size, 255 on the object. What an
    earlier call has written for that picture is removed first, and the text file is written last: where there is one,
    its masks are complete. Detections without pixels are left out, as the benchmark does not count them.

    Args:
        folder: for the instance results alone.
        name: of the picture, `<city>_<sequence>_<frame>`.
        instances: labels are thing indices in `CITYSCAPES`; boxes in pixels of the picture.
        size: of the picture.

    Returns:
        The text file, `folder`/NAME.txt.

    Raises:
        InputError: the name cannot be used, a label is no thing index, or a file cannot be written.
    """
    _check_name(name)
    if len(name.split()) != 1:
        raise InputError(
            f"instance results cannot be written under the name '{name}': a space ends a field in the benchmark's text "
            "files. Use a name without, such as city_sequence_frame."
        )
    path = check_writable(folder) / f"{name}.txt"
    path.unlink(missing_ok=True)
    plane = np.zeros(size, dtype=np.uint8)
    lines: list[str] = []
    with atomic_folder(Path(folder) / name) as masks:
        for thing, score, mask in paste_instances(instances, size, len(CITYSCAPES.things)):
            if not mask.pixels.any():
                continue
            file_name = f"{len(lines):04d}.png"
            window = plane[mask.window]
            window[mask.pixels.numpy()] = 255
            write_png(masks / file_name, plane)
            window[:] = 0
            # repr: the shortest number that reads back equal
            lines.append(f"{name}/{file_name} {CITYSCAPES.things[thing].id} {score!r}\n")
    write_text(path, "".join(lines))
    return path


def write_panoptic(folder: str | Path, split: str, items: Iterable[NamedSegmentation]) -> Path:
    """Write segmentations as the panoptic evaluation wants them: a JSON file and beside it a folder of PNGs.

    Args:
        folder: for the panoptic results.
        split: such as "val"; it names the files.
        items: `image_id` and `name` are `<city>_<sequence>_<frame>`; a `Sample` of `Cityscapes` is one.

    Returns:
        The JSON file, `folder`/cityscapes_panoptic_SPLIT.json.

    Raises:
        InputError: as `write_coco_panoptic`.
    """
    path = Path(folder) / f"cityscapes_panoptic_{split}.json"
    write_coco_panoptic(path, CITYSCAPES, items, lambda item: f"{item.name}{PHOTO_SUFFIX}")
    return path


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise InputError(
            f"results cannot be written under the name '{name}', which is no plain file name. Use city_sequence_frame."
        )
