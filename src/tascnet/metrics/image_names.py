"""Names of images, for metrics that keep a result per image."""

from collections.abc import Iterable, Mapping
from typing import Any

from tascnet.errors import InputError


def refuse_repeated(names: Iterable[str], added: Mapping[str, Any]) -> None:
    """Check that no image is added to a metric a second time.

    Args:
        names: of the images to be added.
        added: what the metric has, by name.

    Raises:
        InputError: it has one of the names already.
    """
    repeated = sorted(name for name in names if name in added)
    if repeated:
        raise InputError(
            f"image '{repeated[0]}' was added twice ({len(repeated)} such in all); give each image a name of its own "
            "and add it once, in one process only."
        )
