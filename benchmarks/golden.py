"""What our network computes from a detectron2 checkpoint, beside what detectron2 computed from it.

python benchmarks/golden.py --golden ../shared/golden

The folder holds a small Panoptic FPN in the layout of detectron2's model zoo (panoptic_fpn_tiny.pkl) with its outputs
for one photo (.npz, .json). "relative" is the norm of the difference over the norm of what detectron2 computed.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation

from tascnet.inference.engines.engine import HeadOutputs
from tascnet.inference.predictor import Predictor
from tascnet.networks.foreign.foreign import read_foreign
from tascnet.networks.foreign.layout import Foreign
from tascnet.planes.paste import paste_mask
from tascnet.structures import Instances, LabelSpace, PanopticSegmentation, Size

SHORT_SIDE = 320  # pixels, of the golden input
EVERY = 8  # rows and columns at which semantic logits are stored


class Difference(NamedTuple):
    """Of one array: the largest absolute difference, the largest value, and the relative difference."""

    array: str
    largest: float
    value: float
    relative: float


class Agreement(NamedTuple):
    """Of one map: the share of pixels that are equal, and whether the segments are the same, in the same order."""

    map: str
    pixels: float
    same_segments: bool


def compare(folder: Path, double: bool = False) -> tuple[list[Difference], list[Agreement]]:
    """All arrays and maps; ours in double precision if asked for."""
    foreign = read_foreign(folder / "panoptic_fpn_tiny.pkl")
    foreign.model.to(torch.float64 if double else torch.float32)
    golden = np.load(folder / "panoptic_fpn_tiny.npz")
    segments = json.loads((folder / "panoptic_fpn_tiny.json").read_text())["segments_info"]
    inputs = replace(foreign.config.data.input, short_side=SHORT_SIDE)
    predictor = Predictor(foreign.model, foreign.label_space, inputs, foreign.config.fusion)
    wanted = [category_of(segment, foreign.label_space) for segment in segments]

    differences, from_input = of_input(foreign, golden, predictor)
    prediction = predictor.predict(golden["image_rgb"])
    differences += of_photo(prediction.instances, golden)
    semantic = of_channels(torch.from_numpy(golden["out_sem_argmax"]).long(), prediction.semantic, foreign.label_space)
    agreements = [
        Agreement("masks of instances, from the photo", of_masks(prediction.instances, golden), True),
        Agreement("semantic argmax, from the photo", semantic, True),
        agreement("panoptic map, from the input", from_input, golden["panoptic"], wanted),
        agreement("panoptic map, from the photo", prediction.segmentation, golden["panoptic"], wanted),
    ]
    return differences, agreements


def of_input(
    foreign: Foreign, golden: np.lib.npyio.NpzFile, predictor: Predictor
) -> tuple[list[Difference], PanopticSegmentation]:
    """From the very input of detectron2's network, part by part."""
    model = foreign.model
    image = torch.from_numpy(golden["input_bgr"]).flip(0)[None]
    size = Size(*image.shape[2:])
    with torch.inference_mode():
        height, width = golden["padded_size"].tolist()
        padded = F.pad(model.backbone.normalize(image), (0, width - size.width, 0, height - size.height))
        pyramid = model.fpn(model.backbone(padded))
        proposals = model.things_head.rpn(pyramid, [size])[0][0].boxes
        outputs = model(image)
    instances = outputs.instances[0]
    logits = F.interpolate(outputs.stuff_logits, scale_factor=4, mode="bilinear")[0, :, ::EVERY, ::EVERY]
    found = {
        "p2_mean": pyramid[0].mean((2, 3))[0],
        "p3": pyramid[1][0],
        "p6": pyramid[4][0],
        "proposals": in_order_of(torch.from_numpy(golden["proposals"]), proposals),
        "det_boxes": instances.boxes,
        "det_scores": instances.scores,
        "det_classes": instances.labels,
        "det_masks28": instances.masks[:, None],
        "sem_logits_at_input_size_every8": logits.roll(1, 0),  # things first, as they have it
    }
    heads = HeadOutputs(size, outputs.stuff_logits[0], instances, outputs.stride, outputs.offset)
    segmentation = predictor.finish(heads, golden["image_rgb"]).segmentation
    return [difference(name, array, golden[name]) for name, array in found.items()], segmentation


def of_photo(instances: Instances, golden: np.lib.npyio.NpzFile) -> list[Difference]:
    """Detections at the photo's size; detectron2 cuts boxes at the photo's border."""
    height, width = golden["image_rgb"].shape[:2]
    boxes = instances.boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
    found = {"out_boxes": boxes, "out_scores": instances.scores, "out_classes": instances.labels}
    return [difference(name, array, golden[name]) for name, array in found.items()]


def of_masks(instances: Instances, golden: np.lib.npyio.NpzFile) -> float:
    """Share of the pixels of all masks that are equal."""
    height, width = golden["image_rgb"].shape[:2]
    theirs = np.unpackbits(golden["out_masks_packed"], axis=-1)[:, :, :width].astype(bool)
    ours = np.zeros_like(theirs)
    for plane, mask, box in zip(ours, instances.masks, instances.boxes, strict=True):
        pasted = paste_mask(mask, box, Size(height, width))
        plane[pasted.window] = pasted.pixels.numpy()
    return float((ours == theirs).mean())


def of_channels(theirs: torch.Tensor, semantic: torch.Tensor, label_space: LabelSpace) -> float:
    """Share of equal pixels where detectron2's best channel is stuff; ours names the thing where it is things."""
    is_stuff = theirs > 0
    assert bool((semantic < len(label_space.categories)).all())
    return float((semantic[is_stuff] == theirs[is_stuff] - 1).float().mean())


def category_of(segment: dict[str, int], label_space: LabelSpace) -> int:
    """The id of a segment's category; detectron2 counts things from 0, and stuff from 1 behind things as a whole."""
    if segment["isthing"]:
        return label_space.things[segment["category_id"]].id
    return label_space.stuff[segment["category_id"] - 1].id


def agreement(name: str, ours: PanopticSegmentation, theirs: np.ndarray, wanted: list[int]) -> Agreement:
    segments = [segment.category_id for segment in ours.segments]
    return Agreement(name, float((ours.id_map.numpy() == theirs).mean()), segments == wanted)


def difference(name: str, ours: torch.Tensor, theirs: np.ndarray) -> Difference:
    a, b = ours.double().numpy(), theirs.astype(np.float64)
    if a.shape != b.shape:
        raise SystemExit(f"{name} has shape {a.shape}, detectron2's has {b.shape}.")
    return Difference(name, np.abs(a - b).max(), np.abs(b).max(), np.linalg.norm(a - b) / np.linalg.norm(b))


def in_order_of(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The others, each in the place of the box that it is nearest to: near-equal scores may change places."""
    nearest = (boxes[:, None] - others[None]).abs().amax(2).argmin(1)
    if len(nearest.unique()) < len(boxes):
        raise SystemExit("two proposals of detectron2's are nearest to one of ours.")
    return others[nearest]


def main() -> None:
    beside_repository = Path(__file__).parents[2] / "shared" / "golden"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", type=Path, default=beside_repository)
    parser.add_argument(
        "--double", action="store_true", help="compute in double precision: what rounding there is, is theirs"
    )
    arguments = parser.parse_args()
    folder = arguments.golden
    if not folder.is_dir():
        print(f"nothing to compare with: {folder} does not exist")
        return
    differences, agreements = compare(folder, arguments.double)
    print("| array | largest difference | largest value | relative |\n|---|---|---|---|")
    for row in differences:
        print(f"| `{row.array}` | {row.largest:.1e} | {row.value:.4g} | {row.relative:.1e} |")
    print("\n| map | equal pixels | segments |\n|---|---|---|")
    for row in agreements:
        print(f"| {row.map} | {row.pixels:.3%} | {'the same' if row.same_segments else 'other'} |")


if __name__ == "__main__":
    main()
