"""A data set of any form -> COCO panoptic files with their photos."""

import filecmp
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from tascnet.config import DatasetConfig
from tascnet.data.bad_samples import LeftOut
from tascnet.data.formats.coco import write_coco_panoptic
from tascnet.data.images import Exif, has_turn, read_image, write_png
from tascnet.data.sample import Sample
from tascnet.data.stream import PanopticDataset
from tascnet.data_tools.sources import Source, find_sources
from tascnet.errors import InputError
from tascnet.files import atomic_path, check_inside, check_writable, make_folder, valid_text
from tascnet.progress import SILENT, Job, Observer

Photos = Literal["copy", "link"]
"""What becomes of photos; a copy can be moved to another machine, a symbolic link takes no space."""


def convert_data(
    path: Path,
    output: Path,
    data_format: str,
    images: Path | None,
    photos: Photos,
    settings: DatasetConfig,
    observer: Observer = SILENT,
    left_out: LeftOut | None = None,
) -> None:
    """Write `output`/annotations/panoptic_SPLIT.json, its PNGs, and `output`/SPLIT/ with the photos.

    Photos are taken as they are; an image that no file holds is written as PNG. A photo that is in its place already,
    as where the output is the root that is read, stays as it is; another file there is never replaced. Images keep
    their ids where these are numbers, and are numbered from 1 where they are names. A JSON file is written last: where
    there is one, its split is complete but for the samples that cannot be used.

    Args:
        path, data_format, images, settings: see `find_sources`.
        output: root of the new data set.
        photos: "copy" or "link".
        observer: receives messages and progress.
        left_out: takes the samples that cannot be used; None raises the first of them.

    Raises:
        InputError: the data set or a file of it cannot be used, a split is in the output already, another file is
            where a photo belongs, or a symbolic link in the output leads out of it.
    """
    sources = find_sources(path, data_format, images, settings)
    check_writable(output)
    for source in sources:
        json_path = output / "annotations" / f"panoptic_{source.name}.json"
        for folder in (json_path.with_suffix(""), output / source.name):
            check_inside(folder / "file", output)
        if json_path.exists():
            raise InputError(f"{json_path} exists. Choose another --output, or remove it.")
    for source in sources:
        _convert(source, output, photos, observer, LeftOut() if left_out is None else left_out)


def _convert(source: Source, output: Path, photos: Photos, observer: Observer, left_out: LeftOut) -> None:
    dataset, before = source.open(), len(left_out)
    json_path = output / "annotations" / f"panoptic_{source.name}.json"
    with observer.job(f"convert {source.name}", len(dataset)) as job:
        samples = _with_photos(dataset, make_folder(output / source.name), photos, source.settings.exif, job, left_out)
        write_coco_panoptic(json_path, dataset.label_space, samples, photo_name)
    written = len(dataset) - (len(left_out) - before)
    observer.message(f"{source.name}: {written} pictures in {json_path}, photos in {output / source.name}")


def photo_name(sample: Sample) -> str:
    """The photo's file name in the new data set."""
    return f"{sample.name}{valid_text(sample.photo.suffix) if sample.photo else '.png'}"


def _with_photos(
    dataset: PanopticDataset, folder: Path, photos: Photos, exif: Exif, job: Job, left_out: LeftOut
) -> Iterator[Sample]:
    """The samples, each after its photo is in place; ids that are no numbers become numbers."""
    before = len(left_out)
    for number in range(1, len(dataset) + 1):
        try:
            sample = _named_validly(dataset[number - 1])
        except InputError as error:
            left_out(error)
            continue
        if exif == "ignore" and sample.photo is not None and has_turn(sample.photo):
            sample = replace(sample, photo=None)  # written as it is annotated: its own file would be turned when read
        path = folder / photo_name(sample)
        check_inside(path, folder)
        _place(sample, path, photos)
        job.update(number, sample.name)
        yield sample if isinstance(sample.image_id, int) else replace(sample, image_id=number)
    left_out.require_others(len(dataset), "samples", before)  # raises before the JSON is written


def _named_validly(sample: Sample) -> Sample:
    """The sample under a name that a JSON file can hold."""
    return replace(sample, name=valid_text(sample.name))


def _place(sample: Sample, path: Path, photos: Photos) -> None:
    make_folder(path.parent)
    try:
        if path.exists():
            _check_same(sample, path)
        elif sample.photo is None:
            write_png(path, sample.image.permute(1, 2, 0).numpy())
        elif photos == "link":
            path.unlink(missing_ok=True)  # a link that leads nowhere
            os.symlink(sample.photo.resolve(), path)
        else:
            with atomic_path(path) as temporary:
                shutil.copyfile(sample.photo, temporary)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}. Check permission and free space.") from error


def _check_same(sample: Sample, path: Path) -> None:
    """A file that is there already must be the photo itself or equal to it: it may be the only one of its kind."""
    if sample.photo is None:
        is_same = torch.equal(read_image(path), sample.image)
    else:
        is_same = path.samefile(sample.photo) or filecmp.cmp(path, sample.photo, shallow=False)
    if not is_same:
        raise InputError(f"{path} exists and is another picture. Choose another --output, or move that file away.")
