"""Photos and folders -> overlay pictures, and files as a benchmark wants them."""

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path, PurePath, PurePosixPath
from typing import Literal, NamedTuple

from torch import Tensor

from tascnet import visualize
from tascnet.convert.cityscapes import write_instances, write_panoptic, write_semantic
from tascnet.data.bad_samples import LeftOut
from tascnet.data.file_names import unique_names
from tascnet.data.formats.cityscapes import PHOTO_ENDING
from tascnet.data.formats.cityscapes_labels import CITYSCAPES
from tascnet.data.formats.coco import write_coco_panoptic
from tascnet.data.formats.coco_json import read_image_info
from tascnet.data.images import IMAGE_SUFFIXES, list_images, read_image, read_photo, write_png
from tascnet.data.problems import first_few
from tascnet.device import choose_device
from tascnet.errors import InputError
from tascnet.files import check_writable, make_folder
from tascnet.inference.predictor import Predictor
from tascnet.inference.result import Result
from tascnet.networks.checkpoint import holds_checkpoint
from tascnet.networks.foreign.catalog import DEFAULT_NETWORK, KNOWN, cached, is_network
from tascnet.networks.hub import hub_id
from tascnet.progress import SILENT, Job, Observer
from tascnet.settings import Use
from tascnet.structures import LabelSpace, PanopticSegmentation, Size

Benchmark = Literal["coco", "vistas", "cityscapes"]
"""Whose files are written."""

_FORMATS: Mapping[Benchmark, str] = {
    "coco": "COCO panoptic format in",
    "vistas": "Vistas' panoptic format in",
    "cityscapes": "results for Cityscapes in the folders beside them, the last written is",
}


@dataclass(frozen=True, eq=False)
class PredictedPhoto:
    """A photo's result under the name that its files take."""

    name: str
    image_id: int | str
    segmentation: PanopticSegmentation


OnPrediction = Callable[[str, Result], None]
"""Called with the name of a photo and all that is predicted of it."""


def network_and_photos(
    inputs: Sequence[Path], weights: str | None, observer: Observer
) -> tuple[str | Path, list[Path]]:
    """Tell the network from the photos.

    Args:
        inputs: photos and folders of photos; the first may be the network, unless `weights` names it.
        weights: path or known name of the network.
        observer: receives a message if the user has named no network.

    Returns:
        Path or known name of the network; photos and folders of photos.

    Raises:
        InputError: no network is named, and the one that is taken then has not been downloaded; or nothing is left
            beside the network.
    """
    first, rest = inputs[0], list(inputs[1:])
    if weights is not None:
        return weights, list(inputs)
    is_on_hub = hub_id(first) is not None and first.suffix.lower() not in IMAGE_SUFFIXES
    if is_network(first) or holds_checkpoint(first) or is_on_hub:
        if not rest:
            raise InputError(f"{first} is a network, and no photos are named. Name photos, or folders of photos.")
        return first, rest
    if not first.exists():
        if rest and first.suffix.lower() not in IMAGE_SUFFIXES:
            return first, rest  # a misspelt network: who opens it knows names that are near
        raise InputError(f"{first} does not exist. Give a network and photos, or photos alone.")
    if cached(DEFAULT_NETWORK) is None:
        raise InputError(
            f"no network is named: {first} holds no checkpoint, and {DEFAULT_NETWORK}, which is taken then, has not "
            f"been downloaded. Name one before the photos or with --weights, or call "
            f"tascnet weights get {DEFAULT_NETWORK} ({KNOWN[DEFAULT_NETWORK].megabytes} MB)."
        )
    observer.message(f"no network is named; {DEFAULT_NETWORK} is taken")
    return DEFAULT_NETWORK, list(inputs)


def predict_files(
    checkpoint: str | Path,
    paths: Sequence[Path],
    output: Path,
    names: bool,
    device: str,
    observer: Observer = SILENT,
    benchmark: Benchmark = "coco",
    image_info: Path | None = None,
    batch_size: int = 1,
    use: Use = "newest",
    left_out: LeftOut | None = None,
) -> Path:
    """Segment photos; however many they are, few at a time are in memory.

    Written are `output`/overlays/NAME.png, and for

    * coco: `output`/panoptic.json and `output`/panoptic/NAME.png, ids of photos 1, 2, ... or those of `image_info`;
    * vistas: the same, the id of a photo is its name;
    * cityscapes: `output`/semantic, `output`/instances and `output`/panoptic, each for its script.

    All have the photos' own sizes. The JSON comes last: where there is one, it is complete but for the photos that
    cannot be used; the ids of the others are the same with and without them.

    Args:
        checkpoint: what `open_network` opens.
        paths: photos or folders of photos.
        output: folder for the results.
        names: write the categories' names into the overlays.
        device: "auto", "cpu", "cuda" or "mps".
        observer: receives the progress, and a message on the files written.
        benchmark: whose files are written.
        image_info: a COCO JSON file whose `images` give ids and sizes of the photos, for coco. The photo "a/1.jpg" of
            its list is one whose path ends in a/1.jpg. A photo that has the size there only without the turn of its
            EXIF tag is not turned.
        batch_size: photos that go through the network together where their sizes allow it.
        use: which weights of a run.
        left_out: takes the photos that cannot be used; None raises the first of them.

    Returns:
        The JSON file.

    Raises:
        InputError: the checkpoint, all photos (or one, see `left_out`), `image_info` or the output folder cannot be
            used, or the network has other categories than the benchmark.
    """
    photos = list_images(paths)
    ending = PHOTO_ENDING if benchmark == "cityscapes" else ""
    photo_of = dict(zip(unique_names((PurePath(photo.name) for photo in photos), ending), photos, strict=True))
    id_of, read = _image_ids(photo_of, benchmark), read_image
    if image_info is not None:
        listed = _listed_images(photo_of, benchmark, image_info)
        id_of = {name: image.image_id for name, image in listed.items()}
        size_of = {photo_of[name]: image.size for name, image in listed.items()}
        read = partial(_read_listed, size_of=size_of, image_info=image_info)
    predictor = Predictor.from_checkpoint(checkpoint, choose_device(device), None, use, observer)
    left_out = LeftOut() if left_out is None else left_out
    predictions = predictor.stream(photos, batch_size, lambda _, error: left_out(error), read)
    first = list(islice(predictions, 1))  # photos that cannot be used, all of them, leave nothing behind
    left_out.require_others(len(photos), "photos")
    check_writable(output)
    json_path = output / "panoptic.json"
    on_prediction: OnPrediction | None = None
    if benchmark == "cityscapes":
        json_path = output / "panoptic" / "cityscapes_panoptic_predictions.json"
        on_prediction = _cityscapes_writer(output, predictor.label_space)
    overlays = make_folder(output / "overlays")
    json_path.unlink(missing_ok=True)  # of an earlier call, whose PNGs are about to be replaced
    with observer.job("photos", len(photos)) as job:
        results = _write_each(
            chain(first, predictions), predictor.label_space, photo_of, id_of, overlays, names, on_prediction, job
        )
        if benchmark == "cityscapes":
            write_panoptic(json_path.parent, "predictions", results)
        else:
            write_coco_panoptic(json_path, predictor.label_space, results, lambda photo: photo_of[photo.name].name)
    observer.message(
        f"photos: {len(photos) - len(left_out)}; overlays in {overlays}, {_FORMATS[benchmark]} {json_path}"
    )
    return json_path


def _write_each(
    predictions: Iterable[tuple[Path, Result]],
    label_space: LabelSpace,
    photo_of: Mapping[str, Path],
    id_of: Mapping[str, int | str],
    overlays: Path,
    names: bool,
    on_prediction: OnPrediction | None,
    job: Job,
) -> Iterator[PredictedPhoto]:
    """Write what belongs to one photo, and hand on what belongs into the list of all."""
    name_of = {photo: name for name, photo in photo_of.items()}
    number_of = {photo: number for number, photo in enumerate(name_of, start=1)}
    for photo, prediction in predictions:
        name = name_of[photo]
        overlay = visualize.draw_segmentation(prediction.segmentation, label_space, prediction.image, names=names)
        write_png(overlays / f"{name}.png", overlay)
        if on_prediction is not None:
            on_prediction(name, prediction)
        job.update(number_of[photo], photo.name)
        yield PredictedPhoto(name, id_of[name], prediction.segmentation)


class _ListedImage(NamedTuple):
    """An entry of `image_info`."""

    image_id: int | str
    file: str
    size: Size


def _image_ids(photo_of: Mapping[str, Path], benchmark: Benchmark) -> dict[str, int | str]:
    """Name -> the id under which the photo's result is written, where no file gives ids."""
    return {name: number if benchmark == "coco" else name for number, name in enumerate(photo_of, start=1)}


def _listed_images(photo_of: Mapping[str, Path], benchmark: Benchmark, image_info: Path) -> dict[str, _ListedImage]:
    """Name -> the photo's entry in `image_info`."""
    if benchmark != "coco":
        raise InputError(
            f"image_info gives ids of COCO photos, but the files are for {benchmark}, where names are ids; "
            "leave it out."
        )
    by_name: dict[str, list[_ListedImage]] = {}
    for image_id, (file, size) in read_image_info(image_info).items():
        by_name.setdefault(_composed(PurePosixPath(file).name), []).append(_ListedImage(image_id, file, size))
    found = {name: _entries_of(photo, by_name) for name, photo in photo_of.items()}
    unlisted = [photo_of[name] for name, entries in found.items() if not entries]
    if unlisted:
        same_name = by_name.get(_composed(unlisted[0].name), [])
        hint = f" It lists {first_few(entry.file for entry in same_name)}: paths must agree, too." if same_name else ""
        raise InputError(
            f"{image_info} does not list {len(unlisted)} of {len(photo_of)} photos, {unlisted[0]} for one.{hint} "
            "Name the file that belongs to the photos, or only the photos that it lists."
        )
    for name, entries in found.items():
        if len(entries) > 1:
            raise InputError(
                f"{image_info} lists {entries[0].file} under the ids {first_few(entry.image_id for entry in entries)}; "
                f"{photo_of[name]} can have one. Correct the file."
            )
    listed = {name: entry for name, (entry,) in found.items()}
    photo_of_id: dict[int | str, Path] = {}
    for name, entry in listed.items():
        first = photo_of_id.setdefault(entry.image_id, photo_of[name])
        if first is not photo_of[name]:
            raise InputError(
                f"{first} and {photo_of[name]} are both image {entry.image_id} ({entry.file}) of {image_info}. "
                "Name one of them."
            )
    return listed


def _entries_of(photo: Path, by_name: Mapping[str, list[_ListedImage]]) -> list[_ListedImage]:
    """The entries whose file name is the end of a photo's path; of several, those with the longest one."""
    for path in (Path(os.path.abspath(photo)), photo.resolve()):  # as named, and where links lead
        parts = tuple(map(_composed, path.parts))
        fitting: dict[int, list[_ListedImage]] = {}
        for entry in by_name.get(_composed(path.name), ()):
            listed = PurePosixPath(_composed(entry.file)).parts
            if parts[-len(listed) :] == listed:
                fitting.setdefault(len(listed), []).append(entry)
        if fitting:
            return fitting[max(fitting)]
    return []


def _composed(name: str) -> str:
    """A name with composed letters, as which it is compared: file systems differ in them."""
    return unicodedata.normalize("NFC", name)


def _read_listed(path: Path, size_of: Mapping[Path, Size], image_info: Path) -> Tensor:
    return read_photo(path, size_of[path], image_info)


def _cityscapes_writer(output: Path, label_space: LabelSpace) -> OnPrediction:
    """Function that writes the semantic and the instance results of an image."""
    if [(c.id, c.name) for c in label_space.by_index] != [(c.id, c.name) for c in CITYSCAPES.by_index]:
        raise InputError(
            f"files for cityscapes hold the 19 categories of Cityscapes; the checkpoint has "
            f"{len(label_space.categories)} others. Write files for coco, or use a network trained on Cityscapes."
        )

    def write(name: str, prediction: Result) -> None:
        write_semantic(output / "semantic", name, prediction.semantic)
        write_instances(output / "instances", name, prediction.instances, prediction.segmentation.size)

    return write
