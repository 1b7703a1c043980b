"""A network -> its model card: Markdown with the header that Hugging Face's hub reads."""

from collections.abc import Iterable

from huggingface_hub import EvalResult, ModelCardData

from tascnet.networks.network import Evaluation, Network, told
from tascnet.structures import Category

UNKNOWN_LICENCE = "unknown"
"""What the hub calls the licence of a network whose author has not said."""

PAPER = "[Learning to Fuse Things and Stuff](https://arxiv.org/abs/1812.01192)"


def model_card(network: Network, address: str, licence: str = UNKNOWN_LICENCE) -> str:
    """Write the model card of a network.

    Args:
        network: with all that is known of it; what is not known is left out, or is said to be unknown.
        address: what a user gives to load it: hf:owner/name on the hub, or a folder.
        licence: of the weights, as the hub abbreviates it.
    """
    parts = [
        f"---\n{_header(network, address, licence)}\n---",
        f"# {_name(address)}",
        f"A network for panoptic segmentation: TASCNet after {PAPER}, with the backbone "
        f"`{network.config.model.backbone.name}`. It gives every pixel of a photo one of "
        f"{len(network.label_space.categories)} categories, and every thing a segment of its own.",
        _usage(address),
        _quality(network.evaluation),
        _training(network),
        _categories(network),
        _licence(licence),
    ]
    return "\n\n".join(parts) + "\n"


def _header(network: Network, address: str, licence: str) -> str:
    """YAML for the hub."""
    evaluation, name = network.evaluation, _name(address)
    datasets = [str(data["format"]) for data in (network.origin.data,) if "format" in data]
    results = [
        EvalResult(
            task_type="image-segmentation",
            task_name="Panoptic segmentation",
            dataset_type=str(evaluation.data.get("format", "unknown")),
            dataset_name=told(evaluation.data) or "unknown",
            metric_type=figure.lower().replace(" ", "_"),
            metric_name=figure,
            metric_value=round(value, 2),
        )
        for figure, value in evaluation.figures.items()
    ]
    data = ModelCardData(
        license=licence,
        library_name="tascnet",
        pipeline_tag="image-segmentation",
        tags=["tascnet", "panoptic-segmentation", "instance-segmentation", "semantic-segmentation"],
        datasets=datasets or None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml().strip()


def _usage(address: str) -> str:
    return (
        "## Use\n\n```python\nfrom tascnet import Predictor\n\n"
        f'predictor = Predictor.from_checkpoint("{address}")\n'
        'segmentation = predictor("photo.jpg")\n```\n\n'
        f"On the command line: `tascnet predict {address} photo.jpg --output results`."
    )


def _quality(evaluation: Evaluation) -> str:
    if not evaluation.figures:
        return "## Quality\n\nNot measured."
    pictures = f"{evaluation.images} pictures of: " if evaluation.images else ""
    columns = list(evaluation.figures)
    lines = ["## Quality", f"In percent, measured on {pictures}{_code(told(evaluation.data) or 'unknown')}."]
    lines += [f"**Note: {_plain(note)}**" for note in evaluation.notes]
    lines.append(_table(columns, [[f"{value:.1f}" for value in evaluation.figures.values()]]))
    if evaluation.pq_per_category:
        rows = [[_plain(name), f"{pq:.1f}"] for name, pq in evaluation.pq_per_category.items()]
        lines.append(_folded("PQ of each category", _table(["category", "PQ"], rows)))
    return "\n\n".join(lines)


def _training(network: Network) -> str:
    """Where the weights come from and how they were trained."""
    origin = network.origin
    facts = {
        "first weights": _plain("; ".join(origin.weights)),
        "data": _code(told(origin.data)),
        "command": _code(origin.command),
        "steps": f"{network.step}, in {network.seconds / 60:.0f} minutes" if network.step else "",
        "started": _plain(origin.started),
        "tascnet": _plain(origin.version()),
    }
    return "## Training\n\n" + "\n".join(f"- {name}: {value or 'unknown'}" for name, value in facts.items())


def _categories(network: Network) -> str:
    space = network.label_space
    return (
        "## Categories\n\n"
        f"- {len(space.things)} things: {_names(space.things)}\n- {len(space.stuff)} stuff: {_names(space.stuff)}"
    )


def _licence(licence: str) -> str:
    if licence == UNKNOWN_LICENCE:
        return (
            "## Licence\n\nThe author has not said. The terms of the data it was trained on may apply to the weights."
        )
    return f"## Licence\n\n{_plain(licence)}"


def _name(address: str) -> str:
    return address.removeprefix("hf:").rstrip("/").split("/")[-1]


def _names(categories: Iterable[Category]) -> str:
    return ", ".join(_plain(category.name) for category in categories)


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(columns)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    escaped = "".join(f"\\{character}" if character in r"\`*_[]<>|#" else character for character in text)
    return " ".join(escaped.split())


def _code(text: str) -> str:
    """Text as code on one line; empty stays empty."""
    line = " ".join(text.split())
    fence = "``" if "`" in line else "`"
    padding = " " if "`" in line else ""
    return f"{fence}{padding}{line}{padding}{fence}" if line else ""
