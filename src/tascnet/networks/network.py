"""The noun of everything that predicts: a model with its settings, categories, origin and evaluation figures.

However a network came here (trained, shared, downloaded, converted), `opening.open_network` returns it as a `Network`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from tascnet import __version__
from tascnet.config import Config
from tascnet.errors import InputError, escape_controls
from tascnet.model.tascnet import TASCNet
from tascnet.structures import LabelSpace

MAX_FIGURE = 1e300
"""Largest number that counts as a measured figure."""


@dataclass(frozen=True)
class Origin:
    """Where a network comes from. What is not known is empty.

    Attributes:
        weights: where its first weights came from, a sentence for each part of the network.
        data: what it was trained on: the settings of the data set that tell it from others.
        command: what the user called to train it.
        started: when, in ISO 8601.
        tascnet: version of this package that trained it.
        git_commit: of that package's working copy.
    """

    weights: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    started: str = ""
    tascnet: str = ""
    git_commit: str = ""

    @classmethod
    def of_run(cls, facts: Any, weights: Sequence[str], data: Mapping[str, Any]) -> Self:
        """From the content of a run's run.json, and what that file does not say."""
        known = _mapping(facts)
        texts = {name: str(known.get(name) or "") for name in ("command", "started", "tascnet", "git_commit")}
        return cls(weights=tuple(weights), data=dict(data), **texts)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The inverse of `to_dict`; what is missing or is none stays empty, since no figure depends on it."""
        known = _mapping(values)
        return cls.of_run(known, _texts(known.get("weights")), _mapping(known.get("data")))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def version(self) -> str:
        """The package that trained it, in a few words; empty if not known."""
        return " ".join(filter(None, [self.tascnet, self.git_commit and f"(git {self.git_commit})"]))


@dataclass(frozen=True)
class Evaluation:
    """Figures of a network on a data set, in percent.

    Attributes:
        figures: "PQ", "PQ things", "PQ stuff", "boundary PQ", "mIoU" or "AP" -> percent; only what was measured.
        data: settings of the data set that tell it from others.
        images: number of pictures; 0 where not known.
        pq_per_category: name -> percent.
        notes: sentences without which the figures would mislead.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    images: int = 0
    pq_per_category: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The inverse of `to_dict`; what is missing or is no number is left out."""
        known = _mapping(values)
        images = known.get("images")
        return cls(
            figures=numbers(known.get("figures")),
            data=_mapping(known.get("data")),
            images=images if isinstance(images, int) else 0,
            pq_per_category=numbers(known.get("pq_per_category")),
            notes=_texts(known.get("notes")),
        )

    @classmethod
    def from_report(cls, report: Any) -> Self:
        """From the content of a report.json."""
        values = _mapping(report)
        pq, boundary_pq, ap = (_mapping(values.get(name)) for name in ("pq", "boundary_pq", "ap"))
        figures = {
            "PQ": pq.get("all"),
            "PQ things": pq.get("things"),
            "PQ stuff": pq.get("stuff"),
            "boundary PQ": boundary_pq.get("all"),
            "mIoU": values.get("miou"),
            "AP": ap.get("ap"),
        }
        plain = {"figures": figures, "data": values.get("dataset"), "pq_per_category": pq.get("per_category")}
        return cls.from_dict(plain | {name: values.get(name) for name in ("images", "notes")})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Network:
    """A model with all that predictions and readers need to know of it.

    Attributes:
        model: the weights; as `open_network` returns it on the CPU, in evaluation mode, in float32.
        config: the settings it was built and trained with.
        label_space: its categories, in the order of its channels.
        step: steps of training so far; 0 where unknown.
        seconds: time of training so far; 0 where unknown.
        origin: where it comes from; empty where the files do not contain it.
        evaluation: its figures; empty where the files do not contain any.
        path: where it was read from: a folder, or the one file that holds all; empty where it was built in memory.
        has_checksum: whether its weights carried a checksum, which then was right.
    """

    model: TASCNet
    config: Config
    label_space: LabelSpace
    step: int = 0
    seconds: float = 0.0
    origin: Origin = Origin()
    evaluation: Evaluation = Evaluation()
    path: Path = Path()
    has_checksum: bool = False

    def __repr__(self) -> str:
        """Where it is from, its backbone, categories, steps and PQ; not its thousands of modules."""
        parts = [
            f"{self.config.model.backbone.name}",
            f"{len(self.label_space.things)} things + {len(self.label_space.stuff)} stuff",
            *([f"{self.step} steps"] if self.step else []),
            *(f"{name} {value:.1f}" for name, value in self.evaluation.figures.items() if name == "PQ"),
        ]
        return escape_controls(f"<Network {self.path if self.path != Path() else 'in memory'}: {', '.join(parts)}>")


def facts_of(label_space: LabelSpace, step: int, seconds: float, origin: Origin) -> dict[str, Any]:
    """Facts of a network beside settings and weights, as plain values for its checkpoint.json."""
    return {
        "tascnet": __version__,
        "progress": {"step": step, "seconds": seconds},
        "categories": label_space.to_list(),
        "origin": origin.to_dict(),
    }


def check_label_space(network: Network, label_space: LabelSpace) -> None:
    """Make sure that a network has the same categories as a data set.

    Raises:
        InputError: naming the first difference.
    """
    ours = {(c.id, c.name, c.is_thing) for c in network.label_space.categories}
    theirs = {(c.id, c.name, c.is_thing) for c in label_space.categories}
    if ours != theirs:
        differing = sorted(ours ^ theirs)[0]
        raise InputError(
            f"{network.path} was trained for {len(ours)} categories, the data set has {len(theirs)}; they differ, "
            f"for instance in '{differing[1]}' (id {differing[0]}). "
            "Use data with the same categories (and the same group_by)."
        )


def told(data: Mapping[str, Any]) -> str:
    """The settings of a data set in one line: "coco, root data/coco, split val2017"."""
    others = (f"{name} {value}" for name, value in data.items() if name != "format")
    return ", ".join([*([str(data["format"])] if "format" in data else []), *others])


def numbers(values: Any) -> dict[str, float]:
    """Those entries of a mapping that are finite numbers."""
    return {str(name): float(value) for name, value in _mapping(values).items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= MAX_FIGURE  # not NaN, either; an integer of a file may be too large for a float


def _mapping(values: Any) -> dict[str, Any]:
    return dict(values) if isinstance(values, Mapping) else {}


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(map(str, values)) if isinstance(values, list | tuple) else ()
