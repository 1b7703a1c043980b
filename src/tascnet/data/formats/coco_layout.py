"""Splits in the official layout of COCO panoptic files."""

import codecs
from collections.abc import Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path


def stray_files(root: Path) -> list[Path]:
    """JSON files among a root's annotation that are no split beside those that are: lists of test images, results."""
    return [path for path in _files(root) if path.stem.removeprefix("panoptic_") not in find_splits(root)]


def _files(root: Path) -> list[Path]:
    return sorted(root.glob("annotations/panoptic_*.json"))


def find_splits(root: Path) -> list[str]:
    """The splits; where there is none, all files of such names, so that opening them tells what is missing."""
    files = _files(root)
    return [path.stem.removeprefix("panoptic_") for path in files if _is_split(path)] or [
        path.stem.removeprefix("panoptic_") for path in files
    ]


def _is_split(path: Path) -> bool:
    """Whether a file belongs to a split: it annotates, and has its photos, or its PNGs and all lists.

    It is not read as JSON, for some are large; a split whose file is broken stays a split.
    """
    holds = _words_in(path, (b'"segments_info"', b'"images"', b'"categories"'))
    has_photos = (path.parent.parent / path.stem.removeprefix("panoptic_")).is_dir()
    return holds[0] and (has_photos or (path.with_suffix("").is_dir() and all(holds)))


def _words_in(path: Path, words: Sequence[bytes]) -> list[bool]:
    """Which words are in a file; all, where it cannot be searched: whoever reads it tells why."""
    if path.exists() and not path.is_file():  # a named pipe would be waited for
        return [False for _ in words]
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            is_cut_short = not content[-64:].rstrip().endswith(b"}")
            if is_cut_short or content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                return [True for _ in words]
            return [content.find(word) >= 0 for word in words]
    except (OSError, ValueError):  # an empty file cannot be mapped
        return [True for _ in words]
