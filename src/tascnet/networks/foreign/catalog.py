"""Weights known by name: where they are, what they were trained on, what their authors measured."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from tascnet.errors import InputError
from tascnet.files import at_home
from tascnet.networks.foreign.download import Digest, Download, cache_folder
from tascnet.progress import SILENT, Observer
from tascnet.settings import NETWORK, WEIGHT_SUFFIXES

DEFAULT_NETWORK = "panoptic-fpn-r50-coco"
"""What `predict` takes where no network is named."""

NETWORK_SUFFIXES = (*WEIGHT_SUFFIXES, ".pkl")
"""Endings of files that hold a whole network; detectron2's are pickles."""


@dataclass(frozen=True)
class KnownWeights:
    """A file of weights that somebody has published.

    Attributes:
        url: of the file.
        digest: as the source publishes it.
        megabytes: 10**6 bytes; from the number of parameters where the source does not say.
        source: the project that trained it.
        data: what it was trained on; COCO stands for its train2017.
        categories: how many it knows.
        licence: of the weights, as the source states it.
        pq: panoptic quality on COCO val2017 as published, percent; None where there is no stuff.
        mask_ap: AP of masks on COCO val2017 as published, percent.
    """

    url: str
    digest: Digest
    megabytes: int
    source: str
    data: str
    categories: str
    licence: str
    pq: float | None
    mask_ap: float | None


def _detectron2(path: str, megabytes: int, pq: float | None, mask_ap: float) -> KnownWeights:
    """An entry of detectron2's MODEL_ZOO.md, which says: a file's name ends in the first digits of its MD5."""
    return KnownWeights(
        url=f"https://dl.fbaipublicfiles.com/detectron2/{path}",
        digest=Digest("md5", PurePosixPath(path).stem.rsplit("_", 1)[1]),
        megabytes=megabytes,
        source="detectron2",
        data="COCO",
        categories="80 things" if pq is None else "80 things + 53 stuff",
        licence="CC BY-SA 3.0",
        pq=pq,
        mask_ap=mask_ap,
    )


def _torchvision(file: str, megabytes: int, mask_ap: float) -> KnownWeights:
    """A file of torchvision, whose name ends in the first digits of its SHA-256."""
    return KnownWeights(
        url=f"https://download.pytorch.org/models/{file}",
        digest=Digest("sha256", PurePosixPath(file).stem.rsplit("-", 1)[1]),
        megabytes=megabytes,
        source="torchvision",
        data="COCO",
        categories="80 things",
        licence="no licence stated",
        pq=None,
        mask_ap=mask_ap,
    )


_PANOPTIC, _INSTANCE = "COCO-PanopticSegmentation", "COCO-InstanceSegmentation"

KNOWN: dict[str, KnownWeights] = {
    "panoptic-fpn-r50-1x-coco": _detectron2(
        f"{_PANOPTIC}/panoptic_fpn_R_50_1x/139514544/model_final_dbfeb4.pkl", 184, pq=39.4, mask_ap=34.7
    ),
    DEFAULT_NETWORK: _detectron2(
        f"{_PANOPTIC}/panoptic_fpn_R_50_3x/139514569/model_final_c10459.pkl", 184, pq=41.5, mask_ap=36.5
    ),
    "panoptic-fpn-r101-coco": _detectron2(
        f"{_PANOPTIC}/panoptic_fpn_R_101_3x/139514519/model_final_cafdb1.pkl", 261, pq=43.0, mask_ap=38.5
    ),
    "mask-rcnn-r50-coco": _detectron2(
        f"{_INSTANCE}/mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl", 178, pq=None, mask_ap=37.2
    ),
    "mask-rcnn-r101-coco": _detectron2(
        f"{_INSTANCE}/mask_rcnn_R_101_FPN_3x/138205316/model_final_a3ec72.pkl", 254, pq=None, mask_ap=38.6
    ),
    "torchvision-mask-rcnn-r50-coco": _torchvision("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", 178, mask_ap=34.6),
    "torchvision-mask-rcnn-r50-v2-coco": _torchvision("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", 186, mask_ap=41.8),
}
"""Name -> weights. Sources: detectron2's MODEL_ZOO.md, torchvision's `MaskRCNN_ResNet50_FPN(_V2)_Weights`."""


def resolve(name_or_path: str | Path, observer: Observer = SILENT) -> Path:
    """The path of a network: what is a path stays as it is, what is a known name is downloaded unless it is there.

    Args:
        name_or_path: a path, or a name of `KNOWN`. Where both exist, the path counts.
        observer: receives the progress of the download.

    Raises:
        InputError: it is neither, or the download fails.
    """
    name, path = str(name_or_path), at_home(name_or_path)
    if path.exists() or (name not in KNOWN and (len(path.parts) > 1 or path.suffix)):
        return path
    if name not in KNOWN:
        raise InputError(f"{name} does not exist, and {_unknown(name)}. Give {NETWORK}.")
    return download_of(name).get(observer)


def get(name: str, observer: Observer = SILENT) -> Path:
    """Download known weights, or check those that are there already; return their path.

    Raises:
        InputError: there are no known weights of that name, the download fails, or the file is another one.
    """
    return download_of(name).get(observer)


def cached(name: str) -> Path | None:
    """The file of known weights if it has been downloaded."""
    path = download_of(name).path
    return path if path.is_file() else None


def is_network(path: str | Path) -> bool:
    """Whether something names a network rather than a photo: a known name, or a file that ends as weights do."""
    return str(path) in KNOWN or Path(path).suffix.lower() in NETWORK_SUFFIXES


def download_of(name: str) -> Download:
    """Where the file of known weights comes from and goes to.

    Raises:
        InputError: there are no known weights of that name; near ones are given.
    """
    if name not in KNOWN:
        raise InputError(f"{name}: {_unknown(name)}. Give a name that tascnet weights list shows.")
    known = KNOWN[name]
    suffix = PurePosixPath(known.url).suffix
    return Download(name, known.url, cache_folder() / "weights" / f"{name}{suffix}", known.digest)


def _unknown(name: str) -> str:
    near = get_close_matches(name, KNOWN, n=3, cutoff=0.4)
    return "no known weights have that name" + (f"; near it are {', '.join(near)}" if near else "")
