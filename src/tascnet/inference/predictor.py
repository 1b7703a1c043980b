"""Predictor: photos -> their panoptic segmentations, at the photos' own sizes. The only inference path."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Self, cast, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tascnet.config import CONVENTIONS, ConventionsName, FusionOptions, InputConfig
from tascnet.data.images import list_images, read_image, rgb_tensor
from tascnet.data.read_ahead import read_ahead
from tascnet.data.transforms import resize_photo, size_to_fit
from tascnet.errors import InputError, MemoryShortError, is_no_memory, shown
from tascnet.fusion import Fuser
from tascnet.inference.engines.eager import EagerEngine
from tascnet.inference.engines.engine import Engine, HeadOutputs
from tascnet.inference.result import Intermediates, Result
from tascnet.model.tascnet import TASCNet
from tascnet.networks.network import Network
from tascnet.networks.opening import open_network
from tascnet.progress import SILENT, Observer
from tascnet.settings import Use
from tascnet.structures import LabelSpace, PanopticSegmentation, Size

Photo = str | Path | Image.Image | np.ndarray | Tensor
"""A path, a Pillow image, an array (H, W, 3) uint8 RGB, or a tensor (3, H, W) uint8 RGB."""

Photos = list[Photo] | tuple[Photo, ...]

OnError = Callable[[Path, InputError], None]
"""Called with a photo that cannot be used, and why."""

BATCHES_TO_CHOOSE_FROM = 4
"""How many batches of photos are looked through for those that fit together."""


class Predictor:
    """A trained network with everything needed to apply it to photos."""

    def __init__(
        self,
        model: Network | TASCNet | Engine,
        label_space: LabelSpace | None = None,
        inputs: InputConfig | None = None,
        fusion: FusionOptions | None = None,
        conventions: ConventionsName | None = None,
    ):
        """Wrap a network; it stays on its device, and in its mode: it is in evaluation mode only while it predicts.

        Args:
            model: the network, or an engine that runs one. One of `tascnet.open_network` needs no other argument; a
                bare model or an engine needs all of them.
            label_space: its categories.
            inputs: how photos become its input; only the sizes matter here.
            fusion: how the outputs of its heads become one segmentation.
            conventions: how images are resized and logits interpolated, see `config.Conventions`; by default those of
                the network, or the attribute `conventions` of an engine, or tascnet.

        Raises:
            InputError: something is left out, and the network does not know it.
        """
        if isinstance(model, Network):
            label_space, inputs = label_space or model.label_space, inputs or model.config.data.input
            fusion = fusion or model.config.fusion
            model = model.model
        if label_space is None or inputs is None or fusion is None:
            raise InputError(
                "a bare model or an engine does not contain its settings and categories: pass label_space, inputs and "
                "fusion with it, or a network of tascnet.open_network."
            )
        self.engine: Engine = EagerEngine(cast(TASCNet, model)) if isinstance(model, nn.Module) else model
        self.label_space = label_space
        self._inputs = inputs
        self.score_threshold = fusion.score_threshold
        own: ConventionsName = getattr(model, "conventions", "tascnet")
        if (name := conventions or own) not in CONVENTIONS:
            raise InputError(f"conventions is {shown(name)}; it must be one of {', '.join(CONVENTIONS)}.")
        self.conventions = CONVENTIONS[name]
        self.fuser = Fuser(fusion, label_space)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        device: torch.device | str = "cpu",
        fusion: FusionOptions | None = None,
        use: Use = "newest",
        observer: Observer = SILENT,
    ) -> Self:
        """Load a network, for inference alone: batch norm is folded into its convolutions.

        Args:
            path: what `open_network` opens: a run folder (its newest checkpoint), a checkpoint folder, the folder or
                the one file of a shared network, a file of weights made elsewhere, a name that `tascnet weights list`
                shows, or hf:owner/name on Hugging Face's hub.
            device: where to compute.
            fusion: other fusion settings than those the checkpoint was trained with.
            use: which weights of a run: "newest", "average" (of the newest checkpoint, where the training kept one), or
                "best" (of the checkpoint with the best PQ: its weights or their average, whichever has it).
            observer: receives the progress of a download.

        Raises:
            InputError: there is no usable network, or it cannot be downloaded; or not with such weights.
        """
        network = open_network(path, observer, use)
        engine = EagerEngine(network.model.to(device), fold=True)
        return cls(engine, network.label_space, network.config.data.input, fusion or network.config.fusion)

    @overload
    def __call__(self, photo: Photo) -> PanopticSegmentation: ...

    @overload
    def __call__(self, photo: Photos, batch_size: int = 1) -> list[PanopticSegmentation]: ...

    def __call__(self, photo: Photo | Photos, batch_size: int = 1) -> PanopticSegmentation | list[PanopticSegmentation]:
        """The panoptic segmentation of a photo, at its own size; of a list of photos, a list in the same order.

        Args:
            photo: one photo, or a list or tuple of them.
            batch_size: photos of a list that go through the network together; see `predict_batch`.

        Raises:
            InputError: a photo cannot be read.
        """
        if isinstance(photo, list | tuple):
            return [prediction.segmentation for prediction in self.predict_batch(photo, batch_size)]
        return self.predict(photo).segmentation

    def predict(self, photo: Photo) -> Result:
        """Segment one image.

        Raises:
            InputError: the photo cannot be read, or the memory is too small for it.
        """
        (prediction,) = self._predict_or_error([_read(photo)])
        if isinstance(prediction, InputError):
            raise prediction
        return prediction

    def predict_batch(self, photos: Iterable[Photo], batch_size: int = 1) -> list[Result]:
        """Predict several photos, as many as `batch_size` at a time in the network.

        Only photos that are of one size as the network gets them share a batch, in whatever order they come: padding
        a smaller one would change its result, because the group norms see the padding. Photos of a batch
        have the results that they have by themselves, but for rounding in the last digits.

        Args:
            photos: any number; all their predictions are held at once, which `stream` avoids.
            batch_size: at least 1; more takes more memory, and time is only won where a photo by itself does not
                keep the device busy.

        Returns:
            A prediction for each photo, in their order.

        Raises:
            InputError: a photo cannot be read, or `batch_size` is less than 1.
        """
        if not isinstance(photos, Iterable) or isinstance(photos, str | Path | Image.Image):
            raise InputError(f"several photos come as a list; got one {type(photos).__name__}. Put it in a list.")
        _check_batch_size(batch_size)
        predictions = []
        for number, prediction in enumerate(self._predict_each(map(_read_or_error, photos), batch_size)):
            if isinstance(prediction, InputError):
                raise InputError(f"photo {number} of the list, counted from 0: {prediction}") from prediction
            predictions.append(prediction)
        return predictions

    def stream(
        self,
        paths: str | Path | Iterable[str | Path],
        batch_size: int = 1,
        on_error: OnError | None = None,
        read: Callable[[Path], Tensor] = read_image,
    ) -> Iterator[tuple[Path, Result]]:
        """Predict the photos of folders one after the other, in memory that does not grow with their number.

        Files are read in threads while the network computes. At most 5 photos, or their predictions, are held
        for each photo of a batch.

        Args:
            paths: a folder, a file, or several of them; `data.images.list_images` says what is taken of a folder.
            batch_size: photos that go through the network together where their sizes allow it; see `predict_batch`.
            on_error: called for a photo that cannot be read, or that the memory is too small for, which is then left
                out; None raises the error when it is the photo's turn.
            read: reads a photo, (3, H, W) uint8; the default turns it as its EXIF tag wants it.

        Returns:
            An iterator over the path and the prediction of each photo, in the order of `list_images`.

        Raises:
            InputError: at once where there is no photo, a path does not exist, or `batch_size` is less than 1.
        """
        _check_batch_size(batch_size)
        photos = list_images([paths] if isinstance(paths, str | Path) else paths)
        return self._stream(photos, batch_size, on_error, read)

    def _stream(
        self,
        photos: Sequence[Path],
        batch_size: int,
        on_error: OnError | None,
        read: Callable[[Path], Tensor],
    ) -> Iterator[tuple[Path, Result]]:
        with closing(read_ahead(photos, batch_size, read)) as images:
            for path, prediction in zip(photos, self._predict_each(images, batch_size), strict=True):
                if not isinstance(prediction, InputError):
                    yield path, prediction
                elif on_error is None:
                    raise _naming(path, prediction)
                else:
                    on_error(path, _naming(path, prediction))

    def _predict_each(self, images: Iterable[Tensor | InputError], batch_size: int) -> Iterator[Result | InputError]:
        """The prediction of each image, in their order; an error takes its place in the order.

        The next image goes into a batch with those behind it that have its size. As many are looked through as make
        a few batches.
        """
        images = iter(images)
        most = 1 + (batch_size - 1) * BATCHES_TO_CHOOSE_FROM
        window: deque[Tensor | Result | InputError] = deque()
        while True:
            window.extend(islice(images, most - len(window)))
            if not window:
                return
            if isinstance(window[0], Tensor):
                self._predict_first(window, batch_size)
            yield window.popleft()  # type: ignore[misc]  # the first is no Tensor any more

    def _predict_first(self, window: deque[Tensor | Result | InputError], batch_size: int) -> None:
        """Put predictions in the places of the first image of a window and of those that fit to it."""
        images = {place: image for place, image in enumerate(window) if isinstance(image, Tensor)}
        size = self._input_size(images[0])
        places = [place for place, image in images.items() if self._input_size(image) == size][:batch_size]
        predictions = self._predict_or_error([images[place] for place in places])
        for place, prediction in zip(places, predictions, strict=True):
            window[place] = prediction

    def _predict_or_error(self, images: Sequence[Tensor]) -> Sequence[Result | InputError]:
        """Predict images of one input size; where memory runs out, one by one, then as errors in their places."""
        try:
            return [self.finish(*pair) for pair in zip(self.heads(images), images, strict=True)]
        except (MemoryError, RuntimeError) as error:
            if not is_no_memory(error):
                raise
            if len(images) == 1:
                return [_too_large_to_predict(images[0], error)]
        # here the error is gone, and with it what its frames held
        return [prediction for image in images for prediction in self._predict_or_error([image])]

    def _input_size(self, image: Tensor) -> Size:
        """The size that an image has when it enters the network."""
        return size_to_fit(Size(*image.shape[1:]), self._inputs.short_side or None, self._inputs.max_long_side)

    def _resized(self, image: Tensor, size: Size) -> Tensor:
        return image if size == tuple(image.shape[1:]) else resize_photo(image, size, self.conventions.resize_with)

    def heads(self, images: Iterable[Photo]) -> list[HeadOutputs]:
        """Outputs of the network's heads, one per image, in their order; `finish` turns each into a result.

        Images of one input size go through the engine together, all at once.

        Raises:
            InputError: an image cannot be read.
        """
        read = [_read(image) for image in images]
        sizes = [self._input_size(image) for image in read]
        found: dict[int, HeadOutputs] = {}
        for size in dict.fromkeys(sizes):
            places = [place for place, own in enumerate(sizes) if own == size]
            # cat, not stack, which would change the layout of the pixels in memory
            batch = torch.cat([self._resized(read[place], size)[None] for place in places])
            found.update(zip(places, self.engine(batch), strict=True))
        return [found[place] for place in range(len(read))]

    @torch.no_grad()
    def finish(self, head_outputs: HeadOutputs, image: Photo) -> Result:
        """Fuse the outputs of the heads for one image.

        Args:
            head_outputs: computed from that image at the size that it has as input, or at its own size.
            image: the image, at its own size, which is that of the result.

        Raises:
            InputError: the outputs were computed at another size, or the image cannot be read.
        """
        image = _read(image)
        size, input_size = Size(*image.shape[1:]), head_outputs.size
        if input_size not in (size, self._input_size(image)):
            expected = self._input_size(image)
            raise InputError(
                f"the head outputs were computed from an input of {input_size.height} x {input_size.width} pixels "
                f"(height x width), but an image of {size.height} x {size.width} enters the network at "
                f"{expected.height} x {expected.width}. Pass the image that the outputs were computed from."
            )
        scale_x, scale_y = size.width / input_size.width, size.height / input_size.height
        instances = head_outputs.instances.resized(scale_x, scale_y)
        via_input = self.conventions.via_input
        logits = head_outputs.stuff_logits_at_input() if via_input else head_outputs.stuff_logits
        fused = self.fuser(logits, instances, size)
        on_host = head_outputs.cpu()
        instances = on_host.instances.resized(scale_x, scale_y)
        scored = replace(instances, scores=fused.scored.scores.cpu())
        intermediates = Intermediates(on_host, scored, fused.best.cpu(), self.score_threshold, via_input)
        return Result(
            image=image.cpu(),
            segmentation=fused.segmentation,
            instances=instances,
            label_space=self.label_space,
            dropped=fused.dropped,
            intermediates=intermediates,
        )


def _read(photo: Photo) -> Tensor:
    return read_image(photo) if isinstance(photo, str | Path) else rgb_tensor(photo)


def _read_or_error(photo: Photo) -> Tensor | InputError:
    try:
        return _read(photo)
    except InputError as error:
        return error


def _too_large_to_predict(image: Tensor, error: BaseException) -> InputError:
    height, width = image.shape[1:]
    problem = MemoryShortError(
        f"memory ran out while a photo of {height} x {width} pixels (height x width) was segmented. Make it smaller, "
        "or close other programs."
    )
    problem.__cause__ = error.with_traceback(None)  # its frames would hold the memory
    return problem


def _naming(path: Path, error: InputError) -> InputError:
    """The error of a photo, which names its file; errors of readers do so already."""
    return error if str(path) in str(error) else MemoryShortError(f"{path}: {error}")


def _check_batch_size(batch_size: int) -> None:
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise InputError(f"batch_size is a number of photos, 1 or more; got {batch_size!r}.")
