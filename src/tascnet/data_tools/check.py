"""A data set -> all that is wrong with it, counted by kind, with examples; and a contact sheet."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tascnet.config import DatasetConfig, OnBadSample
from tascnet.data.formats.coco_layout import stray_files
from tascnet.data.formats.dataset import Inspected
from tascnet.data.images import write_png
from tascnet.data.problems import DataError, Kind
from tascnet.data_tools.sheet import Sheet
from tascnet.data_tools.sources import Source, find_sources
from tascnet.data_tools.walk import Finding, Findings, walk
from tascnet.errors import InputError
from tascnet.files import check_writable, write_json
from tascnet.progress import SILENT, Observer
from tascnet.structures import LabelSpace


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

    def look(self, inspected: Inspected, findings: Findings) -> None:
        """Count one picture."""
        if inspected.segmentation is None:
            return
        segments = inspected.segmentation.segments
        if not segments:
            findings(DataError(f"{inspected.name} has no labelled pixel; nothing is learned from it.", Kind.ALL_VOID))
        elif not any(self.label_space[s.category_id].is_thing and not s.is_crowd for s in segments):
            findings(DataError(f"{inspected.name} has stuff only: no object to learn from.", Kind.NO_THINGS))
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
    observer: Observer = SILENT,
    on_bad_sample: OnBadSample = "skip",
    on_checked: Callable[[Check], object] = lambda check: None,
) -> bool:
    """Check a data set, and write check.json and contact_sheet.png.

    Args:
        path, data_format, images, settings: see `find_sources`.
        output: folder for the two files; None to write none.
        observer: receives messages and progress.
        on_bad_sample: "fail" ends the check of a split at its first picture with an error.
        on_checked: called with the check of each split when all are checked, before anything is written.

    Returns:
        Whether there are no errors; warnings may be there.

    Raises:
        InputError: a split cannot be read at all; the checks of the others are handed over and written before.
    """
    sources = find_sources(path, data_format, images, settings)
    if sources[0].settings.format == "coco" and path.is_dir() and not settings.split:
        for stray in stray_files(path):
            observer.message(f"{stray} is left out: it is no split (photos, or PNGs and all lists, are missing)")
    if output is not None:
        check_writable(output)
    sheet = Sheet()
    checks = [_check_or_fail(source, sheet, observer, on_bad_sample) for source in sources]
    failures = list(dict.fromkeys(str(check.failure) for check in checks if check.failure is not None))
    if all(check.failure is not None for check in checks):
        raise InputError(" ".join(failures))
    for check in checks:
        on_checked(check)
    if output is not None:
        write_json(output / "check.json", {"splits": [check.to_dict() for check in checks]}, indent=1)
        write_png(output / "contact_sheet.png", sheet.draw())
        observer.message(f"check.json and contact_sheet.png are in {output}")
    if failures:
        raise InputError(" ".join(failures))
    return not any(check.num_errors for check in checks)


def _check_or_fail(source: Source, sheet: Sheet, observer: Observer, on_bad_sample: OnBadSample) -> Check:
    """A split that cannot be read must not cost what is known of the others."""
    try:
        return check_source(source, sheet, observer, on_bad_sample)
    except InputError as error:
        kind = error.kind if isinstance(error, DataError) else Kind.OTHER
        return Check(source, 0, False, [Finding(kind, str(error), "")], error)


def check_source(
    source: Source, sheet: Sheet, observer: Observer = SILENT, on_bad_sample: OnBadSample = "skip"
) -> Check:
    """Check one split; its pictures go onto the sheet.

    Raises:
        InputError: it cannot be read at all, or a picture has an error and `on_bad_sample` is "fail".
    """
    findings = Findings()
    dataset = source.open_leniently(findings)
    for problem in dataset.inspect_files():
        findings(problem)
    about = {finding.picture for finding in findings.all}
    seen = _Seen(dataset.label_space)
    with observer.job(f"check {source.name}", len(dataset)) as job:
        before = len(findings.all)
        for number, inspected in enumerate(walk(dataset, findings), start=1):
            errors = [finding for finding in findings.all[before:] if finding.is_error]
            if errors and on_bad_sample == "fail":
                raise DataError(errors[0].text, errors[0].kind)
            has_errors = bool(errors) or inspected.name in about
            sheet.add(inspected, dataset.label_space, has_errors)
            seen.look(inspected, findings)
            before = len(findings.all)
            job.update(number, inspected.name)
    seen.finish(findings)
    return Check(source, len(dataset), dataset.has_photos, findings.all)
