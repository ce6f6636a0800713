"""Docker's images on a board, asked and fed through its daemon."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote as url_quote

from embedkit.docker import ctr
from embedkit.docker.engine import LOGS, Api, Cli, Container, EngineError, find_client, open_socket
from embedkit.docker.service import SOCKET
from embedkit.docker.store import Daemon, Image, Images, after_all, checked, load_file
from embedkit.errors import TargetError
from embedkit.progress import Progress
from embedkit.target.base import Channel, Equipped, Output, quote
from embedkit.target.pipe import Piped, pipe
from embedkit.target.squeeze import Squeeze

# What `docker load` undoes by itself: gzip always, zstd since version 23.
_FIRST_ZSTD = 23
# Docker's own containerd, and the system's.
_CONTAINERD_SOCKETS = ("/var/run/docker/containerd/containerd.sock", ctr.SOCKET)


def open_images(target: Equipped, folder: str | None = None, socket: str = SOCKET) -> Images:
    """Docker's images on ``target``, by its client or its socket. Raises TargetError where there
    is neither."""
    client = find_client(target, folder)
    if client is not None:
        return CliImages(target, client, socket)
    engine = open_socket(target, socket)
    assert isinstance(engine, Api)
    return ApiImages(target, engine)


class CliImages:
    """Through the ``docker`` program."""

    def __init__(self, target: Equipped, client: str, socket: str = SOCKET) -> None:
        self._target = target
        self._cli = Cli(target, client, socket)

    def daemon(self) -> Daemon:
        mark = f"@{secrets.token_hex(8)}"
        docker = self._cli.line()
        # One exchange: starting the client takes a small board a second.
        asked = (
            f"{docker} version --format '{{{{json .Server}}}}' || exit; echo; echo {mark}\n"
            f"{docker} info --format '{{{{json .}}}}'; echo; echo {mark}\n"
            f"i=$({docker} images -aq --no-trunc); "
            f'[ -z "$i" ] || {docker} image inspect --format "{{{{json .RootFS.Layers}}}}" $i'
        )
        result = self._target.run(asked, timeout=180, check=False)
        parts = result.text.split(f"{mark}\n")
        if len(parts) != 3:
            raise EngineError(result.complaint, where=self._target.name)
        lists = [_json(line) for line in parts[2].splitlines() if line.strip()]
        info = _json(parts[1])
        found = _daemon(_json(parts[0]), info, lists, self._cli.way, self._target)
        if not found.contents:
            return found
        address = _text(_dig(info, "Containerd"), "Address")  # told since version 27
        return replace(found, blobs=_moby_blobs(self._target, address))

    def load(self, archive: Path, *, major: int, progress: Progress, title: str) -> Piped:
        if not self._target.carries_binary:
            return load_file(self._target, self._cli.line("load", "-q"), archive, progress)
        unpacks = [Squeeze.GZIP, *([Squeeze.ZSTD] if major >= _FIRST_ZSTD else [])]
        done = pipe(
            self._target, self._cli.line("load", "-q"), archive,
            unpacks=unpacks, progress=progress, title=title,
        )  # fmt: skip
        return checked(done, self._target)

    def find(self, name: str) -> Image | None:
        line = self._cli.line("image", "inspect", name)
        result = self._target.run(line, timeout=180, check=False)
        if not result.ok:
            if b"o such image" in result.stderr:
                return None
            raise EngineError(result.complaint, where=self._target.name)
        found = _json(result.text)
        return _image(found[0] if isinstance(found, list) and found else None)

    def tag(self, id: str, name: str) -> None:
        self._cli.docker("tag", id, name)

    def remove(self, name: str) -> None:
        self._cli.remove_image(name)

    def run(self, image: str, command: Sequence[str], output: Output) -> int:
        name = f"embedkit-{secrets.token_hex(6)}"
        # "docker run" pulls what it does not find; what was just loaded is there.
        line = self._cli.line("run", "--rm", "--name", name, image, *command)
        try:
            return self._target.stream(line, output=output)
        except BaseException:
            # The client is gone; its container is not.
            after_all(self._target, lambda: self._cli.remove(name))
            raise


class ApiImages:
    """Through the socket, where there is no client."""

    def __init__(self, target: Equipped, api: Api) -> None:
        self._target = target
        self._api = api

    def daemon(self) -> Daemon:
        version = _json(self._api.call("GET", "/version"))
        info = _json(self._api.call("GET", "/info"))
        listed = _json(self._api.call("GET", "/images/json?all=1"))
        lists = []
        for item in listed if isinstance(listed, list) else []:
            id = _text(item, "Id")
            if id:
                whole = _json(self._api.call("GET", f"/images/{url_quote(id, safe=':')}/json"))
                lists.append(_dig(whole, "RootFS", "Layers"))
        return _daemon(version, info, lists, self._api.way, self._target)

    def load(self, archive: Path, *, major: int, progress: Progress, title: str) -> Piped:
        command, head = self._api.upload("/images/load?quiet=1", archive.stat().st_size)
        if not self._target.carries_binary:
            raise TargetError(
                "it has no docker client, and an image does not go through a serial line to the "
                "daemon's socket",
                where=self._target.name,
                hint="put the client into the bundle, or use SSH",
            )
        done = pipe(self._target, command, archive, head=head, progress=progress, title=title)
        checked(done, self._target)
        self._api.check_upload(done.stdout, done.stderr)
        return done

    def find(self, name: str) -> Image | None:
        try:
            return _image(
                _json(self._api.call("GET", f"/images/{url_quote(name, safe=':/')}/json"))
            )
        except EngineError as error:
            if "o such image" in error.message:
                return None
            raise

    def tag(self, id: str, name: str) -> None:
        repository, _, tag = name.rpartition(":")
        query = f"repo={url_quote(repository, safe='')}&tag={url_quote(tag, safe='')}"
        self._api.call("POST", f"/images/{url_quote(id, safe=':')}/tag?{query}")

    def remove(self, name: str) -> None:
        self._api.remove_image(name)

    def run(self, image: str, command: Sequence[str], output: Output) -> int:
        id = self._api.start(Container(image, tuple(command)))
        try:
            line, asked = self._api.request(LOGS.format(id))
            self._target.stream(line, input=[asked], output=_Frames(output))
            return self._api.wait(id)
        finally:
            after_all(self._target, lambda: self._api.remove(id))


def _moby_blobs(target: Equipped, address: str) -> frozenset[str] | None:
    """What Docker's containerd has, by ``ctr``; None where it cannot be asked."""
    program = ctr.find_ctr(target)
    if program is None:
        return None
    for socket in dict.fromkeys([address, *_CONTAINERD_SOCKETS]):
        if socket:
            line = f"[ -S {quote(socket)} ] && {quote(program)} -a {quote(socket)} -n moby"
            found = ctr.blobs(target, f"{line} content ls -q")
            if found is not None:
                return found
    return None


class _Frames:
    """Takes an HTTP answer with Docker's log stream in it, and hands out what is in the frames:
    eight bytes of header (stream, 3 zeroes, size), then the bytes."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._pending = b""
        self._in_body = False

    def __call__(self, channel: Channel, data: bytes) -> None:
        if channel is not Channel.STDOUT:
            return
        self._pending += data
        if not self._in_body:
            _, end, rest = self._pending.partition(b"\r\n\r\n")
            if not end:
                return
            self._in_body, self._pending = True, rest
        while len(self._pending) >= 8:
            size = int.from_bytes(self._pending[4:8], "big")
            if len(self._pending) < 8 + size:
                return
            stream = Channel.STDERR if self._pending[0] == 2 else Channel.STDOUT
            self._output(stream, self._pending[8 : 8 + size])
            self._pending = self._pending[8 + size :]


def _daemon(version: Any, info: Any, layers: Iterable[Any], way: str, target: Equipped) -> Daemon:
    if not _text(version, "Version"):
        raise EngineError("the daemon does not answer", where=target.name)
    status = info.get("DriverStatus") if isinstance(info, dict) else None
    contents = "io.containerd.snapshotter.v1" in json.dumps(status)
    security = info.get("SecurityOptions") if isinstance(info, dict) else None
    return Daemon(
        program="Docker",
        version=_text(version, "Version"),
        arch=_text(version, "Arch"),
        root=_text(info, "DockerRootDir"),
        contents=contents,
        way=way,
        layers=tuple(_texts(item) for item in layers),
        security=_texts(security),
        storage=_text(info, "Driver"),
    )


def _image(found: Any) -> Image | None:
    if not isinstance(found, dict):
        return None
    return Image(
        _text(found, "Id"),
        _text(found, "Os"),
        _text(found, "Architecture"),
        _text(found, "Variant"),
        _texts(_dig(found, "RootFS", "Layers")),
    )


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EngineError(f"the daemon's answer is no JSON: {str(error)[:200]}") from error


def _dig(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
