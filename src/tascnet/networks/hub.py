"""Hugging Face's hub: owner/name -> a folder on this machine, and back.

The client of the hub is imported where it is used: most calls of this package never need it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tascnet.errors import InputError, shown

FETCHED = ("*.safetensors", "*.yaml", "*.json", "*.md")
"""What is fetched: tensors and texts, nothing that could run."""

COMMIT_MESSAGE = "A network trained with tascnet"
"""Message of an upload, where none is given."""

_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_PREFIX = re.compile(r"hf:/*")
_FILES = (".safetensors", ".yaml", ".yml", ".json")


def hub_id(path: str | Path) -> str | None:
    """owner/name, where hf:owner/name (or hf://owner/name) names a repository of the hub; None where it is a path.

    Without the prefix nothing is asked of the hub: a mistyped path of a folder here would fetch a stranger's weights.

    Raises:
        InputError: there is the prefix, and behind it no owner/name.
    """
    text = Path(path).as_posix()
    prefix = _PREFIX.match(text)
    if prefix is None or Path(path).exists():
        return None
    repo_id = text[prefix.end() :]
    if not _ID.fullmatch(repo_id):
        raise InputError(f"{shown(text)} names nothing on Hugging Face's hub. Give hf:OWNER/NAME.")
    return repo_id


def plain_hub_id(path: str | Path) -> str | None:
    """As `hub_id`, and owner/name alone counts, too, as in other libraries' `from_pretrained`: for Python only.

    A path of this machine comes first: owner/name is one where there is a folder `owner` here, and runs/NAME always
    is, because that is where this package puts its runs.
    """
    text = Path(path).as_posix()
    owner = text.partition("/")[0]
    if _ID.fullmatch(text) and not text.endswith(_FILES) and owner != "runs" and not Path(owner).exists():
        return text
    return hub_id(path)


def download(
    repo_id: str,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """Fetch a repository into the hub's cache, where it is not there yet.

    Args:
        repo_id: owner/name.
        revision: branch, tag or commit; the main branch by default.
        cache_dir: folder of the cache; the hub client's own by default.
        force_download: fetch again what is in the cache.
        local_files_only: look into the cache only.
        token: for private repositories; that of `hf auth login` by default.

    Returns:
        The folder with its files.

    Raises:
        InputError: there is no such repository, or it cannot be reached and is not in the cache.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    with in_a_sentence(repo_id, "fetched", "Check the connection, or name a folder of this machine."):
        folder = snapshot_download(
            repo_id,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            allow_patterns=list(FETCHED),
            library_name="tascnet",
        )
    return Path(str(folder))


def check_repo_id(repo_id: str) -> None:
    """Make sure that a repository can have this name, before anything is done for its sake.

    Raises:
        InputError: it cannot.
    """
    from huggingface_hub.utils import validate_repo_id  # noqa: PLC0415

    with in_a_sentence(repo_id, "sent", "Give another name."):
        validate_repo_id(repo_id)


def upload(
    folder: Path,
    repo_id: str,
    private: bool | None = None,
    token: str | bool | None = None,
    branch: str | None = None,
    commit_message: str = COMMIT_MESSAGE,
) -> str:
    """Send the files of a folder to a repository of the hub, which is made where missing; return its address.

    Args:
        folder: with the files of a network.
        repo_id: owner/name.
        private: whether a repository that is made is private; by default as the account has it.
        token: that of `hf auth login` by default.
        branch: made where missing; the main branch by default.
        commit_message: for the history of the repository.

    Raises:
        InputError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415

    api = HfApi(library_name="tascnet", token=token)
    with in_a_sentence(repo_id, "sent", "Check the connection and call again."):
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(address.repo_id, branch=branch, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=folder, revision=branch, commit_message=commit_message)
    return str(address)


@contextmanager
def in_a_sentence(repo_id: str, done: str, advice: str) -> Iterator[None]:
    """What the client of the hub raises in the block, as a sentence.

    Args:
        repo_id: owner/name, for the sentence.
        done: what cannot be done with it, such as "fetched".
        advice: what to do where the hub cannot be reached.

    Raises:
        InputError: instead of what the client raised.
    """
    from huggingface_hub.errors import (  # noqa: PLC0415
        HFValidationError,
        HTTPError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    login = "Log in (hf auth login) with an account that may."
    try:
        yield
    except HFValidationError as error:
        raise InputError(f"'{repo_id}' is no name of a repository on Hugging Face's hub; give owner/name.") from error
    except RevisionNotFoundError as error:
        raise InputError(f"{repo_id} on Hugging Face's hub has no such revision. Check its name.") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{repo_id} is neither here nor, for you, on Hugging Face's hub. Check the name; if it is private: {login}"
        ) from error
    except LocalTokenNotFoundError as error:
        raise InputError(f"{repo_id} cannot be {done}: you are not logged in on Hugging Face's hub. {login}") from error
    except (OSError, HTTPError) as error:  # of the client, and of the library by which it talks
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            raise InputError(f"{repo_id} cannot be {done}: Hugging Face's hub refuses. {login}") from error
        raise InputError(
            f"{repo_id} cannot be {done}: Hugging Face's hub cannot be reached ({type(error).__name__}). {advice}"
        ) from error
