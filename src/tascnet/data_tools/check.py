"""A data set -> all that is wrong with it, counted by kind, with examples; and a contact sheet."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tascnet.config import DatasetConfig, OnBadSample
from tascnet.console import progress_bar, say
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.formats.coco_layout import stray_files
from tascnet.data.formats.vistas import Vistas
from tascnet.data.images import write_png
from tascnet.data.problems import DataError, Kind
from tascnet.data_tools.sheet import Sheet
from tascnet.data_tools.sources import Source, find_sources
from tascnet.data_tools.walk import Finding, Findings, Looked, walk
from tascnet.errors import InputError
from tascnet.files import check_writable, write_json
from tascnet.structures import LabelSpace

EXAMPLES = 3
"""Sentences a kind that are printed; check.json holds all."""


@dataclass(frozen=True)
class Check:
    """What a check of one split found.

    Attributes:
        source: the split.
        num_pictures: pictures with an annotation.
        with_photos: whether photos were read.
        findings: in the order in which they were found.
        failure: why the split cannot be read at all; None where it can.
    """

    source: Source
    num_pictures: int
    with_photos: bool
    findings: list[Finding]
    failure: InputError | None = None

    @property
    def num_errors(self) -> int:
        """Findings with which training would stop."""
        return sum(finding.is_error for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for check.json."""
        return {
            "format": self.source.settings.format,
            "split": self.source.name,
            "pictures": self.num_pictures,
            "with_photos": self.with_photos,
            "errors": self.num_errors,
            "warnings": len(self.findings) - self.num_errors,
            "kinds": dict(Counter(str(finding.kind) for finding in self.findings)),
            "findings": [
                {"kind": str(f.kind), "error": f.is_error, "picture": f.picture, "text": f.text} for f in self.findings
            ],
        }


@dataclass
class _Seen:
    """Which categories were seen, and how."""

    label_space: LabelSpace
    objects: Counter[int] = field(default_factory=Counter)
    crowds: Counter[int] = field(default_factory=Counter)

    def look(self, looked: Looked, findings: Findings) -> None:
        """Count one picture."""
        if looked.segmentation is None:
            return
        segments = looked.segmentation.segments
        if not segments:
            findings(DataError(f"{looked.name} has no labelled pixel; nothing is learned from it.", Kind.ALL_VOID))
        elif not any(self.label_space[s.category_id].is_thing and not s.is_crowd for s in segments):
            findings(DataError(f"{looked.name} has stuff only: no object to learn from.", Kind.NO_THINGS))
        for segment in segments:
            (self.crowds if segment.is_crowd else self.objects)[segment.category_id] += 1

    def finish(self, findings: Findings) -> None:
        """Tell what was never seen in any picture."""
        for category in self.label_space.categories:
            what = f"category {category.id} '{category.name}'"
            if not self.objects[category.id] and not self.crowds[category.id]:
                findings(DataError(f"{what} is in no picture: it cannot be learned or measured.", Kind.NEVER_SEEN))
            elif category.is_thing and not self.objects[category.id]:
                text = f"{what} has {self.crowds[category.id]} crowds and no object of its own."
                findings(DataError(text, Kind.ONLY_CROWDS))


def check_data(
    path: Path,
    data_format: str,
    images: Path | None,
    settings: DatasetConfig,
    output: Path | None,
    console: Console,
    on_bad_sample: OnBadSample = "skip",
) -> bool:
    """Check a data set, print what is wrong, and write check.json and contact_sheet.png.

    Args:
        path, data_format, images, settings: see `find_sources`.
        output: folder for the two files; None to write none.
        console: to print on.
        on_bad_sample: "fail" ends the check of a split at its first picture with an error.

    Returns:
        Whether there are no errors; warnings may be there.

    Raises:
        InputError: a split cannot be read at all; what there is of the others is printed and written before.
    """
    sources = find_sources(path, data_format, images, settings)
    if sources[0].settings.format == "coco" and path.is_dir() and not settings.split:
        for stray in stray_files(path):
            say(console, f"{stray} is left out: it is no split (photos, or PNGs and all lists, are missing)")
    if output is not None:
        check_writable(output)
    sheet = Sheet()
    checks = [_check_or_fail(source, sheet, console, on_bad_sample) for source in sources]
    failures = list(dict.fromkeys(str(check.failure) for check in checks if check.failure is not None))
    if all(check.failure is not None for check in checks):
        raise InputError(" ".join(failures))
    for check in checks:
        _print(check, console)
    if output is not None:
        write_json(output / "check.json", {"splits": [check.to_dict() for check in checks]}, indent=1)
        write_png(output / "contact_sheet.png", sheet.draw())
        say(console, f"check.json and contact_sheet.png are in {output}")
    if failures:
        raise InputError(" ".join(failures))
    return not any(check.num_errors for check in checks)


def _check_or_fail(source: Source, sheet: Sheet, console: Console, on_bad_sample: OnBadSample) -> Check:
    """A split that cannot be read must not cost what is known of the others."""
    try:
        return check_source(source, sheet, console, on_bad_sample)
    except InputError as error:
        kind = error.kind if isinstance(error, DataError) else Kind.OTHER
        return Check(source, 0, False, [Finding(kind, str(error), "")], error)


def check_source(source: Source, sheet: Sheet, console: Console, on_bad_sample: OnBadSample = "skip") -> Check:
    """Check one split; its pictures go onto the sheet.

    Raises:
        InputError: it cannot be read at all, or a picture has an error and `on_bad_sample` is "fail".
    """
    findings = Findings()
    dataset = source.open_leniently(findings)
    with_photos = getattr(dataset, "has_photos", True)
    files = dataset.panoptic_files if isinstance(dataset, Vistas) else dataset
    if isinstance(files, CocoPanoptic):
        _check_coco_files(files, findings)
    about = {finding.picture for finding in findings.all}
    seen = _Seen(dataset.label_space)
    with progress_bar(console, f"check {source.name}", len(dataset)) as bar:
        before = len(findings.all)
        for number, looked in enumerate(walk(dataset, findings), start=1):
            errors = [finding for finding in findings.all[before:] if finding.is_error]
            if errors and on_bad_sample == "fail":
                raise DataError(errors[0].text, errors[0].kind)
            has_errors = bool(errors) or looked.name in about
            sheet.add(looked, dataset.label_space, has_errors)
            seen.look(looked, findings)
            before = len(findings.all)
            bar.update(number, looked.name)
    seen.finish(findings)
    return Check(source, len(dataset), with_photos, findings.all)


def _check_coco_files(dataset: CocoPanoptic, findings: Findings) -> None:
    """Files and images that nothing refers to."""
    for file in dataset.unannotated():
        text = f"{dataset.json_path}: image {file} has no annotation; it is left out."
        findings(DataError(text, Kind.NO_ANNOTATION))
    used = Counter(dataset.annotation_path(index) for index in range(len(dataset)))
    for path, number in used.items():
        if number > 1:
            text = f"{path} is the annotation of {number} images in {dataset.json_path}. Give each its own."
            findings(DataError(text, Kind.SHARED_PNG))
    for path in sorted(dataset.annotation_folder.rglob("*.png")):
        if path not in used:
            findings(DataError(f"{path}: no annotation in {dataset.json_path} refers to it.", Kind.UNUSED_FILE))


def _print(check: Check, console: Console) -> None:
    if check.failure is not None:
        say(console, f"{check.source.name} ({check.source.settings.format}) cannot be read: {check.failure}")
        return
    photos = "" if check.with_photos else ", annotation alone (no folder of photos)"
    say(console, f"{check.source.name} ({check.source.settings.format}): {check.num_pictures} pictures{photos}")
    if not check.findings:
        say(console, "  nothing is wrong")
        return
    table = Table(show_edge=False)
    table.add_column("")
    table.add_column("number", justify="right")
    table.add_column("what")
    by_kind: dict[Kind, list[Finding]] = {}
    for finding in sorted(check.findings, key=lambda finding: not finding.is_error):
        by_kind.setdefault(finding.kind, []).append(finding)
    for kind, found in by_kind.items():
        table.add_row("error" if found[0].is_error else "warning", str(len(found)), str(kind))
    console.print(table)
    for kind, found in by_kind.items():
        for finding in found[:EXAMPLES]:
            say(console, f"  {finding.text}")
        if len(found) > EXAMPLES:
            say(console, f"  ... {len(found) - EXAMPLES} more of kind '{kind}'")
    say(console, f"errors: {check.num_errors}, warnings: {len(check.findings) - check.num_errors}")
