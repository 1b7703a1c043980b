"""The command line: tascnet demo | train | runs | plot | evaluate | metrics | predict | triage | share | info | ...

Only what parses arguments is imported here; each verb imports what it needs, so that `tascnet --help` is quick.
"""

import difflib
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import jsonargparse
import yaml
from jsonargparse import ActionConfigFile, Namespace, get_loader, set_loader

from tascnet import __version__
from tascnet.commands.last_resort import Output, complain, report, watch_threads
from tascnet.config import Accelerator, Config, DatasetConfig, FusionConfig, InputConfig, OnBadSample
from tascnet.errors import InputError, Interrupted, escape_controls, is_forbidden, sentence_of, shorten
from tascnet.files import at_home, require_regular
from tascnet.place import Place
from tascnet.settings import NETWORK, Use, check_file, from_dict

if TYPE_CHECKING:
    from rich.console import Console

_SHORT_FORMS = ("output", "resume", "init", "device", "devices")
"""Flags of `train` that are no settings; --print_config writes them, too."""

_COMPARED_FILES = ("predictions", "annotations", "prediction_folder", "annotation_folder")

MAX_ERROR = 600  # characters of the parser's own messages

EXIT_PROBLEMS = 1
EXIT_BAD_INPUT = 2
EXIT_FAILURE = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130


class ArgumentParser(jsonargparse.ArgumentParser):
    """A parser that takes flags in full only, with dashes or underscores between their words.

    Its errors are safe to print: they quote values of files, which may be of any size and content.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        # an abbreviation that is unique today may become ambiguous, or another flag's name, with the next release
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def _parse_optional(self, arg_string: str) -> Any:
        """Find the flag that an argument names, as argparse does for each argument."""
        name, equals, value = arg_string.partition("=")
        known = f"--{name[2:].replace('-', '_')}"
        if name.startswith("--") and name not in self._option_string_actions and known in self._option_string_actions:
            return super()._parse_optional(known + equals + value)
        return super()._parse_optional(arg_string)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print a message with the usage, for an unknown flag also the one most like it, and exit."""
        if unknown := re.match(r"unrecognized arguments: (--[^\s=]+)", message):
            known = [name for name in self._option_string_actions if name.startswith("--")]
            near = difflib.get_close_matches(f"--{unknown[1][2:].replace('-', '_')}", known, n=1)
            message = f"{shorten(message, MAX_ERROR // 2)}{f'; is {near[0]} meant?' if near else ''}"
        super().error(escape_controls(shorten(message, MAX_ERROR)), ex)


class _ConfigFile(ActionConfigFile):
    """--config FILE, read first with the project's own reader, which bounds what a file can ask for."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        path = str(at_home(str(values)))
        check_file(path, also=_SHORT_FORMS)
        super().__call__(parser, namespace, path, option_string)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; return its exit code.

    0: all is well. 1: done, but bad samples were left out, or `data check` found errors. 2: the input cannot be used.
    70: something that nobody foresaw, a fault of the program or of the machine, or standard output cannot be written;
    one sentence names the log file with the details. 130: interrupted.
    """
    if arguments is None:  # the process is this command's own
        arguments = sys.argv[1:]
        watch_threads(arguments)
    output = Output()
    with output.guarded():
        code = _run(list(arguments))
    if failure := output.failure():
        complain(f"error: standard output cannot be written: {failure.strerror}. What was printed there is lost.")
        code = code or EXIT_FAILURE
    return code


def _run(arguments: list[str]) -> int:
    verbs: dict[str, Callable[[Namespace, str], int | None]] = {
        "demo": _demo,
        "train": _train,
        "runs": _runs,
        "plot": _plot,
        "evaluate": _evaluate,
        "metrics": _metrics,
        "predict": _predict,
        "triage": _triage,
        "share": _share,
        "info": _info,
        "data": _data,
        "weights": _weights,
    }
    try:
        _check_configs(arguments)
        parsed = _with_homes(_parser().parse_args(arguments))
        return verbs[parsed.verb](parsed[parsed.verb], shlex.join(["tascnet", *arguments])) or 0
    except InputError as error:
        complain(f"error: {error}")
        return EXIT_BAD_INPUT
    except Interrupted as stopped:
        complain(f"stopped: {stopped}")
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        complain("interrupted")
        return EXIT_INTERRUPTED
    except SystemExit as ended:  # the parser's, after help or a complaint
        return ended.code if isinstance(ended.code, int) else EXIT_BAD_INPUT
    except Exception as error:
        if is_forbidden(error):  # by the user's own files: no log explains it better
            complain(f"error: {sentence_of(error)}")
            return EXIT_BAD_INPUT
        report(error, arguments)
        return EXIT_FAILURE


def _check_configs(arguments: Sequence[str]) -> None:
    """Refuse a --config that is a named pipe: the parser opens it, and would wait for a writer for ever."""
    for flag, value in pairwise([*arguments, ""]):
        name, equals, behind = flag.partition("=")
        path = Path(behind if equals else value)
        if name == "--config" and path.exists():
            require_regular(path)


def _parser() -> ArgumentParser:
    # each value is tried as YAML; a file name that is not UTF-8 is none, and is taken as it is
    set_loader("yaml", get_loader("yaml"), (yaml.YAMLError, UnicodeEncodeError))
    parser = ArgumentParser(
        prog="tascnet",
        version=__version__,
        description="Panoptic segmentation with TASCNet.",
        epilog="Flags are written in full, with underscores or dashes: --batch_size, --batch-size.",
    )
    verbs = parser.add_subcommands(dest="verb", metavar="VERB")
    verbs.add_subcommand("demo", _demo_parser(), help="train on generated street scenes and look at the result")
    verbs.add_subcommand("train", _train_parser(), help="train a network as a config file says")
    verbs.add_subcommand("runs", _runs_parser(), help="list training runs: their state, their best PQ")
    verbs.add_subcommand("plot", _plot_parser(), help="draw the curves of training runs")
    verbs.add_subcommand("evaluate", _evaluate_parser(), help="measure a network on a data set")
    verbs.add_subcommand("metrics", _metrics_parser(), help="measure predictions that exist as files")
    verbs.add_subcommand("predict", _predict_parser(), help="segment photos")
    verbs.add_subcommand("triage", _triage_parser(), help="rank photos by expected quality, the worst first")
    verbs.add_subcommand("share", _share_parser(), help="write a trained network for others, or send it to the hub")
    verbs.add_subcommand("info", _info_parser(), help="parameters, origin and figures of a network")
    data = ArgumentParser(description="Check, count or convert a data set, or see how it is augmented.")
    verbs.add_subcommand("data", data, help="check, count or convert a data set, see its augmentation")
    _add_data_actions(data)  # only now: jsonargparse wants the outer level first
    weights = ArgumentParser(description="Weights known by name: list them, download them.")
    verbs.add_subcommand("weights", weights, help="list or download weights known by name")
    _add_weights_actions(weights)
    return parser


def _demo_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Train a small network on generated street scenes, evaluate it on 50 unseen ones, draw pictures. "
        "Needs no data and no download; takes about 7 minutes on two cores."
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/demo"), help="run folder; an earlier demo in it is replaced"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="upper bound of the training time, minutes")
    parser.add_argument("--steps", type=int, default=0, help="upper bound of the training steps; 0 for the demo's own")
    return parser


def _train_parser() -> ArgumentParser:
    parser = ArgumentParser(
        usage="tascnet train [--config FILE] [--init NETWORK] [--device DEVICE] [--devices N] [--output FOLDER] "
        "[--SETTING VALUE ...]\n       tascnet train --resume FOLDER",
        description="Train a network. Settings come from --config FILE; any of them can be changed by a flag "
        "behind it.",
    )
    parser.add_argument("--config", action=_ConfigFile, help="YAML file with the settings below")
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


def _runs_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="List training runs: state (running, finished, interrupted), steps, best and last PQ, start, time "
        "spent on steps."
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("runs"), help="folder that holds runs, or one run; default runs"
    )
    parser.add_argument("--sort", default="started", choices=["started", "name", "pq"], help="latest or best first")
    parser.add_argument("--json", action="store_true", help="print JSON, for other programs")
    return parser


def _plot_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Draw curves of one or several runs into one picture: losses, PQ of all, things and stuff at each "
        "validation, learning rate. Needs matplotlib: pip install 'tascnet[plot]'."
    )
    parser.add_argument("folders", metavar="RUN", type=Path, nargs="+", help="run folders")
    parser.add_argument("--output", type=Path, default=Path("curves.png"), help="the picture: .png, .svg or .pdf")
    parser.add_argument(
        "--metrics",
        default="",
        help="keys of metrics.jsonl with commas between them, one panel each, such as val/pq,loss/total",
    )
    return parser


def _evaluate_parser() -> ArgumentParser:
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
    _add_device(parser)
    _add_use(parser)
    _add_on_bad_sample(parser, "evaluation")
    _add_changes(parser, {"data": DatasetConfig, "fusion": FusionConfig})
    return parser


def _metrics_parser() -> ArgumentParser:
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
    _add_on_bad_sample(parser, "measurement")
    return parser


def _predict_parser() -> ArgumentParser:
    parser = ArgumentParser(
        usage="tascnet predict [NETWORK] PHOTO ... --output FOLDER [--weights NETWORK] [--use WEIGHTS] "
        "[--SETTING VALUE ...]",
        description="Segment photos: an overlay for each, and all results as a benchmark wants them, ready to be sent "
        "to its server; by default in COCO panoptic format (JSON and PNG).",
    )
    parser.add_argument(
        "inputs",
        type=Path,
        nargs="+",
        help="photos, or folders of photos; before them, where --weights is not given, the network",
    )
    _add_weights(parser)
    _add_use(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--names", type=bool, default=True, help="write the categories' names into the overlays")
    parser.add_argument(
        "--benchmark",
        type=Literal["coco", "vistas", "cityscapes"],
        default="coco",
        help="whose files are written: COCO panoptic; the same with names as ids (Vistas); or the semantic, instance "
        "and panoptic results of Cityscapes",
    )
    parser.add_argument(
        "--image_info",
        type=Path | None,
        default=None,
        help="COCO JSON file whose images give the ids of the photos by file name; default 1, 2, ...",
    )
    _add_batch_size(parser)
    _add_device(parser)
    _add_on_bad_sample(parser, "command")
    return parser


def _triage_parser() -> ArgumentParser:
    parser = ArgumentParser(
        usage="tascnet triage [NETWORK] PHOTO ... --output FOLDER [--weights NETWORK] [--use WEIGHTS] "
        "[--SETTING VALUE ...]",
        description="Rank photos by the quality that may be expected of their segmentation, the worst first, without "
        "annotation: triage.csv, triage.json, and a picture of the most doubtful.",
    )
    parser.add_argument(
        "inputs",
        type=Path,
        nargs="+",
        help="photos, or folders of photos; before them, where --weights is not given, the network",
    )
    _add_weights(parser)
    _add_use(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--shown", type=int, default=12, help="most doubtful photos in the picture and in the table")
    _add_batch_size(parser)
    _add_device(parser)
    _add_on_bad_sample(parser, "command")
    return parser


def _share_parser() -> ArgumentParser:
    parser = ArgumentParser(
        usage="tascnet share NETWORK [OUTPUT] [--use WEIGHTS] [--precision FORMAT] [--licence NAME] "
        "[--push OWNER/NAME]",
        description="Write a trained network for others: weights, settings, categories, origin and a model card, "
        "without the state of the optimiser and without paths of this machine. Loading it needs no data.",
    )
    parser.add_argument("checkpoint", metavar="NETWORK", type=Path, help=NETWORK)
    parser.add_argument(
        "output",
        type=Path | None,
        nargs="?",
        default=None,
        help="new folder; or new file, if it ends with .safetensors, which holds all but the model card",
    )
    _add_use(parser)
    parser.add_argument(
        "--precision",
        type=Literal["float32", "float16", "bfloat16"],
        default="float32",
        help="number format of the weights; the 16-bit ones halve the size, biases and norms stay in float32",
    )
    parser.add_argument(
        "--licence", default="unknown", help="of the weights, as the hub abbreviates it: apache-2.0, cc-by-4.0, ..."
    )
    parser.add_argument(
        "--push", type=str | None, default=None, help="send it to this repository (OWNER/NAME) on Hugging Face's hub"
    )
    return parser


def _info_parser() -> ArgumentParser:
    parser = ArgumentParser(
        usage="tascnet info NETWORK [--use WEIGHTS] [--height PIXELS] [--width PIXELS] [--stuff NUMBER] "
        "[--things NUMBER]\n       tascnet info --environment",
        description="Parameters and multiply-adds of a network by part, beside two separate networks of the same "
        "parts; of a checkpoint also its categories, figures and origin. Or, with --environment, this machine.",
    )
    parser.add_argument(
        "path", metavar="NETWORK", type=Path | None, nargs="?", default=None, help=f"a config file (YAML), {NETWORK}"
    )
    parser.add_argument(
        "--environment",
        action="store_true",
        help="print versions, processor, memory and GPUs of this machine, as a bug report needs them",
    )
    _add_use(parser)
    parser.add_argument("--height", type=int, default=512, help="of the input, pixels")
    parser.add_argument("--width", type=int, default=1024, help="of the input, pixels")
    parser.add_argument("--stuff", type=int, default=11, help="stuff categories, where the config alone does not tell")
    parser.add_argument("--things", type=int, default=8, help="thing categories, where the config alone does not tell")
    return parser


def _add_data_actions(parser: ArgumentParser) -> None:
    actions = parser.add_subcommands(dest="action", metavar="ACTION", help="what to do with a data set")
    actions.add_subcommand("check", _check_parser(), help="read all of a data set and list all that is wrong")
    actions.add_subcommand("stats", _stats_parser(), help="pictures, segments by category, sizes of instances")
    actions.add_subcommand("convert", _convert_parser(), help="write a data set in COCO panoptic format")
    actions.add_subcommand("augment", _augment_parser(), help="draw the samples with which a training begins")


def _add_weights_actions(parser: ArgumentParser) -> None:
    actions = parser.add_subcommands(dest="action", metavar="ACTION", help="what to do")
    listing = ArgumentParser(
        description="Show known weights: who trained them on what, their licence and size, what their authors measured."
    )
    actions.add_subcommand("list", listing, help="show known weights")
    getting = ArgumentParser(
        description="Download known weights into the cache (TASCNET_HOME, else ~/.cache/tascnet), or check those that "
        "are there; print their path."
    )
    getting.add_argument("name", type=str, help="a name that tascnet weights list shows")
    actions.add_subcommand("get", getting, help="download known weights")


def _check_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Read a whole data set and list everything that is wrong with it, not the first problem only. Exit "
        "code 0: no errors (there may be warnings); 1: errors; 2: it cannot be read at all."
    )
    _add_source(parser, skip={"group_by", "num_images"})
    parser.add_argument(
        "--output",
        type=Path | None,
        default=None,
        help="folder for check.json with all findings and contact_sheet.png; default: nothing is written",
    )
    _add_on_bad_sample(parser, "check")
    return parser


def _stats_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Count a data set: pictures and their sizes, segments and pixels of each category, crowds, void, "
        "instances by size. Photos are not read."
    )
    _add_source(parser)
    parser.add_argument(
        "--output", type=Path | None, default=None, help="JSON file for all numbers; default: nothing is written"
    )
    _add_on_bad_sample(parser, "count")
    return parser


def _convert_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Write a data set in COCO panoptic format: OUTPUT/annotations/panoptic_SPLIT.json with its PNGs, "
        "photos in OUTPUT/SPLIT/. A png_pairs root without splits becomes the split 'all'."
    )
    _add_source(parser)
    parser.add_argument("--output", type=Path, required=True, help="root of the new data set")
    parser.add_argument(
        "--photos", default="copy", choices=["copy", "link"], help="copy the photos, or make symbolic links to them"
    )
    _add_on_bad_sample(parser, "conversion")
    return parser


def _augment_parser() -> ArgumentParser:
    parser = ArgumentParser(
        usage="tascnet data augment CONFIG --output FILE.png [--samples NUMBER] [--data.train.SETTING VALUE ...] "
        "[--data.input.SETTING VALUE ...]",
        description="Draw the samples with which a training begins, scaled, cropped, turned and pasted as the network "
        "sees them, each beside its annotation.",
    )
    parser.add_argument("path", metavar="CONFIG", type=Path, help="configuration file (YAML) or run folder")
    parser.add_argument("--output", type=Path, required=True, help="PNG file for the sheet")
    parser.add_argument("--samples", type=int, default=12, help="number of samples")
    _add_changes(parser, {"data.train": DatasetConfig, "data.input": InputConfig})
    return parser


def _add_on_bad_sample(parser: ArgumentParser, noun: str) -> None:
    """The option of every verb that reads many images, with one meaning and one default."""
    parser.add_argument(
        "--on_bad_sample",
        type=OnBadSample,
        default="skip",
        help="photos or annotation that cannot be used: skip leaves them out, names them, and the exit code is 1; fail "
        f"ends the {noun} at the first, with exit code 2",
    )


def _add_weights(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        type=str | None,
        default=None,
        help=f"the network: {NETWORK}; where none is named, panoptic-fpn-r50-coco if it has been downloaded",
    )


def _add_batch_size(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--batch_size", type=int, default=1, help="photos that go through the network together, where of one size"
    )


def _add_device(parser: ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def _add_use(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--use",
        type=Use,
        default="newest",
        help="which weights of a run: those of its newest checkpoint; their average, where training.ema_decay has kept "
        "one; or those with the best PQ so far, be they averaged or not",
    )


def _add_changes(parser: ArgumentParser, groups: Mapping[str, type]) -> None:
    """Flags for settings that a file or a run gives; None where the user leaves them so."""
    for name, settings in groups.items():
        parser.add_class_arguments(settings, name)
        parser.set_defaults({f"{name}.{field.name}": None for field in fields(settings)})


def _add_source(parser: ArgumentParser, skip: Set[str] = frozenset()) -> None:
    """What names a data set: its path, its format, and those settings of a data set that have to do with files."""
    parser.add_argument("path", type=Path, help="root of the data set, or a JSON file in one of COCO's formats")
    parser.add_argument(
        "--format",
        default="auto",
        help="how it is stored: coco, cityscapes, vistas, png_pairs or coco_instances; auto looks at the files",
    )
    parser.add_argument(
        "--images",
        type=Path | None,
        default=None,
        help="folder of photos, for a COCO panoptic JSON file by itself",
    )
    of_streets = {"seed", "first", "height", "width", "difficulty"}
    parser.add_class_arguments(DatasetConfig, skip={"format", "root", *of_streets, *skip})


def _demo(options: Namespace, command: str) -> None:
    from tascnet.commands.demo import run_demo  # noqa: PLC0415 - imports torch

    run_demo(options.output, options.minutes, options.steps, command, _console())


def _train(options: Namespace, command: str) -> None:
    from tascnet.console import say  # noqa: PLC0415 - imports rich
    from tascnet.evaluation.writing import print_report  # noqa: PLC0415 - imports torch
    from tascnet.runs.folder import new_run_path  # noqa: PLC0415
    from tascnet.training import resume, train  # noqa: PLC0415

    console = _console()
    if options.resume is not None:
        folder, report = options.resume, resume(options.resume, console)
    else:
        config_files = [Path(str(file)) for file in options.get("config") or []]
        name = config_files[0].stem if config_files else "train"
        folder = options.output or new_run_path(name)
        report = train(_config(options), folder, command, console)
    print_report(report, console)
    say(console, f"checkpoint, report.json and pictures are in {folder}")


def _runs(options: Namespace, command: str) -> None:
    from tascnet.runs.listing import print_runs  # noqa: PLC0415 - imports rich

    print_runs(options.folder, options.sort, options.json, _console())


def _plot(options: Namespace, command: str) -> None:
    from tascnet.runs.curves import plot_runs  # noqa: PLC0415 - imports rich

    metrics = [name.strip() for name in options.metrics.split(",") if name.strip()]
    plot_runs(options.folders, metrics, options.output, _console())


def _evaluate(options: Namespace, command: str) -> int:
    from tascnet.console import say  # noqa: PLC0415 - imports rich
    from tascnet.evaluation.evaluate import evaluate_checkpoint  # noqa: PLC0415 - imports torch
    from tascnet.evaluation.writing import print_report  # noqa: PLC0415

    console = _console()
    data, fusion = _given(options.data), _given(options.fusion)
    report, folder = evaluate_checkpoint(
        options.checkpoint,
        data,
        fusion,
        options.output,
        options.device,
        console,
        command,
        options.use,
        options.on_bad_sample,
    )
    print_report(report, console)
    say(console, f"report.json, report.md and pictures are in {folder}")
    return EXIT_PROBLEMS if report.left_out else 0


def _metrics(options: Namespace, command: str) -> int:
    from tascnet.console import say  # noqa: PLC0415 - imports rich
    from tascnet.evaluation.panoptic_files import compare_files  # noqa: PLC0415 - imports torch
    from tascnet.evaluation.writing import print_report, write_report  # noqa: PLC0415
    from tascnet.files import check_writable  # noqa: PLC0415

    console = _console()
    if options.output is not None:
        check_writable(options.output)
    files = {name: getattr(options, name) for name in _COMPARED_FILES}
    report = compare_files(
        **files,
        missing=options.missing,
        workers=options.workers,
        console=console,
        on_bad_sample=options.on_bad_sample,
    )
    print_report(report, console)
    if options.output is not None:
        write_report(report, options.output, command, {name: str(path or "") for name, path in files.items()})
        say(console, f"report.json and report.md are in {options.output}")
    return EXIT_PROBLEMS if report.left_out else 0


def _predict(options: Namespace, command: str) -> int:
    from tascnet.commands.predict import network_and_photos, predict_files  # noqa: PLC0415 - imports torch
    from tascnet.data.bad_samples import LeftOut  # noqa: PLC0415

    console, left_out = _console(), LeftOut(options.on_bad_sample)
    network, photos = network_and_photos(options.inputs, options.weights, console)
    predict_files(
        network,
        photos,
        options.output,
        options.names,
        options.device,
        console,
        options.benchmark,
        options.image_info,
        options.batch_size,
        options.use,
        left_out,
    )
    return _named(left_out.errors, console)


def _triage(options: Namespace, command: str) -> int:
    from tascnet.commands.predict import network_and_photos  # noqa: PLC0415 - imports torch
    from tascnet.data.bad_samples import LeftOut  # noqa: PLC0415
    from tascnet.triage.ranking import triage_files  # noqa: PLC0415

    console, left_out = _console(), LeftOut(options.on_bad_sample)
    network, photos = network_and_photos(options.inputs, options.weights, console)
    triage_files(
        network,
        photos,
        options.output,
        options.device,
        console,
        options.shown,
        options.batch_size,
        left_out,
        options.use,
    )
    return _named(left_out.errors, console)


def _share(options: Namespace, command: str) -> None:
    from tascnet.networks.sharing import share  # noqa: PLC0415 - imports torch

    sharing = options.precision, options.licence, options.push
    share(options.checkpoint, options.output, *sharing, _console(), options.use)


def _info(options: Namespace, command: str) -> None:
    if options.environment == (options.path is not None):
        raise InputError("info takes either a network or config file, or --environment. Give one of them.")
    if options.environment:
        from tascnet.commands.environment import environment  # noqa: PLC0415 - imports torch

        print("\n".join(f"{name}: {text}" for name, text in environment().items()))
        return
    from tascnet.commands.info import print_info  # noqa: PLC0415 - imports torch

    print_info(options.path, options.height, options.width, options.stuff, options.things, _console(), options.use)


def _data(options: Namespace, command: str) -> int | None:
    chosen = options[options.action]
    if options.action == "augment":
        from tascnet.data_tools.augmented import draw_augmented  # noqa: PLC0415 - imports torch

        changes = {"train": _given(chosen.data.train), "input": _given(chosen.data.input)}
        draw_augmented(chosen.path, changes, chosen.samples, chosen.output, _console())
        return None
    known = {field.name for field in fields(DatasetConfig)} - {"format", "root"}
    settings = DatasetConfig(**{name: value for name, value in vars(chosen).items() if name in known})
    source = chosen.path, chosen.format, chosen.images
    from tascnet.data.bad_samples import LeftOut  # noqa: PLC0415

    console, left_out = _console(), LeftOut(chosen.on_bad_sample)
    if options.action == "check":
        from tascnet.data_tools.check import check_data  # noqa: PLC0415 - imports torch

        is_sound = check_data(*source, settings, chosen.output, console, chosen.on_bad_sample)
        return 0 if is_sound else EXIT_PROBLEMS
    if options.action == "stats":
        from tascnet.data_tools.stats import print_stats  # noqa: PLC0415 - imports torch

        print_stats(*source, settings, chosen.output, console, left_out)
        return _named(left_out.errors, console)
    from tascnet.data_tools.convert import convert_data  # noqa: PLC0415 - imports torch

    convert_data(chosen.path, chosen.output, chosen.format, chosen.images, chosen.photos, settings, console, left_out)
    return _named(left_out.errors, console)


def _weights(options: Namespace, command: str) -> None:
    from rich.console import Console  # noqa: PLC0415

    from tascnet.networks.foreign.catalog import get, print_known  # noqa: PLC0415 - imports rich

    if options.action == "list":
        print_known(_console())
    else:
        print(get(options["get"].name, Console(stderr=True)))  # the path alone, for $(tascnet weights get NAME)


def _config(options: Namespace) -> Config:
    values = options.as_dict()
    if options.init:
        values["training"]["init"] = options.init
    if options.device is not None:
        values["training"]["accelerator"] = options.device
    if options.devices is not None:
        values["training"]["devices"] = options.devices
    return from_dict({field.name: values[field.name] for field in fields(Config)})


def _named(errors: Sequence[InputError], console: "Console") -> int:
    """Name the samples that were left out; the exit code that goes with them."""
    from tascnet.console import say  # noqa: PLC0415 - imports rich

    if not errors:
        return 0
    say(console, f"left out, because they cannot be used: {len(errors)}")
    for error in errors:
        say(console, f"  {error}")
    return EXIT_PROBLEMS


def _with_homes(options: Namespace) -> Namespace:
    """The options with "~" replaced in all paths: a shell leaves it alone in quotes and in --output=~/x."""
    for name, value in vars(options).items():
        if isinstance(value, Namespace):
            _with_homes(value)
        elif isinstance(value, Path):
            setattr(options, name, at_home(value))
        elif isinstance(value, list) and value and isinstance(value[0], Path):
            setattr(options, name, [at_home(path) for path in value])
    return options


def _given(options: Namespace) -> dict[str, Any]:
    """The settings that the user gave; the others are None."""
    return {name: value for name, value in vars(options).items() if value is not None}


def _console() -> "Console":
    from rich.console import Console  # noqa: PLC0415

    try:
        place = Place.from_environment()
    except InputError:  # only training depends on it, and refuses it
        place = None
    return Console(quiet=place is not None and place.process > 0)  # of several processes, the first speaks


if __name__ == "__main__":
    sys.exit(main())
