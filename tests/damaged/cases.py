"""A case: damaged input, the command that reads it, and the behaviour that is right."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

BAD_INPUT = 2
PROBLEMS = 1


@dataclass(frozen=True)
class Place:
    """Where a case lives; it writes nowhere else.

    Attributes:
        folder: of this case alone, and the working directory of its command.
        world: the sound files; read, never written.
        random: seeded by the run's seed and the case's name.
    """

    folder: Path
    world: Path
    random: Random

    def copy(self, name: str, to: str = "") -> Path:
        """A copy of a file or folder of the world, to be damaged."""
        source, target = self.world / name, self.folder / (to or name)
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path((shutil.copytree if source.is_dir() else shutil.copy)(source, target))


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: exit code; minus the number of the signal that killed it.
        out, err: its standard output and error.
        folder: of the case, with what the command wrote.
        world: the sound files, to compare with.
        hung: it was stopped because it took too long.
        megabytes: peak of the memory that it took beyond that of its parent.
        strays: files that it wrote outside of its folder.
    """

    code: int
    out: str
    err: str
    folder: Path
    world: Path
    hung: bool = False
    megabytes: float = 0
    strays: tuple[str, ...] = ()


Check = Callable[[Outcome], str]
"""An empty text where the result is right, otherwise the complaint."""


@dataclass(frozen=True)
class Wanted:
    """The behaviour that is right: to be refused, to work, or either.

    Attributes:
        refusals: exit codes with which it may be refused in a sentence; empty where it must work.
        words: to be found in that sentence.
        right: checks the result of a command that worked; None where it must be refused.
        code: exit code of a command that worked.
        absent: patterns of files that must not exist after a refusal.
    """

    refusals: frozenset[int] = frozenset()
    words: tuple[str, ...] = ()
    right: Check | None = None
    code: int = 0
    absent: tuple[str, ...] = ()


def refused(*words: str, codes: Sequence[int] = (BAD_INPUT,), absent: Sequence[str] = ()) -> Wanted:
    """A sentence that holds all the words, and none of the `absent` files."""
    return Wanted(frozenset(codes), words, absent=tuple(absent))


def works(right: Check = lambda outcome: "", code: int = 0) -> Wanted:
    """The command succeeds, with the right result."""
    return Wanted(right=right, code=code)


def either(right: Check = lambda outcome: "", *words: str, codes: Sequence[int] = (BAD_INPUT,)) -> Wanted:
    """Refused in a sentence, or read rightly: where a reader may be strict or generous, but not wrong."""
    return Wanted(frozenset(codes), words, right)


@dataclass(frozen=True)
class Case:
    """One damaged input and one command.

    Attributes:
        group: photos, coco, formats, configs, checkpoints or faults.
        name: unique in its group.
        prepare: writes the input into its place and returns the arguments of the command. It runs in the child, so
            that it may also change its environment and limits.
        wanted: the behaviour that is right.
        seconds: after which it counts as hanging, of processor time; of the clock four times as many.
        megabytes: of memory that it may take beyond that of the parent.
        slow: takes more than a few seconds: never in the quick subset.
    """

    group: str
    name: str
    prepare: Callable[[Place], Sequence[object]]
    wanted: Wanted
    seconds: float = 15
    megabytes: float = 700
    slow: bool = False

    @property
    def id(self) -> str:
        return f"{self.group}/{self.name}"
