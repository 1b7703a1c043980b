"""A config file and flags -> a trained network, or a resumed run: `tascnet train`."""

from dataclasses import fields
from pathlib import Path

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser, ConfigFile
from tascnet.config import Accelerator, Config
from tascnet.settings import NETWORK, from_dict


def parser() -> ArgumentParser:
    """Build the parser of `tascnet train`."""
    parser = ArgumentParser(
        usage="tascnet train [--config FILE] [--init NETWORK] [--device DEVICE] [--devices N] [--output FOLDER] "
        "[--SETTING VALUE ...]\n       tascnet train --resume FOLDER",
        description="Train a network. Settings come from --config FILE; any of them can be changed by a flag "
        "behind it.",
    )
    parser.add_argument("--config", action=ConfigFile, help="YAML file with the settings below")
    parser.add_argument("--output", type=Path | None, default=None, help="run folder; default runs/NAME-DATE-TIME")
    parser.add_argument(
        "--resume", type=Path | None, default=None, help="go on with the run in this folder; all else is taken from it"
    )
    parser.add_argument("--init", type=str, default="", help=f"short for --training.init: start from {NETWORK}")
    parser.add_argument(
        "--device",
        type=Accelerator | None,
        default=None,
        help="short for --training.accelerator: auto, cpu, cuda or mps",
    )
    parser.add_argument(
        "--devices", type=int | None, default=None, help="short for --training.devices: GPUs, or processes on a CPU"
    )
    parser.add_class_arguments(Config)
    return parser


def run(options: Namespace, command: str) -> None:
    """Train a network, or resume a run."""
    from tascnet.commands.console import ConsoleObserver, print_plain, standard_console
    from tascnet.commands.report import print_report
    from tascnet.runs.folder import new_run_path
    from tascnet.training import resume, train

    console = standard_console()
    observer = ConsoleObserver(console)
    if options.resume is not None:
        folder, report = options.resume, resume(options.resume, observer)
    else:
        config_files = [Path(str(file)) for file in options.get("config") or []]
        name = config_files[0].stem if config_files else "train"
        folder = options.output or new_run_path(name)
        report = train(config_of(options), folder, command, observer)
    print_report(report, console)
    print_plain(console, f"checkpoint, report.json and pictures are in {folder}")


def config_of(options: Namespace) -> Config:
    """Read the settings of a training from its parsed arguments."""
    values = options.as_dict()
    if options.init:
        values["training"]["init"] = options.init
    if options.device is not None:
        values["training"]["accelerator"] = options.device
    if options.devices is not None:
        values["training"]["devices"] = options.devices
    return from_dict({field.name: values[field.name] for field in fields(Config)})
