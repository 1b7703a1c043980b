"""A report as report.json and as report.md, and its rows for a table: the same figures everywhere."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tascnet.evaluation.report import NUM_WORST, Report, group_percent, percent
from tascnet.files import write_json, write_text
from tascnet.metrics import GroupQuality
from tascnet.structures import Category

Row = dict[str, float | None]


def write_report(
    report: Report, folder: Path, command: str, dataset: Mapping[str, Any], step: int | None = None
) -> Path:
    """Write `folder`/report.json and `folder`/report.md; return the path of the first.

    Args:
        report: what was found.
        folder: made where missing.
        command: what the user called.
        dataset: what was measured on, as plain values.
        step: of the network whose report it is; None where files were compared.
    """
    path = folder / "report.json"
    about = {"command": command, "dataset": dict(dataset)} | ({} if step is None else {"step": step})
    write_json(path, report.to_dict() | about, indent=1)
    write_text(folder / "report.md", to_markdown(report, command, dataset))
    return path


def to_markdown(report: Report, command: str, dataset: Mapping[str, Any]) -> str:
    """The report as a page of Markdown."""
    rows = quality_rows(report)
    columns = list(rows["all"])
    facts = {"data set": ", ".join(f"{key} {value}" for key, value in dataset.items() if value not in ("", 0, None))}
    facts |= {"command": f"`{command}`", "pictures": str(report.num_images)} | other_figures(report)
    worst = [(name, [percent(value) for value in quality]) for name, quality in report.ranking()[:NUM_WORST]]
    parts = ["# Evaluation", *(f"**Note: {note}**" for note in report.notes)]
    parts.append("\n".join(f"- {name}: {value}" for name, value in facts.items()))
    parts.append(_markdown_table(["", *columns], [(name, list(row.values())) for name, row in rows.items()]))
    parts.append(f"Qualities are in percent. {_explanation(columns)}")
    parts.append(f"## The worst pictures\n\n{_markdown_table(['picture', 'PQ', 'PQ things', 'PQ stuff'], worst)}")
    return "\n\n".join(parts) + "\n"


def quality_rows(report: Report) -> dict[str, Row]:
    """All qualities in percent: all, things, stuff and each category -> column -> value."""
    space, found = report.label_space, report.segmentation
    rows = {
        "all": _row(report, space.categories, found.panoptic.all, found.boundary.all),
        "things": _row(report, space.things, found.panoptic.things, found.boundary.things),
        "stuff": _row(report, space.stuff, found.panoptic.stuff, found.boundary.stuff),
    }
    for category in space.categories:
        panoptic, boundary = (each.per_category.get(category.id) for each in (found.panoptic, found.boundary))
        groups = (None if each is None else GroupQuality(each.pq, each.sq, each.rq, 1) for each in (panoptic, boundary))
        row = _row(report, (category,), *groups)
        if any(value is not None for value in row.values()):
            rows[f"  {space.unique_name(category.id)}"] = row
    return rows


def other_figures(report: Report) -> dict[str, str]:
    """What is not a figure of a category: name -> text."""
    figures = {}
    if report.ap is not None:
        for name in ("AP50", "AP75", "AP_small", "AP_medium", "AP_large"):
            figures[name.replace("_", " ")] = _shown(percent(getattr(report.ap, name.lower())))
    if report.cityscapes_ap is not None:
        figures["Cityscapes AP"] = _shown(percent(report.cityscapes_ap.ap))
        figures["Cityscapes AP50"] = _shown(percent(report.cityscapes_ap.ap50))
    if report.seconds_per_image is not None:
        figures["seconds a picture"] = f"{report.seconds_per_image:.2f}"
    if report.dropped is not None:
        figures["dropped by fusion"] = (
            f"{report.dropped.low_score} low scores, {report.dropped.overlap} covered instances, "
            f"{report.dropped.small_stuff} small stuff"
        )
    return figures


def _row(
    report: Report, categories: Sequence[Category], panoptic: GroupQuality | None, boundary: GroupQuality | None
) -> Row:
    row = {name.upper(): group_percent(panoptic, name) for name in ("pq", "sq", "rq")}
    row["boundary PQ"] = group_percent(boundary, "pq")
    if report.miou is not None:
        row["IoU stuff head"] = _mean(report.miou.per_category, categories)
    row["IoU panoptic"] = _mean(report.segmentation.miou.per_category, categories)
    if report.ap is not None:
        row["AP"] = _mean(report.ap.per_category, categories)
    return row


def _mean(per_category: Mapping[int, float], categories: Iterable[Category]) -> float | None:
    """Mean in percent over those of the categories that have a value."""
    values = [per_category[category.id] for category in categories if category.id in per_category]
    return percent(sum(values) / len(values)) if values else None


def _explanation(columns: Sequence[str]) -> str:
    """What the columns mean."""
    meanings = {
        "PQ": "PQ, SQ, RQ: panoptic, segmentation and recognition quality",
        "boundary PQ": "boundary PQ: PQ with the smaller of IoU and boundary IoU",
        "IoU stuff head": "IoU stuff head: of the semantic map of the stuff head alone",
        "IoU panoptic": "IoU panoptic: of the semantic map of the panoptic result",
        "AP": "AP: COCO's mask AP of the instances",
    }
    return "; ".join(meaning for column, meaning in meanings.items() if column in columns) + "."


def _markdown_table(columns: Sequence[str], rows: Iterable[tuple[str, Iterable[float | None]]]) -> str:
    """The first column is text, the others are numbers."""
    lines = [list(columns), ["---", *("---:" for _ in columns[1:])]]
    lines += [[name.strip().replace("|", "\\|"), *map(_shown, values)] for name, values in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
