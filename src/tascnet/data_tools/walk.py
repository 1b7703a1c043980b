"""A data set, however broken -> its samples one after the other, and all that is wrong with them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

from tascnet.data.formats.dataset import FormatDataset, Inspected
from tascnet.data.problems import WARNINGS, DataError, Kind


class Finding(NamedTuple):
    """One thing that is wrong.

    Attributes:
        kind: of problem.
        text: a sentence: which file, what was found, what to do.
        picture: name of the picture, or empty.
    """

    kind: Kind
    text: str
    picture: str

    @property
    def is_error(self) -> bool:
        """Whether training cannot use the picture; else it is a warning."""
        return self.kind not in WARNINGS


@dataclass
class Findings:
    """Gathers problems; it is called with each, and knows which picture is being read."""

    all: list[Finding] = field(default_factory=list)
    picture: str = ""

    def __call__(self, problem: DataError) -> None:
        """Note a problem."""
        about = PurePath(problem.file).with_suffix("").as_posix() if problem.file else ""
        self.all.append(Finding(problem.kind, str(problem), self.picture or about))


def walk(dataset: FormatDataset, findings: Findings) -> Iterator[Inspected]:
    """Read all samples; whatever is wrong with them goes to `findings`."""
    for index in range(len(dataset)):
        findings.picture = dataset.sample_name(index)
        inspected = dataset.inspect(index)
        for problem in inspected.problems:
            findings(problem)
        yield inspected
    findings.picture = ""
