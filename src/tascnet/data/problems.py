"""Kinds of problems of data sets. A reader stops at the first problem; a check collects all of them."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NoReturn

from tascnet.errors import InputError


class Kind(StrEnum):
    """A kind of problem; its value is what a table calls it."""

    MISSING_FILE = "file missing"
    UNREADABLE = "file cannot be read"
    NOT_IDS = "PNG that holds no ids"
    OTHER_SIZE = "sizes differ"
    BROKEN_ENTRY = "broken entry in the JSON"
    OUTSIDE = "file name that leads out of its folder"
    REPEATED_IMAGE = "image id used twice"
    SHARED_PHOTO = "photo of several images"
    REPEATED_ANNOTATION = "image annotated twice"
    NO_IMAGE = "annotation without image"
    REPEATED_SEGMENT = "segment id used twice"
    SEGMENT_ID = "segment id out of range"
    UNKNOWN_CATEGORY = "unknown category"
    STUFF_CROWD = "crowd of stuff"
    ONLY_IN_PNG = "id in the PNG, not in the JSON"
    ONLY_IN_JSON = "segment without pixels"
    AREA = "area that is not the number of pixels"
    BROKEN_MASK = "outline or mask that cannot be read"
    OVERLAP = "instances overlap"
    OTHER = "cannot be used"
    SHARED_PNG = "PNG of several images"
    STUFF_IN_PIECES = "stuff in several segments"
    TURNED = "EXIF turn or mirroring that sizes cannot prove"
    NO_ANNOTATION = "image without annotation"
    UNUSED_FILE = "file that nothing refers to"
    HIDDEN = "instance without a visible pixel"
    NEVER_SEEN = "category that is never seen"
    ONLY_CROWDS = "thing category with nothing but crowds"
    NO_THINGS = "picture without things"
    ALL_VOID = "picture without a labelled pixel"


WARNINGS = frozenset(
    {
        Kind.AREA,
        Kind.SHARED_PNG,
        Kind.STUFF_IN_PIECES,
        Kind.TURNED,
        Kind.NO_ANNOTATION,
        Kind.UNUSED_FILE,
        Kind.HIDDEN,
        Kind.NEVER_SEEN,
        Kind.ONLY_CROWDS,
        Kind.NO_THINGS,
        Kind.ALL_VOID,
    }
)
"""Kinds that a good data set may have; all others are errors, with which a picture cannot be read."""


class DataError(InputError):
    """A broken rule of a data set, with its kind.

    Attributes:
        kind: which rule.
        file: the picture or PNG that it is about; empty if not known.
    """

    def __init__(self, text: str, kind: Kind = Kind.OTHER, file: str = ""):
        # with the text alone it can be made, too: so a DataLoader passes it on from its workers
        super().__init__(text)
        self.kind = kind
        self.file = file


OnProblem = Callable[[DataError], None]
"""Callback of a reader for each problem; where it returns, the reader skips the broken part and continues."""


def stop(problem: DataError) -> NoReturn:
    """Raise the problem: the `OnProblem` of everything but a check."""
    raise problem


def first_few(values: Iterable[object], most: int = 8) -> str:
    """The first of many names or numbers, for a sentence."""
    texts = [str(value) for value in values]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")
