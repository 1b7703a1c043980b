"""Files of predictions and of annotations -> a report: `tascnet metrics`."""

from pathlib import Path
from typing import Literal

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser, add_on_bad_sample

COMPARED_FILES = ("predictions", "annotations", "prediction_folder", "annotation_folder")


def parser() -> ArgumentParser:
    """Build the parser of `tascnet metrics`."""
    parser = ArgumentParser(
        description="Measure PQ, boundary PQ and mIoU of predictions in COCO panoptic format (JSON and PNG), made by "
        "any program. Pictures are matched by image_id; the categories are those of the annotations; areas are "
        "counted from the pixels."
    )
    parser.add_argument("predictions", type=Path, help="JSON file of the predictions")
    parser.add_argument("annotations", type=Path, help="JSON file of the annotations")
    for role in ("prediction", "annotation"):
        parser.add_argument(
            f"--{role}_folder",
            type=Path | None,
            default=None,
            help=f"folder of the {role} PNGs; default the path of the JSON without .json",
        )
    parser.add_argument("--output", type=Path | None, default=None, help="folder for report.json and report.md")
    parser.add_argument(
        "--missing",
        type=Literal["error", "empty"],
        default="error",
        help="annotated pictures without prediction: refuse to measure, or count them as empty and say so",
    )
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 measures in this one")
    add_on_bad_sample(parser)
    return parser


def run(options: Namespace, command: str) -> int:
    """Measure predictions that exist as files."""
    from tascnet.commands.console import ConsoleObserver, print_plain, standard_console
    from tascnet.commands.left_out import EXIT_PROBLEMS
    from tascnet.commands.report import print_report
    from tascnet.evaluation.panoptic_files import compare_files
    from tascnet.evaluation.writing import write_report
    from tascnet.files import check_writable

    console = standard_console()
    if options.output is not None:
        check_writable(options.output)
    files = {name: getattr(options, name) for name in COMPARED_FILES}
    report = compare_files(
        **files,
        missing=options.missing,
        workers=options.workers,
        observer=ConsoleObserver(console),
        on_bad_sample=options.on_bad_sample,
    )
    print_report(report, console)
    if options.output is not None:
        write_report(report, options.output, command, {name: str(path or "") for name, path in files.items()})
        print_plain(console, f"report.json and report.md are in {options.output}")
    return EXIT_PROBLEMS if report.left_out else 0
