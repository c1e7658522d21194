"""A folder at a URL. fsspec reads and writes it; whatever goes wrong there is one sentence."""

from __future__ import annotations

import json
import logging
import posixpath
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dfw.atomic import temporary_name, write_whole
from dfw.errors import ConfigError, DfwError, one_line

log = logging.getLogger("dfw.storage")

NOW = ".now"
"""File whose time of writing is the store's own clock."""


class StoreError(DfwError):
    """A store cannot be reached, or does not let dfw read or write. Exit code 2."""


def is_url(text: str) -> bool:
    """Returns whether a text names a store: it has `://`."""
    return "://" in text


def checked_url(text: str) -> str:
    """Returns the URL of a store without a last slash.

    Raises ConfigError for what is not a URL, for one that names no folder, and for one with a password: files and logs would hold
    it.
    """
    if not is_url(text):
        raise ConfigError(f"{text}: a store is a URL, such as s3://bucket/study, or file:///folder for a folder")
    parts = urlsplit(text)
    if parts.username is not None or parts.password is not None or parts.query:
        raise ConfigError(
            f"{parts.scheme}://...: leave user, password and options out of the URL; environment variables or fsspec's "
            "configuration files hold them, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    kind, _, folder = text.partition("://")
    if not kind or not folder.strip("/."):
        raise ConfigError(f"{text}: names no folder of a store; write one behind its kind, such as {kind or 's3'}://bucket/study")
    return text.rstrip("/")


class Place:
    """A folder of a store. Names in it are relative, with `/`. Every method raises StoreError where the store does not answer."""

    def __init__(self, url: str) -> None:
        self.url = checked_url(url)

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.url}/{name}")

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """fsspec's file system, and the folder as it calls it."""
        import fsspec

        kind = self.url.partition("://")[0]
        if kind not in fsspec.available_protocols():
            raise StoreError(
                f"{self.url}: fsspec knows no store of the kind {kind!r}; write a URL such as s3://bucket/study or file:///folder"
            )
        with self._asked("cannot be opened"):
            try:
                system, path = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
                return system, str(path)
            except ImportError as error:
                how = "pip install 'dreamfw[storage]'" if kind in ("s3", "s3a") else "install that package"
                raise StoreError(f"{self.url}: needs a package that is not installed ({error}); {how}") from error

    @property
    def _fs(self) -> Any:
        return self._opened[0]

    @property
    def _is_local(self) -> bool:
        return "file" in ([self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol)

    def _path(self, name: str) -> str:
        return posixpath.join(self._opened[1], name) if name else self._opened[1]

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        try:
            yield
        except (DfwError, FileNotFoundError, FileExistsError):
            raise
        except Exception as error:  # each library has errors of its own
            raise StoreError(
                f"{self.url}: {what} ({one_line(error)}); see that the address, the credentials and the network are right"
            ) from error

    def read(self, name: str) -> bytes | None:
        """Returns what a file holds; None where there is none."""
        with self._asked("cannot be read"):
            try:
                data: bytes = self._fs.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return data

    def read_all(self, names: list[str]) -> dict[str, bytes]:
        """Returns name -> content of the files that are there, asked together."""
        paths = {self._path(name).lstrip("/"): name for name in names}
        if not paths:
            return {}
        with self._asked("cannot be read"):
            if len(names) == 1:
                found = self.read(names[0])
                return {} if found is None else {names[0]: found}
            answers = self._fs.cat([self._path(name) for name in names], on_error="return")
            read = {paths[path.lstrip("/")]: data for path, data in answers.items()}
            for data in read.values():
                if isinstance(data, Exception) and not isinstance(data, FileNotFoundError | KeyError):
                    raise data
            return {name: data for name, data in read.items() if isinstance(data, bytes)}

    def read_json(self, name: str) -> dict[str, Any]:
        """Returns what a JSON file holds; an empty mapping where there is none, or something else."""
        with suppress(ValueError):
            value = json.loads(self.read(name) or b"{}")
            return value if isinstance(value, dict) else {}
        return {}

    def write(self, name: str, data: bytes) -> None:
        """Writes a whole file: others see the old one or the new one."""
        with self._asked("cannot be written"):
            if self._is_local:
                path = Path(self._path(name))
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, data)
            else:
                self._fs.pipe_file(self._path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Writes a new file. Returns False where there is one already: of several that try at once, one alone gets True."""
        with self._asked("cannot be written"):
            try:
                if self._is_local:
                    Path(self._path(name)).parent.mkdir(parents=True, exist_ok=True)
                    with open(self._path(name), "xb") as file:
                        file.write(data)
                else:
                    self._fs.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                return False
            except OSError:
                if self._fs.exists(self._path(name)):  # a store that answers in other words
                    return False
                raise
            return True

    def upload(self, source: Path, name: str) -> None:
        """Copies a file there. Raises FileNotFoundError where `source` has gone."""
        if not source.is_file():
            raise FileNotFoundError(source)
        with self._asked("cannot be written"):
            if self._is_local:
                path = Path(self._path(name))
                path.parent.mkdir(parents=True, exist_ok=True)
                part = temporary_name(path)
                shutil.copyfile(source, part)
                part.replace(path)
            else:
                self._fs.put_file(str(source), self._path(name))

    def download(self, name: str, target: Path) -> None:
        """Copies a file from there. Raises FileNotFoundError where it has gone."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._asked("cannot be read"):
            self._fs.get_file(self._path(name), str(target))

    def files(self) -> dict[str, int]:
        """Returns name -> bytes of all files in and below it."""
        with self._asked("cannot be listed"):
            try:
                found = self._fs.find(self._opened[1], detail=True)
            except FileNotFoundError:
                return {}
        root = self._opened[1].strip("/") + "/"
        names = {path.lstrip("/").removeprefix(root): int(info.get("size") or 0) for path, info in found.items()}
        return {name: size for name, size in names.items() if name and ".." not in name.split("/")}

    def require_answer(self) -> None:
        """Raises StoreError where it does not answer, or has no such bucket. `files` finds nothing there, too, in some stores."""
        with self._asked("cannot be listed"):
            try:
                self._fs.ls(self._opened[1], detail=False)
            except FileNotFoundError as error:
                if error.__cause__ is not None:  # the store's own words, where nothing is wrong with the folder alone
                    raise StoreError(f"{self.url}: is not there ({one_line(error)}); see that the address is right") from error

    def remove(self, names: list[str]) -> None:
        """Removes files, in order. Those that have gone are no matter."""
        with self._asked("cannot be written"):
            for name in names:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(self._path(name))

    def age(self, name: str) -> float | None:
        """Returns the seconds since a file was written, by the store's own clock. None where there is none."""
        self.write(NOW, b"")
        with self._asked("cannot be read"):
            try:
                age = self._fs.modified(self._path(NOW)) - self._fs.modified(self._path(name))
            except FileNotFoundError:
                return None
            return float(age.total_seconds())

    def require(self) -> None:
        """Raises StoreError where it cannot be written to."""
        try:
            self.write(NOW, b"")
        except FileNotFoundError as error:
            raise StoreError(f"{self.url}: is not there ({one_line(error)}); make the bucket first") from error
