"""Photos and folders -> overlay pictures and COCO panoptic files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from rich.console import Console

from tascnet import visualize
from tascnet.data.coco import write_coco_panoptic
from tascnet.data.images import list_images, read_image, write_png
from tascnet.device import choose_device
from tascnet.display import Bar, progress_bar, say
from tascnet.files import check_writable, make_folder
from tascnet.predictor import Predictor
from tascnet.structures import PanopticSegmentation


@dataclass(frozen=True, eq=False)
class PredictedPhoto:
    """A photo's result under the name that its files take."""

    name: str
    image_id: int
    segmentation: PanopticSegmentation


def predict_files(
    checkpoint: Path, paths: Sequence[Path], output: Path, names: bool, device: str, console: Console
) -> Path:
    """Segment photos; one at a time is in memory.

    Written are `output`/overlays/NAME.png, `output`/panoptic.json and `output`/panoptic/NAME.png, all at the
    photos' own sizes. The JSON comes last: where there is one, it is complete.

    Args:
        checkpoint: run folder or checkpoint folder.
        paths: photos or folders of photos.
        output: folder for the results.
        names: write the categories' names into the overlays.
        device: "auto", "cpu", "cuda" or "mps".
        console: for the progress.

    Returns:
        The JSON file.

    Raises:
        InputError: the checkpoint, a photo or the output folder cannot be used.
    """
    photos = list_images(paths)
    photo_of = dict(zip(unique_names(photos), photos, strict=True))
    predictor = Predictor.from_checkpoint(checkpoint, choose_device(device))
    check_writable(output)
    overlays = make_folder(output / "overlays")
    json_path = output / "panoptic.json"
    json_path.unlink(missing_ok=True)  # of an earlier call, whose PNGs are about to be replaced
    with progress_bar(console, "photos", len(photos)) as bar:
        results = _predict_each(predictor, photo_of, overlays, names, bar)
        write_coco_panoptic(json_path, predictor.label_space, results, lambda photo: photo_of[photo.name].name)
    say(console, f"photos: {len(photos)}; overlays in {overlays}, COCO panoptic format in {json_path}")
    return json_path


def _predict_each(
    predictor: Predictor, photo_of: Mapping[str, Path], overlays: Path, names: bool, bar: Bar
) -> Iterator[PredictedPhoto]:
    for number, (name, photo) in enumerate(photo_of.items(), start=1):
        image = read_image(photo)
        segmentation = predictor(image)
        overlay = visualize.draw_segmentation(segmentation, predictor.label_space, image, names=names)
        write_png(overlays / f"{name}.png", overlay)
        bar.update(number, photo.name)
        yield PredictedPhoto(name, number, segmentation)


def unique_names(photos: Sequence[Path]) -> list[str]:
    """A name for the result of each photo: its stem, with its suffix or a number where two would be the same."""
    names: list[str] = []
    taken: set[str] = set()  # in lower case: some file systems do not tell the two apart
    for photo in photos:
        numbered = (f"{photo.stem}_{number}" for number in count(2))
        candidates = chain([photo.stem, photo.name.replace(".", "_")], numbered)
        name = next(candidate for candidate in candidates if candidate.lower() not in taken)
        taken.add(name.lower())
        names.append(name)
    return names
