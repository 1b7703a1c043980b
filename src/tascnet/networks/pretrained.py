"""The network as users know it: loaded by name, saved, sent to Hugging Face's hub."""

from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard, ModelHubMixin

from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.model import tascnet as network
from tascnet.networks.card import UNKNOWN_LICENCE, model_card
from tascnet.networks.checkpoint import Checkpoint
from tascnet.networks.files import write_network
from tascnet.networks.hub import download, in_a_sentence, plain_hub_id
from tascnet.networks.opening import open_network
from tascnet.networks.origin import Measured, Origin
from tascnet.networks.sharing import in_precision, shared_facts, without_local_paths
from tascnet.structures import LabelSpace


class TASCNet(network.TASCNet, ModelHubMixin):
    """One network for things and stuff, kept consistent by a shared things mask; with the way to load and to save it.

    `TASCNet.from_pretrained(...)` gives a trained one; `Predictor(network)` applies it to photos. It is the network of
    `tascnet.model.tascnet` and computes the same: `network(images)` gives `Outputs`, `network(images, targets)` the
    named losses.

    Attributes:
        config: the settings it was trained with; None where it was put together by hand.
        label_space: its categories; None likewise.
        progress: `step` and `seconds` of its training.
        origin: where it comes from.
        measured: what was measured of it.
    """

    config: Config | None = None
    label_space: LabelSpace | None = None
    progress: dict[str, float]
    origin: Origin = Origin()
    measured: Measured = Measured()

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> Self:
        """The network of a checkpoint; it is not copied, the checkpoint's own becomes one of this class."""
        model: Any = checkpoint.model
        model.__class__ = cls  # as torch's own fully_shard does; a copy would have to know all parts of the network
        model.config, model.label_space, model.progress = checkpoint.config, checkpoint.label_space, checkpoint.progress
        model.origin, model.measured = checkpoint.origin, checkpoint.measured
        return model

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the mixin's passes parameters of constructors on
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
    ) -> Self:
        """Load a trained network, on the CPU, in evaluation mode, its weights in float32.

        Args:
            pretrained_model_name_or_path: anything that `opening.open_network` opens: a path of a network of ours or of
                others, a name that `tascnet weights list` shows, or hf:owner/name on Hugging Face's hub. Here, as in
                other libraries, owner/name alone is also looked up there, unless a folder `owner` is in the current
                one; a mistyped path with one slash therefore asks the hub. `Predictor.from_checkpoint` never does.
            force_download: fetch again what is in the hub's cache.
            token: for private repositories; that of `hf auth login` by default.
            cache_dir: folder of the cache; the hub client's own by default.
            local_files_only: do not go online.
            revision: branch, tag or commit on the hub; the main branch by default.

        Raises:
            InputError: there is no usable network of that name.
        """
        # the mixin's own method would first ask for a config.json, which these networks do not have
        path, repo_id = pretrained_model_name_or_path, plain_hub_id(pretrained_model_name_or_path)
        if repo_id is not None:
            path = download(repo_id, revision, cache_dir, force_download, local_files_only, token)
        return cls.from_checkpoint(open_network(path))

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Send weights, settings, categories and a model card to Hugging Face's hub.

        Args:
            repo_id: owner/name; made where missing.
            options: those of `huggingface_hub.ModelHubMixin.push_to_hub`: private, token, branch, commit_message, ...;
                `model_card_kwargs={"licence": "apache-2.0"}` states a licence.

        Returns:
            The address of the commit.

        Raises:
            InputError: the network does not know its categories, or the hub cannot be reached or refuses.
        """
        self.as_checkpoint()  # before anything is made on the hub
        options["model_card_kwargs"] = {"address": f"hf:{repo_id}"} | (options.get("model_card_kwargs") or {})
        with in_a_sentence(repo_id, "sent", "Check the connection and call again."):
            return str(super().push_to_hub(repo_id, **options))

    def generate_model_card(self, address: str = "FOLDER", licence: str = UNKNOWN_LICENCE) -> ModelCard:
        """The model card, which `save_pretrained` writes as README.md where there is none.

        Args:
            address: what a user gives to load the network.
            licence: of the weights, as the hub abbreviates it.
        """
        return ModelCard(model_card(without_local_paths(self.as_checkpoint()), address, licence))

    def as_checkpoint(self) -> Checkpoint:
        """The network with all that it knows of itself.

        Raises:
            InputError: it was put together by hand, so its settings and categories are not known.
        """
        if self.config is None or self.label_space is None:
            raise InputError(
                "this network was put together by hand: its settings and categories are not known. "
                "Use one of TASCNet.from_pretrained, or set its config and label_space."
            )
        progress = getattr(self, "progress", {"step": 0.0, "seconds": 0.0})
        return Checkpoint(Path(), self, self.config, self.label_space, progress, self.origin, self.measured)

    def _save_pretrained(self, save_directory: Path) -> None:
        """What `save_pretrained` calls to write all but the model card."""
        self._hub_mixin_config = None  # else the mixin writes what the constructor was given, as a second config
        checkpoint = without_local_paths(self.as_checkpoint())
        write_network(save_directory, in_precision(self, "float32"), checkpoint.config, shared_facts(checkpoint))


def described(model: network.TASCNet) -> tuple[LabelSpace, Config]:
    """The categories and the settings that a network carries.

    Raises:
        InputError: it carries none.
    """
    if not isinstance(model, TASCNet):
        raise InputError(
            "this network does not know its settings and categories; give Predictor its label_space, inputs and "
            "fusion, or a network of TASCNet.from_pretrained."
        )
    checkpoint = model.as_checkpoint()
    return checkpoint.label_space, checkpoint.config
