"""The outcome of a case -> a verdict."""

import re
from dataclasses import dataclass
from enum import StrEnum

from .cases import BAD_INPUT, PROBLEMS, Case, Outcome, Wanted

INTERNAL_ERROR = 70
LONGEST_SENTENCE = 1500
MOST_LINES_OF_USAGE = 10
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class Verdict(StrEnum):
    """How a case ended; all but the first two fall short."""

    SENTENCE = "sentence"  # refused, in one message that names what it must
    CORRECT = "correct"  # read rightly, or skipped as it should be
    SILENT = "silent"  # a wrong result and exit code 0, or files outside of the folder
    TRACEBACK = "traceback"  # an exception on the screen, or killed by a signal
    HANG = "hang"
    MEMORY = "memory"
    INTERNAL = "internal"  # the program's fault, as it says itself
    WRONG = "wrong"  # an exit code that does not fit: good input refused, work lost
    BROKEN = "broken"  # the case itself failed
    MESSAGE = "message"  # refused, but the message is raw, too long, or does not name the file or value


SOUND = (Verdict.SENTENCE, Verdict.CORRECT)


@dataclass(frozen=True)
class Judged:
    verdict: Verdict
    why: str = ""


def judge(case: Case, outcome: Outcome) -> Judged:
    """Compare an outcome with the behaviour that the case wants."""
    return _broken(case, outcome) or _compared(case.wanted, outcome)


def _broken(case: Case, outcome: Outcome) -> Judged | None:
    """What no case may do, whatever it wants."""
    if outcome.strays:
        return Judged(Verdict.SILENT, f"wrote outside of its folder: {', '.join(outcome.strays)}")
    if outcome.hung:
        return Judged(Verdict.HANG)
    if outcome.megabytes > case.megabytes:
        return Judged(Verdict.MEMORY, f"{outcome.megabytes:.0f} MB")
    if "Traceback (most recent call last)" in outcome.err + outcome.out:
        return Judged(Verdict.TRACEBACK, outcome.err.strip().rpartition("\n")[2][:300])
    if outcome.code < 0 and outcome.code not in case.wanted.refusals:
        return Judged(Verdict.TRACEBACK, f"killed by signal {-outcome.code}")
    if outcome.code == INTERNAL_ERROR and INTERNAL_ERROR not in case.wanted.refusals:
        return Judged(Verdict.INTERNAL, outcome.err.strip()[:300])
    return None


def _compared(wanted: Wanted, outcome: Outcome) -> Judged:
    if wanted.right is not None and outcome.code == wanted.code:
        complaint = wanted.right(outcome)
        if not complaint:
            return Judged(Verdict.CORRECT)
        return Judged(Verdict.WRONG if outcome.code else Verdict.SILENT, complaint)
    if outcome.code in wanted.refusals:
        complaint = _about_refusal(wanted, outcome)
        return Judged(Verdict.MESSAGE, complaint) if complaint else Judged(Verdict.SENTENCE)
    if outcome.code == 0:
        reported = wanted.right is not None and not wanted.right(outcome)
        return Judged(Verdict.WRONG if reported else Verdict.SILENT, f"exit code 0, not {_codes(wanted)}")
    return Judged(Verdict.WRONG, f"exit code {outcome.code}, not {_codes(wanted)}: {_error(outcome)}")


def _codes(wanted: Wanted) -> str:
    return " or ".join(map(str, sorted(wanted.refusals | ({wanted.code} if wanted.right else set()))))


def _about_refusal(wanted: Wanted, outcome: Outcome) -> str:
    """What is wrong with a refusal: its message, or files that it left."""
    left = [str(path.relative_to(outcome.folder)) for glob in wanted.absent for path in outcome.folder.glob(glob)]
    if left and outcome.code == BAD_INPUT:  # with the exit code 1, the results of the other images are there
        return f"left behind: {', '.join(left)}"
    message = _error(outcome) if outcome.code == BAD_INPUT else outcome.out + outcome.err
    flat = " ".join(message.split())
    missing = [word for word in wanted.words if word not in flat]
    if missing:
        return f"does not name {', '.join(map(repr, missing))}: {flat[:300]}"
    return _about_form(message, outcome)


def _about_form(message: str, outcome: Outcome) -> str:
    if _CONTROL.search(outcome.err):
        return f"control codes: {message[:300]!r}"
    if outcome.code == PROBLEMS and not re.search("left out|error|cannot be read", outcome.out + outcome.err):
        return f"bad samples are not named: {outcome.out[-300:]}"
    if outcome.code != BAD_INPUT:
        return ""
    if "error:" not in message:
        return f"no error message: {message[:300]!r}"
    if len(message) > LONGEST_SENTENCE:
        return f"{len(message)} characters: {message[:300]}"
    lines = outcome.err.count("tascnet: error:")
    if lines > 1 or message.count("\n") >= MOST_LINES_OF_USAGE:
        return f"more than one message: {message[:300]}"
    return ""


def _error(outcome: Outcome) -> str:
    """The error message: what follows the program's name, else all of standard error."""
    _, name, sentence = outcome.err.partition("tascnet: error:")
    return (name + sentence if name else outcome.err).strip()
