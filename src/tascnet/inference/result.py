"""The result for one image: its segmentation, and views, files and plain values of it, computed when they are read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import Tensor

from tascnet import convert, visualize
from tascnet.data.formats.coco import encode_ids, segments_info
from tascnet.data.images import write_png
from tascnet.errors import InputError, escape_controls
from tascnet.files import atomic_folder, atomic_path, write_json
from tascnet.fusion import Dropped, semantic_from_best
from tascnet.inference.engines.engine import HeadOutputs
from tascnet.model.roi_flatten import roi_flatten
from tascnet.model.tasc_loss import confidence_mask, doubt, residual, things_probability
from tascnet.planes.plane import Plane
from tascnet.structures import VOID, Instances, LabelSpace, PanopticSegmentation, Segment, Size

if TYPE_CHECKING:
    from pandas import DataFrame
    from supervision import Detections

PICTURE_FORMATS: Mapping[str, str] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""Suffix of a picture that `Result.save` writes -> Pillow's name of its format."""

SAVED_FILES = ("overlay.png", "panoptic.json", "panoptic.png")
"""The files of a folder that `Result.save` writes."""

NOTEBOOK_SIDE = 1024
"""Pixels: the longer side of the picture that a notebook shows."""

_COLUMNS = ("id", "category_id", "category", "isthing", "area", "bbox", "iscrowd", "score")
_CATEGORIES_SHOWN = 8


@dataclass(frozen=True, eq=False)
class Intermediates:
    """Values that lie between the network and the segmentation, on the CPU.

    Attributes:
        head_outputs: outputs of the network, which were fused.
        scored: the instances in pixels of the image, with the scores that fusion judged them by.
        best: (H, W) int16, best channel of the stuff logits for each pixel of the image.
        score_threshold: score from which on fusion used an instance.
        via_input: whether stuff logits are interpolated to the size of the input first, then to that of the image.
    """

    head_outputs: HeadOutputs
    scored: Instances
    best: Tensor
    score_threshold: float
    via_input: bool = False

    def fused_logits(self) -> Plane:
        """The stuff logits as fusion read them."""
        heads = self.head_outputs
        return heads.stuff_logits_at_input() if self.via_input else heads.stuff_logits

    def things_masks(self, num_stuff: int) -> tuple[Tensor, Tensor]:
        """M_st and M_th, (h, w) each in the cells of the stuff logits; M_th of the instances that fusion used."""
        heads = self.head_outputs
        plane, used = heads.stuff_logits, self.scored.scores >= self.score_threshold
        boxes = heads.instances.boxes[used] - heads.offset
        things_mask = roi_flatten(heads.instances.masks[used], boxes, plane.grid, heads.stride)
        return confidence_mask(things_probability(plane.values, num_stuff)), things_mask


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Panoptic segmentation of one image; everything is on the CPU.

    `semantic`, `residual`, `uncertainty` and `stuff_logits` are computed when they are first read, and then kept.

    Attributes:
        image: (3, H, W) uint8 RGB, upright.
        segmentation: the fused segmentation, (H, W).
        instances: detections before fusion, boxes in pixels of the image.
        label_space: categories of the segmentation and of the instances.
        dropped: number of candidates that each threshold of fusion dropped.
        intermediates: values that the other properties are computed from; None for a segmentation that no network
            predicted, which can be drawn, saved and converted only.
    """

    image: Tensor
    segmentation: PanopticSegmentation
    instances: Instances
    label_space: LabelSpace
    dropped: Dropped = field(default_factory=Dropped)
    intermediates: Intermediates | None = None

    @property
    def size(self) -> Size:
        """Height and width of the image."""
        return self.segmentation.size

    @property
    def scored(self) -> Instances:
        """The instances with the scores that fusion judged them by."""
        return self._intermediates.scored

    @cached_property
    def stuff_logits(self) -> Plane:
        """(C, h, w) float over the image: logits of the stuff head in its own cells."""
        return self._intermediates.head_outputs.stuff_logits

    @cached_property
    def semantic(self) -> Tensor:
        """(H, W) int64: semantic index of each pixel from the stuff head, see `fusion.semantic_from_stuff`."""
        found, num_channels = self._intermediates, len(self.stuff_logits.values)
        return semantic_from_best(found.best, num_channels, found.fused_logits, self.instances, self.label_space)

    @cached_property
    def residual(self) -> Plane:
        """(h, w) float, 0..1, in the cells of the stuff logits: |M_st - M_th| (the paper's Figure 4)."""
        return self.stuff_logits.with_values(residual(*self._things_masks))

    @cached_property
    def uncertainty(self) -> float:
        """Mean residual over the pixels that either head calls things, 0..1; needs no annotation."""
        return float(doubt(*self._things_masks))

    def mask(self, segment_id: int) -> np.ndarray:
        """Pixels of one segment.

        Returns:
            (H, W) bool.

        Raises:
            InputError: no segment has that id.
        """
        return np.equal(self.segmentation.id_map.numpy(), self._segment(segment_id).id)

    def plot(self, names: bool = True, opacity: float = 0.6) -> Image.Image:
        """Draw the segments over the image.

        Args:
            names: write the category's name into each segment that has room for it.
            opacity: of the colours, 0..1.

        Returns:
            A Pillow image of the same size.
        """
        picture = visualize.draw_segmentation(
            self.segmentation, self.label_space, self.image, opacity=opacity, names=names
        )
        return Image.fromarray(picture)

    def save(self, path: str | Path, names: bool = True) -> Path:
        """Write the result as a picture, or as a folder of files; an interrupted call leaves nothing half-written.

        Args:
            path: with a suffix of `PICTURE_FORMATS`, the picture that `plot` draws; without a suffix, a folder of
                overlay.png and, in COCO's panoptic format, panoptic.json and panoptic.png. An earlier result is
                replaced.
            names: write the categories' names into the picture.

        Returns:
            The path.

        Raises:
            InputError: the suffix is unknown, the folder contains other files, or it cannot be written.
        """
        path = Path(path)
        kind = PICTURE_FORMATS.get(path.suffix.lower())
        if kind is None and path.suffix and not path.is_dir():
            raise InputError(
                f"cannot write {path}: the suffix '{path.suffix}' is not known. Choose one of "
                f"{' '.join(PICTURE_FORMATS)} for a picture, or no suffix for a folder."
            )
        if kind is None:
            self._save_folder(path, names)
            return path
        picture = self.plot(names)
        try:
            with atomic_path(path) as temporary:
                picture.save(temporary, format=kind)
        except (OSError, ValueError) as error:  # JPEG and WebP have a largest size
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot write {path}: {error}. Check the folder, free space and the format.") from error
        return path

    def to_coco(self, image_id: int | str = 1, file_name: str | None = None) -> tuple[dict[str, Any], np.ndarray]:
        """Convert to an annotation in COCO's panoptic format and its map of ids; `convert.from_coco` is the inverse.

        Args:
            image_id: of the image.
            file_name: of the PNG that will contain the map; by default the id with the suffix .png.
        """
        return convert.to_coco(self.segmentation, image_id, f"{image_id}.png" if file_name is None else file_name)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values that JSON can hold; the pixels are left out.

        Returns:
            `{"height", "width", "segments"}`; a segment is `{"id", "category_id", "category", "isthing", "area",
            "bbox", "iscrowd", "score"}`, bbox as x, y, width, height in pixels, score None for stuff.
        """
        return {"height": self.size.height, "width": self.size.width, "segments": self._rows()}

    def to_dataframe(self) -> "DataFrame":
        """Convert to a pandas table, one row per segment, with the columns of a segment in `to_dict`.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            from pandas import DataFrame  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise InputError("pandas is not installed; it comes with: pip install 'tascnet[dataframe]'.") from error
        return DataFrame(self._rows(), columns=list(_COLUMNS))

    def to_supervision(self) -> tuple["Detections", np.ndarray]:
        """Convert to `supervision.Detections` of the things and a semantic map, see `convert.to_supervision`.

        Raises:
            InputError: the package supervision is not installed.
        """
        return convert.to_supervision(self.segmentation, self.label_space)

    def __repr__(self) -> str:
        """Size, number of segments, and their categories."""
        names = Counter(self.label_space[segment.category_id].name for segment in self.segmentation.segments)
        shown = [f"{number} {name}" for name, number in names.most_common(_CATEGORIES_SHOWN)]
        left = len(names) - len(shown)
        more = [f"{left} more {'category' if left == 1 else 'categories'}"] if left else []
        number = len(self.segmentation.segments)
        found = f"{number} segment{'' if number == 1 else 's'}" + (": " if number else "")
        return escape_controls(f"<Result {self.size.height} x {self.size.width}, {found}{', '.join(shown + more)}>")

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        picture, buffer = self.plot(), BytesIO()
        picture.thumbnail((NOTEBOOK_SIDE, NOTEBOOK_SIDE))
        picture.save(buffer, format="PNG")
        return buffer.getvalue()

    @property
    def _intermediates(self) -> Intermediates:
        if self.intermediates is None:
            raise InputError(
                "this result has no outputs of a network, from which it could be computed. Use a result of a Predictor."
            )
        return self.intermediates

    @cached_property
    def _things_masks(self) -> tuple[Tensor, Tensor]:
        return self._intermediates.things_masks(len(self.label_space.stuff))

    def _segment(self, segment_id: int) -> Segment:
        for segment in self.segmentation.segments:
            if segment.id == segment_id:
                return segment
        ids = [segment.id for segment in self.segmentation.segments]
        known = f"Ids are {', '.join(map(str, ids[:10]))}{', ...' if len(ids) > 10 else ''}." if ids else "It has none."
        hint = " 0 marks pixels without a segment: compare segmentation.id_map." if segment_id == VOID else ""
        raise InputError(f"the result has no segment {segment_id!r}. {known}{hint}")

    def _rows(self) -> list[dict[str, Any]]:
        """One dictionary per segment, with the keys `_COLUMNS`."""
        rows = []
        for info in segments_info(self.segmentation):
            category = self.label_space[info["category_id"]]
            row = {"score": None, "category": category.name, "isthing": category.is_thing} | info
            row["iscrowd"] = bool(row["iscrowd"])
            rows.append({name: row[name] for name in _COLUMNS})
        return rows

    def _save_folder(self, folder: Path, names: bool) -> None:
        _check_replaceable(folder)
        overlay_name, json_name, png_name = SAVED_FILES
        annotation, id_map = self.to_coco(1, png_name)
        image = {"id": 1, "file_name": overlay_name, "height": self.size.height, "width": self.size.width}
        with atomic_folder(folder) as temporary:
            write_png(temporary / overlay_name, np.asarray(self.plot(names)))
            write_png(temporary / png_name, encode_ids(id_map))
            content = {"images": [image], "annotations": [annotation], "categories": self.label_space.to_list()}
            write_json(temporary / json_name, content)


def _check_replaceable(folder: Path) -> None:
    """Raise InputError if something else than an earlier result would be lost by writing a folder."""
    if folder.is_symlink() or not folder.is_dir():
        return
    others = sorted(file.name for file in folder.iterdir() if file.name not in SAVED_FILES)
    if others:
        raise InputError(
            f"cannot save a result as the folder {folder}: it contains {others[0]}, which would be lost. "
            "Choose a folder that does not exist yet."
        )
