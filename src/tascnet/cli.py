"""The command line: the table of verbs and the exit codes.

Only what parses arguments is imported here; each verb imports what it needs, so that `tascnet --help` is quick.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence

from tascnet.commands import data, demo, evaluate, info, metrics, plot, predict_cli, runs, share, train, triage, weights
from tascnet.commands.arguments import refuse_pipes, with_homes
from tascnet.commands.last_resort import Output, complain, report, watch_threads
from tascnet.commands.verbs import Verb, build_parser
from tascnet.errors import InputError, Interrupted, is_forbidden, sentence_of

VERBS: Mapping[str, Verb] = {
    "demo": Verb("train on generated street scenes and look at the result", demo.parser, demo.run),
    "train": Verb("train a network as a config file says", train.parser, train.run),
    "runs": Verb("list training runs: their state, their best PQ", runs.parser, runs.run),
    "plot": Verb("draw the curves of training runs", plot.parser, plot.run),
    "evaluate": Verb("measure a network on a data set", evaluate.parser, evaluate.run),
    "metrics": Verb("measure predictions that exist as files", metrics.parser, metrics.run),
    "predict": Verb("segment photos", predict_cli.parser, predict_cli.run),
    "triage": Verb("rank photos by expected quality, the worst first", triage.parser, triage.run),
    "share": Verb("write a trained network for others, or send it to the hub", share.parser, share.run),
    "info": Verb("parameters, origin and figures of a network", info.parser, info.run),
    "data": Verb("check, count or convert a data set, see its augmentation", data.parser, data.run, data.ACTIONS),
    "weights": Verb("list or download weights known by name", weights.parser, weights.run, weights.ACTIONS),
}

EXIT_BAD_INPUT = 2
EXIT_FAILURE = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130


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
    try:
        refuse_pipes(arguments)
        parsed = with_homes(build_parser(VERBS).parse_args(arguments))
        return VERBS[parsed.verb].run(parsed[parsed.verb], shlex.join(["tascnet", *arguments])) or 0
    except InputError as error:
        complain(f"error: {error}")
        return EXIT_BAD_INPUT
    except (Interrupted, KeyboardInterrupt) as stopped:
        complain(f"stopped: {stopped}" if isinstance(stopped, Interrupted) else "interrupted")
        return EXIT_INTERRUPTED
    except SystemExit as ended:  # the parser's, after help or a complaint
        return ended.code if isinstance(ended.code, int) else EXIT_BAD_INPUT
    except Exception as error:
        if is_forbidden(error):  # by the user's own files: no log explains it better
            complain(f"error: {sentence_of(error)}")
            return EXIT_BAD_INPUT
        report(error, arguments)
        return EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(main())
