"""From what a user writes to sources and sinks.

``oci:DIR[:TAG]``, ``oci-archive:FILE[:TAG]``, ``docker-archive:FILE[:NAME]`` and
``docker://REFERENCE`` are skopeo's spellings; without a prefix a path that exists is looked
at, and anything else is a reference.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import InputError
from embedkit.oci import archive, layout, reference
from embedkit.oci.registry import Access, Client
from embedkit.oci.remote import RepositorySink, RepositoryStore, open_repository
from embedkit.oci.sink import ArchiveSink, FolderSink, Sink
from embedkit.oci.source import ImageTree, Source, read_tree

_FILES = ("oci-archive:", "docker-archive:")
_ARCHIVE_ENDINGS = (".tar",)


@dataclass(frozen=True)
class Place:
    """A parsed location: a file or folder with an image's name in it, or a reference."""

    path: Path | None = None
    name: str | None = None
    ref: reference.Reference | None = None
    kind: str = ""


def parse(text: str) -> Place:
    """Raises InputError for what names neither a file nor an image."""
    if text.startswith("docker://"):
        return Place(ref=reference.parse(text.removeprefix("docker://")))
    if text.startswith("oci:"):
        return _with_name(text.removeprefix("oci:"), "folder")
    for prefix in _FILES:
        if text.startswith(prefix):
            return _with_name(text.removeprefix(prefix), "archive")
    if "://" in text:
        raise InputError(
            f"'{text}' is not a place of images", hint="known: docker://, oci:, oci-archive:"
        )
    found = _with_name(text, "")
    if found.path is not None and found.path.exists():
        return found
    if text.startswith((".", "/", "~")) or text.endswith((".tar", ".tar.gz", ".tgz", ".tar.zst")):
        return Place(Path(text))
    return Place(ref=reference.parse(text))


def _with_name(text: str, kind: str) -> Place:
    """A path and, behind a colon, a name; a path that holds a colon itself wins."""
    if Path(text).exists() or ":" not in text:
        return Place(Path(text), kind=kind)
    at = text.find(":")
    while at > 0:
        if Path(text[:at]).exists():
            return Place(Path(text[:at]), text[at + 1 :], kind=kind)
        at = text.find(":", at + 1)
    path, _, name = text.partition(":")
    return Place(Path(path), name, kind=kind)


class Opener:
    """Opens sources and sinks, one client a registry; closes all at the end of ``with``."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._clients: dict[str, Client] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Opener:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def client(self, host: str) -> Client:
        """The one client of a registry."""
        if host not in self._clients:
            self._clients[host] = Client(host, self.access)
            self._stack.callback(self._clients[host].close)
        return self._clients[host]

    def source(self, text: str) -> tuple[Source, str | None]:
        """What ``text`` names, and the name inside of it that the user wants."""
        place = parse(text)
        if place.ref is not None:
            return open_repository(self.client(place.ref.host), place.ref), None
        assert place.path is not None
        if not place.path.exists():
            raise InputError(f"no such file or folder: {place.path}")
        if place.path.is_dir():
            found = layout.open_folder(place.path)
        else:
            found = archive.open_archive(place.path)
        self._stack.callback(found.store.close)
        return found, place.name

    def tree(self, text: str) -> ImageTree:
        """The image that ``text`` names, with all its platforms."""
        source, name = self.source(text)
        return read_tree(source, name)

    def sink(self, text: str, mount_from: tuple[str, ...] = ()) -> tuple[Sink, str]:
        """The receiver that ``text`` names, and the image name that it implies ("")."""
        place = parse(text)
        if text.startswith("docker://") and place.ref is not None:
            client = self.client(place.ref.host)
            return RepositorySink(client, place.ref, mount_from), str(place.ref)
        path = place.path or Path(text)
        if place.kind == "archive" or (not place.kind and path.name.endswith(_ARCHIVE_ENDINGS)):
            return ArchiveSink(path), place.name or ""
        if path.name.endswith((".gz", ".tgz", ".zst", ".xz", ".bz2")):
            raise InputError(
                f"{path}: archives are not compressed as a whole; their layers are",
                hint="name it .tar",
            )
        return FolderSink(path), place.name or ""


def repositories_of(trees: list[ImageTree], host: str) -> tuple[str, ...]:
    """Repositories of ``host`` that the images come from: their blobs can be mounted."""
    found = {
        entry.store.path: None
        for tree in trees
        for entry in tree.entries
        if isinstance(entry.store, RepositoryStore) and entry.store.client.host == host
    }
    return tuple(found)
