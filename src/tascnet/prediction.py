"""Photos and folders -> overlay pictures, and files as a benchmark wants them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path, PurePath
from typing import Literal

from rich.console import Console

from tascnet import visualize
from tascnet.bad_samples import LeftOut
from tascnet.checkpoint import holds_checkpoint
from tascnet.data.cityscapes import PHOTO_SUFFIX
from tascnet.data.cityscapes_labels import CITYSCAPES
from tascnet.data.cityscapes_submission import write_instances, write_panoptic, write_semantic
from tascnet.data.coco import write_coco_panoptic
from tascnet.data.coco_json import read_image_ids
from tascnet.data.images import IMAGE_SUFFIXES, list_images, write_png
from tascnet.device import choose_device
from tascnet.display import Bar, progress_bar, say
from tascnet.errors import InputError
from tascnet.files import check_writable, make_folder, valid_text
from tascnet.hub import hub_id
from tascnet.predictor import Prediction, Predictor
from tascnet.settings import Use
from tascnet.structures import LabelSpace, PanopticSegmentation
from tascnet.weights.catalog import DEFAULT_NETWORK, KNOWN, cached, is_network

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


OnPrediction = Callable[[str, Prediction], None]
"""Called with the name of a photo and all that is predicted of it."""


def network_and_photos(inputs: Sequence[Path], weights: str | None, console: Console) -> tuple[str | Path, list[Path]]:
    """Tell the network from the photos.

    Args:
        inputs: photos and folders of photos; the first may be the network, unless `weights` names it.
        weights: path or known name of the network.
        console: where it is said if the user has named no network.

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
    say(console, f"no network is named; {DEFAULT_NETWORK} is taken")
    return DEFAULT_NETWORK, list(inputs)


def predict_files(
    checkpoint: str | Path,
    paths: Sequence[Path],
    output: Path,
    names: bool,
    device: str,
    console: Console,
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
        console: for the progress.
        benchmark: whose files are written.
        image_info: a COCO JSON file whose `images` give the ids of the photos by file name; for coco.
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
    photo_of = dict(zip(unique_names(photos, PHOTO_SUFFIX if benchmark == "cityscapes" else ""), photos, strict=True))
    id_of = _image_ids(photo_of, benchmark, image_info)
    predictor = Predictor.from_checkpoint(checkpoint, choose_device(device), use=use)
    left_out = LeftOut() if left_out is None else left_out
    predictions = predictor.stream(photos, batch_size, lambda _, error: left_out(error))
    first = list(islice(predictions, 1))  # photos that cannot be used, all of them, leave nothing behind
    left_out.require_others(len(photos), "photos")
    check_writable(output)
    json_path = output / "panoptic.json"
    on_prediction: OnPrediction = _write_nothing
    if benchmark == "cityscapes":
        json_path = output / "panoptic" / "cityscapes_panoptic_predictions.json"
        on_prediction = _cityscapes_writer(output, predictor.label_space)
    overlays = make_folder(output / "overlays")
    json_path.unlink(missing_ok=True)  # of an earlier call, whose PNGs are about to be replaced
    with progress_bar(console, "photos", len(photos)) as bar:
        results = _write_each(
            chain(first, predictions), predictor.label_space, photo_of, id_of, overlays, names, on_prediction, bar
        )
        if benchmark == "cityscapes":
            write_panoptic(json_path.parent, "predictions", results)
        else:
            write_coco_panoptic(json_path, predictor.label_space, results, lambda photo: photo_of[photo.name].name)
    say(console, f"photos: {len(photos) - len(left_out)}; overlays in {overlays}, {_FORMATS[benchmark]} {json_path}")
    return json_path


def _write_each(
    predictions: Iterable[tuple[Path, Prediction]],
    label_space: LabelSpace,
    photo_of: Mapping[str, Path],
    id_of: Mapping[str, int | str],
    overlays: Path,
    names: bool,
    on_prediction: OnPrediction,
    bar: Bar,
) -> Iterator[PredictedPhoto]:
    """Write what belongs to one photo, and hand on what belongs into the list of all."""
    name_of = {photo: name for name, photo in photo_of.items()}
    number_of = {photo: number for number, photo in enumerate(name_of, start=1)}
    for photo, prediction in predictions:
        name = name_of[photo]
        overlay = visualize.draw_segmentation(prediction.segmentation, label_space, prediction.image, names=names)
        write_png(overlays / f"{name}.png", overlay)
        on_prediction(name, prediction)
        bar.update(number_of[photo], photo.name)
        yield PredictedPhoto(name, id_of[name], prediction.segmentation)


def _image_ids(photo_of: Mapping[str, Path], benchmark: Benchmark, image_info: Path | None) -> dict[str, int | str]:
    """Name -> the id by which the benchmark knows the photo."""
    if image_info is None:
        return {name: number if benchmark == "coco" else name for number, name in enumerate(photo_of, start=1)}
    if benchmark != "coco":
        raise InputError(
            f"image_info gives ids of COCO photos, but the files are for {benchmark}, where names are ids; "
            "leave it out."
        )
    known = {PurePath(file).name: image_id for file, image_id in read_image_ids(image_info).items()}
    unknown = [photo.name for photo in photo_of.values() if photo.name not in known]
    if unknown:
        raise InputError(
            f"{image_info} does not list {len(unknown)} of {len(photo_of)} photos, {unknown[0]} for one. "
            "Name the file that belongs to the photos, or only the photos that it lists."
        )
    id_of = {name: known[photo.name] for name, photo in photo_of.items()}
    if len(set(id_of.values())) < len(id_of):
        raise InputError(f"two of the photos have one file name, so one id in {image_info}. Name each photo once.")
    return id_of


def _cityscapes_writer(output: Path, label_space: LabelSpace) -> OnPrediction:
    """What writes the semantic and the instance results of a photo."""
    if [(c.id, c.name) for c in label_space.by_index] != [(c.id, c.name) for c in CITYSCAPES.by_index]:
        raise InputError(
            f"files for cityscapes hold the 19 categories of Cityscapes; the checkpoint has "
            f"{len(label_space.categories)} others. Write files for coco, or use a network trained on Cityscapes."
        )

    def write(name: str, prediction: Prediction) -> None:
        write_semantic(output / "semantic", name, prediction.semantic)
        write_instances(output / "instances", name, prediction.instances, prediction.segmentation.size)

    return write


def _write_nothing(name: str, prediction: Prediction) -> None:
    """What is written for each photo where the panoptic files are all."""


def unique_names(photos: Sequence[Path], ending: str = "") -> list[str]:
    """A name for the result of each photo: its stem, with its suffix or a number where two would be the same.

    `ending` of the file name, where a photo has it, is left out instead of the suffix. JSON files hold the names, so
    what UTF-8 cannot hold is replaced.
    """
    names: list[str] = []
    taken: set[str] = set()  # in lower case: some file systems do not tell the two apart
    for photo in (Path(valid_text(photo.name)) for photo in photos):
        stem = photo.name.removesuffix(ending) if ending and photo.name.endswith(ending) else photo.stem
        numbered = (f"{stem}_{number}" for number in count(2))
        candidates = chain([stem, photo.name.replace(".", "_")], numbered)
        name = next(candidate for candidate in candidates if candidate.lower() not in taken)
        taken.add(name.lower())
        names.append(name)
    return names
