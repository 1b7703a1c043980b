"""A network and a data set -> a report: `tascnet evaluate`."""

from pathlib import Path

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser, add_changes, add_device, add_on_bad_sample, add_use, given
from tascnet.config import DatasetConfig, FusionOptions
from tascnet.settings import NETWORK


def parser() -> ArgumentParser:
    """Build the parser of `tascnet evaluate`."""
    parser = ArgumentParser(
        usage="tascnet evaluate NETWORK [--use WEIGHTS] [--output FOLDER] [--device DEVICE] [--on_bad_sample WHAT] "
        "[--data.SETTING VALUE ...] [--fusion.SETTING VALUE ...]",
        description="Measure PQ, boundary PQ, mIoU and AP of a network on the validation set of its run; draw its "
        "best and worst cases. Settings of data and fusion that are not given are those of the run.",
    )
    parser.add_argument("checkpoint", metavar="NETWORK", type=Path, help=NETWORK)
    parser.add_argument(
        "--output",
        type=Path | None,
        default=None,
        help="folder for report.json, report.md and pictures; default evaluation/ in the run, or runs/NAME-evaluation/",
    )
    add_device(parser)
    add_use(parser)
    add_on_bad_sample(parser)
    add_changes(parser, {"data": DatasetConfig, "fusion": FusionOptions})
    return parser


def run(options: Namespace, command: str) -> int:
    """Measure a network on a data set."""
    from tascnet.commands.console import ConsoleObserver, print_plain, standard_console
    from tascnet.commands.left_out import EXIT_PROBLEMS
    from tascnet.commands.report import print_report
    from tascnet.evaluation.evaluate import evaluate_checkpoint

    console = standard_console()
    data, fusion = given(options.data), given(options.fusion)
    report, folder = evaluate_checkpoint(
        options.checkpoint,
        data=data,
        fusion=fusion,
        output=options.output,
        device=options.device,
        observer=ConsoleObserver(console),
        command=command,
        use=options.use,
        on_bad_sample=options.on_bad_sample,
    )
    print_report(report, console)
    print_plain(console, f"report.json, report.md and pictures are in {folder}")
    return EXIT_PROBLEMS if report.left_out else 0
