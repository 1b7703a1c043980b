"""A URL -> a file in the cache: once, resumed where the connection broke, checked, and renamed when it is complete."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout

from tascnet import __version__
from tascnet.errors import InputError
from tascnet.files import check_writable, read_json, write_json
from tascnet.progress import Job, Observer

TIMEOUT_SECONDS = 30.0  # without a byte; then the connection counts as broken
WAITS = (1.0, 2.0, 4.0)  # seconds before each new try; they begin again whenever a try has brought bytes

_CHUNK = 1 << 18  # bytes
_MEGABYTE = 10**6
_TEMPORARY = (408, 429, 500, 502, 503, 504)  # answers of servers that may be better a little later


@dataclass(frozen=True)
class Digest:
    """How a source lets its files be checked: the first hexadecimal digits of a hash."""

    algorithm: Literal["sha256", "md5"]
    prefix: str

    def of(self, file: Path) -> str:
        """The file's whole hash by the same algorithm, in hexadecimal digits."""
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, lambda: hashlib.new(self.algorithm, usedforsecurity=False)).hexdigest()


@dataclass(frozen=True)
class Download:
    """A file that is, or will be, in the cache.

    Attributes:
        name: what the user calls it.
        url: where it comes from.
        path: where it goes.
        digest: what it is checked by.
    """

    name: str
    url: str
    path: Path
    digest: Digest

    def get(self, observer: Observer) -> Path:
        """The file; it is downloaded if it is not there. Processes that want the same file wait for one another.

        Raises:
            InputError: the cache cannot be written to, the file cannot be had, or it is not what its source says; one
                that is in the cache may have been damaged since.
        """
        if self.path.is_file():
            self.check()
            return self.path
        try:
            check_writable(self.path.parent)
        except InputError as error:
            raise InputError(f"{error} TASCNET_HOME names the folder that downloads go to.") from error
        with self._locked(observer):
            if not self.path.is_file():  # else another process has brought it meanwhile
                part = _Part(self.path)
                self._receive(part, observer)
                self._check(part.file)
                part.file.replace(self.path)
                part.discard()
        return self.path

    def check(self) -> None:
        """Compare the file in the cache with what its source says of it.

        Raises:
            InputError: it is another one.
        """
        found = self.digest.of(self.path)
        if not found.startswith(self.digest.prefix):
            raise InputError(
                f"{self.path} is not the file of {self.url}: its {self.digest.algorithm} begins with {found[:12]}, not "
                f"with {self.digest.prefix}. Remove it, and get it again."
            )

    def _check(self, received: Path) -> None:
        found = self.digest.of(received)
        if not found.startswith(self.digest.prefix):
            _Part(self.path).discard()
            raise InputError(
                f"{self.url} sent another file than {self.name}: its {self.digest.algorithm} begins with {found[:12]}, "
                f"not with {self.digest.prefix}; it was removed. Try again, or {self._by_hand}"
            )

    @property
    def _by_hand(self) -> str:
        return f"download that file by other means and put it at {self.path}."

    @contextmanager
    def _locked(self, observer: Observer) -> Iterator[None]:
        lock = FileLock(self.path.parent / f".{self.path.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            observer.message(f"{self.name}: another process is downloading it; waiting")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _receive(self, part: "_Part", observer: Observer) -> None:
        """Try until all is there; give up after a few tries that brought nothing."""
        furthest, failures = part.size, 0
        while True:
            try:
                return _receive_once(self.url, part, self.name, observer)
            except (OSError, HTTPException) as error:
                if isinstance(error, HTTPError) and error.code not in _TEMPORARY:
                    raise InputError(
                        f"cannot download {self.name}: {self.url} answers {error.code} {error.reason}. "
                        f"If the file has moved, {self._by_hand}"
                    ) from error
                failures = 0 if part.size > furthest else failures + 1
                furthest = max(furthest, part.size)
                if failures > len(WAITS):
                    raise InputError(
                        f"cannot download {self.name} from {self.url} ({_reason(error)}). Go online and try again, "
                        f"which goes on where this ended; or {self._by_hand}"
                    ) from error
                wait = WAITS[max(failures - 1, 0)]
                observer.message(f"{self.name}: {_reason(error)}; trying again in {wait:.0f} s")
                time.sleep(wait)


class _Part:
    """What has come of a file so far, and what tells whether the server still has the same file."""

    def __init__(self, path: Path):
        self.file = path.with_name(f".{path.name}.part")
        self._facts = path.with_name(f".{path.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.file.stat().st_size if self.file.exists() else 0

    def validator(self, url: str) -> str | None:
        """What the server called this version of the file; None if it cannot be gone on with."""
        try:
            facts = read_json(self._facts)
            return str(facts["validator"]) if facts["url"] == url else None
        except (InputError, KeyError, TypeError):
            return None

    def begin(self, url: str, response: HTTPResponse) -> None:
        """Start with an empty file, whose version the server's answer names."""
        self.discard()
        etag = response.headers.get("ETag", "")
        validator = etag if etag.startswith('"') else response.headers.get("Last-Modified")  # weak ones do not count
        if validator:
            write_json(self._facts, {"url": url, "validator": validator})

    def discard(self) -> None:
        """Remove everything."""
        for file in (self._facts, self.file):
            file.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where downloads are kept: TASCNET_HOME, else `tascnet` in XDG_CACHE_HOME, else ~/.cache/tascnet."""
    home = os.environ.get("TASCNET_HOME")
    if home:
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tascnet"


def _receive_once(url: str, part: _Part, name: str, observer: Observer) -> None:
    """One connection: ask for what is missing, and write what comes.

    Raises:
        OSError, HTTPException: the connection failed or broke; `part` holds what has come.
        InputError: it cannot be written.
    """
    headers = {"User-Agent": f"tascnet/{__version__}", "Accept-Encoding": "identity"}
    start, validator = part.size, part.validator(url)
    if start and validator:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return  # nothing is missing
        part.discard()
        raise ConnectionError("the server's file is shorter than what has come") from error
    with response:
        if response.status != 206:  # the whole file: nothing was there, it has changed, or ranges are ignored
            part.begin(url, response)
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.discard()
            raise ConnectionError("the server sent another part than asked for")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else None
        with observer.job(name, (total or 0) // _MEGABYTE, start // _MEGABYTE) as job:
            _copy(response, part, start, job)
    if total is not None and part.size != total:
        raise ConnectionError(f"the connection ended after {part.size:,} of {total:,} bytes")


def _copy(response: HTTPResponse, part: _Part, done: int, job: Job) -> None:
    with part.file.open("ab", buffering=0) as file:
        while chunk := response.read(_CHUNK):
            try:
                file.write(chunk)
            except OSError as error:
                raise InputError(
                    f"cannot write {part.file}: {error.strerror}. Make room, or let TASCNET_HOME name another folder."
                ) from error
            before, done = done, done + len(chunk)
            if done // _MEGABYTE > before // _MEGABYTE:
                job.update(done // _MEGABYTE, "MB")


def _reason(error: Exception) -> str:
    """A few words on why a connection failed."""
    cause: object = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return "the server does not answer"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return str(cause) or type(cause).__name__
