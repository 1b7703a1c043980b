"""Photos -> the order in which they deserve a look, the most doubtful first; no annotation is needed."""

import csv
import heapq
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any

from tascnet import visualize
from tascnet.data.bad_samples import LeftOut
from tascnet.data.images import list_images, write_png
from tascnet.device import choose_device
from tascnet.errors import InputError
from tascnet.files import atomic_path, check_writable, valid_text, write_json
from tascnet.inference.predictor import Predictor
from tascnet.inference.result import Result
from tascnet.progress import SILENT, Observer
from tascnet.settings import Use
from tascnet.structures import LabelSpace, Size
from tascnet.triage.expected_quality import expected_panoptic_quality
from tascnet.triage.uncertainty import (
    Doubts,
    detection_doubt,
    dropped_share,
    instance_residuals,
    soft_residual,
    stuff_entropy,
    uncertain_share,
    void_share,
)

SHOWN = 12
"""The most doubtful photos on the contact sheet and in the printed table."""

THUMBNAIL = Size(180, 320)
COLUMNS = 2  # of cards: the segmentation and the residual, side by side
STRIP_COLOR = (70, 70, 70)

MEASURES = tuple(field.name for field in fields(Doubts))


@dataclass(frozen=True)
class RankedPhoto:
    """A photo, as it was named, and how doubtful its result is."""

    photo: str
    doubts: Doubts

    def to_dict(self, rank: int) -> dict[str, Any]:
        """A row of triage.csv, an object of triage.json."""
        return {"rank": rank, "photo": self.photo} | asdict(self.doubts)


def measure_doubt(prediction: Result, label_space: LabelSpace, score_threshold: float) -> Doubts:
    """All measures of one prediction.

    Args:
        prediction: of any photo.
        label_space: the predictor's.
        score_threshold: the predictor's; detections from it on are used by fusion.
    """
    logits, instances, segmentation = prediction.stuff_logits, prediction.scored, prediction.segmentation
    residuals = instance_residuals(prediction.residual, segmentation)
    return Doubts(
        expected_loss=1 - expected_panoptic_quality(logits, instances, segmentation, label_space),
        residual=prediction.uncertainty,
        soft_residual=soft_residual(logits, instances, len(label_space.stuff), segmentation.size),
        instance_residual=sum(residuals) / len(residuals) if residuals else 0.0,
        worst_instance_residual=max(residuals, default=0.0),
        detection=detection_doubt(instances, score_threshold),
        entropy=stuff_entropy(logits.values),
        void=void_share(segmentation),
        dropped=dropped_share(instances, segmentation, score_threshold),
        uncertain=uncertain_share(instances, segmentation),
    )


class _Sheet:
    """Keeps small pictures of the most doubtful photos so far, and of no others."""

    def __init__(self, label_space: LabelSpace, shown: int):
        self._label_space = label_space
        self._shown = shown
        self._numbers = count(0, -1)  # of equal losses the earlier photo is kept
        self._kept: list[tuple[float, int, str, visualize.Picture]] = []

    def add(self, ranked: RankedPhoto, prediction: Result) -> None:
        """Draw a photo if it is among the most doubtful."""
        loss = ranked.doubts.expected_loss
        if len(self._kept) == self._shown and loss <= self._kept[0][0]:
            return
        overlay = visualize.draw_segmentation(prediction.segmentation, self._label_space, prediction.image)
        residual = visualize.draw_residual(prediction.residual, prediction.image)
        pair = visualize.grid([[overlay, residual]], cell_size=THUMBNAIL, margin=2)
        heapq.heappush(self._kept, (loss, next(self._numbers), ranked.photo, pair))
        if len(self._kept) > self._shown:
            heapq.heappop(self._kept)

    def draw(self) -> visualize.Picture:
        """(H, W, 3) uint8: cards in reading order, the most doubtful first."""
        cards = [
            visualize.card(pair, f"{rank}.  {loss:.3f}  {Path(photo).name}", Size(*pair.shape[:2]), STRIP_COLOR)
            for rank, (loss, _, photo, pair) in enumerate(sorted(self._kept, reverse=True), start=1)
        ]
        rows = [cards[first : first + COLUMNS] for first in range(0, len(cards), COLUMNS)]
        return visualize.grid(rows, cell_size=Size(*cards[0].shape[:2]))


def triage_files(
    network: str | Path,
    paths: Sequence[Path],
    output: Path,
    device: str,
    observer: Observer = SILENT,
    shown: int = SHOWN,
    batch_size: int = 1,
    left_out: LeftOut | None = None,
    use: Use = "newest",
) -> list[RankedPhoto]:
    """Rank photos by the quality that may be expected of their segmentation, the most doubtful first.

    Written are `output`/triage.csv, triage.json and most_doubtful.png. However many the photos are, few at a time are
    in memory. A photo that cannot be used is named in the JSON and left out.

    Args:
        network: what `open_network` opens.
        paths: photos or folders of photos.
        output: folder for the results.
        device: "auto", "cpu", "cuda" or "mps".
        observer: receives the progress.
        shown: photos on the contact sheet, at least 1.
        batch_size: photos that go through the network together where their sizes allow it.
        left_out: takes the photos that cannot be used; None keeps them to the JSON.
        use: which weights of a run.

    Returns:
        The photos that could be used, ranked.

    Raises:
        InputError: the network or the output folder cannot be used, there is no photo, or none can be used (or one,
            where `left_out` raises).
    """
    if shown < 1:
        raise InputError(f"{shown} photos shall be shown; show 1 or more.")
    photos = list_images(paths)
    predictor = Predictor.from_checkpoint(network, choose_device(device), None, use, observer)
    left_out = LeftOut("skip") if left_out is None else left_out
    unreadable: list[tuple[str, str]] = []  # photo, error

    def on_error(path: Path, error: InputError) -> None:
        left_out(error)
        unreadable.append((name_of(path), str(error)))

    predictions = predictor.stream(photos, batch_size, on_error)
    check_writable(output)
    sheet, found = _Sheet(predictor.label_space, shown), []
    with observer.job("photos", len(photos)) as job:
        for path, prediction in predictions:
            doubts = measure_doubt(prediction, predictor.label_space, predictor.score_threshold)
            found.append(RankedPhoto(name_of(path), doubts))
            sheet.add(found[-1], prediction)
            job.update(len(found) + len(unreadable), path.name)
    left_out.require_others(len(photos), "photos")
    ranking = sorted(found, key=lambda ranked: -ranked.doubts.expected_loss)  # equal ones stay in the photos' order
    write_png(output / "most_doubtful.png", sheet.draw())
    _write_csv(output / "triage.csv", ranking)
    _write_json(output / "triage.json", str(network), ranking, unreadable)
    return ranking


def name_of(path: Path) -> str:
    """The path as text that can be written: bytes of a file's name that are no UTF-8 are replaced."""
    return valid_text(str(path))


def _write_csv(path: Path, ranking: Sequence[RankedPhoto]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["rank", "photo", *MEASURES])
        writer.writeheader()
        writer.writerows(ranked.to_dict(rank) for rank, ranked in enumerate(ranking, start=1))


def _write_json(
    path: Path, network: str, ranking: Sequence[RankedPhoto], unreadable: Sequence[tuple[str, str]]
) -> None:
    content = {
        "network": network,
        "num_ranked": len(ranking),
        "num_unreadable": len(unreadable),
        "ranking": [ranked.to_dict(rank) for rank, ranked in enumerate(ranking, start=1)],
        "unreadable": [{"photo": photo, "error": error} for photo, error in unreadable],
    }
    write_json(path, content, indent=1)
