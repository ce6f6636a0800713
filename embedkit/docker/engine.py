"""A Docker daemon on a target: through its own client, or through its socket alone."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote as url_quote

from embedkit.docker import dial
from embedkit.docker.service import SOCKET
from embedkit.errors import TargetError
from embedkit.target.base import Target, quote

_SECONDS = 180.0
_LOAD_SECONDS = 600.0
# Following ends when all is written; at the container's end it may not be yet.
LOGS = "/containers/{}/logs?stdout=1&stderr=1&follow=1"


class EngineError(TargetError):
    """The daemon, or its client, said no; the message is what it said."""


@dataclass(frozen=True)
class Ran:
    """A container that ended."""

    exit_code: int
    output: bytes


@dataclass(frozen=True)
class Container:
    """How to run one. ``network`` is none, host, bridge or empty for the default; ``publish``
    is (address, host port, container port); ``volume`` is (name, path)."""

    image: str
    command: tuple[str, ...] = ()
    network: str = ""
    memory_bytes: int | None = None
    publish: tuple[str, int, int] | None = None
    volume: tuple[str, str] | None = None
    restart: str = ""


class Engine(Protocol):
    """What the proof needs of a daemon. All methods raise EngineError for what it refuses."""

    @property
    def way(self) -> str:
        """How it is spoken to, for the report."""

    def version(self) -> str: ...

    def load(self, archive: bytes) -> None: ...

    def run(self, container: Container) -> Ran:
        """Creates, starts, waits for the end, reads the output, removes."""

    def start(self, container: Container) -> str:
        """Creates and starts; returns the id."""

    def state(self, id: str) -> tuple[bool, str]:
        """Whether it runs, and since when."""

    def remove(self, id: str) -> None: ...

    def remove_image(self, name: str) -> None: ...

    def remove_volume(self, name: str) -> None: ...


def open_engine(target: Target, folder: str | None = None, socket: str = SOCKET) -> Engine:
    """The best way to the daemon: the client in ``folder`` or on the PATH, else the socket
    through any program that can talk to one. Raises TargetError where there is none."""
    client = find_client(target, folder)
    if client is not None:
        return Cli(target, client, socket)
    return open_socket(target, socket)


def find_client(target: Target, folder: str | None) -> str | None:
    """The docker client on the target, or None."""
    first = (
        f"[ -x {quote(folder)}/docker ] && echo {quote(folder)}/docker && exit; " if folder else ""
    )
    asked = f"PATH=$PATH:/usr/local/bin:/usr/bin; {first}command -v docker"
    found = target.run(asked, check=False).text.strip()
    return found or None


class Cli:
    """Through the ``docker`` program on the target."""

    way = "the docker client"

    def __init__(self, target: Target, client: str, socket: str = SOCKET) -> None:
        self._target = target
        self._client = [client, "-H", f"unix://{socket}"]

    def line(self, *words: str) -> str:
        """The command for the target's shell."""
        # DOCKER_CONFIG: a client without a home folder prints a warning instead.
        command = " ".join(quote(word) for word in [*self._client, *words])
        return f"DOCKER_CONFIG=/tmp/.embedkit-none {command}"

    def docker(self, *words: str, input: bytes | None = None, seconds: float = _SECONDS) -> bytes:
        """What ``docker WORDS`` prints. Raises EngineError where it fails."""
        result = self._target.run(self.line(*words), input=input, timeout=seconds, check=False)
        if not result.ok:
            raise EngineError(_said(result.stderr or result.stdout), where=self._target.name)
        return result.stdout

    def version(self) -> str:
        return self.docker("version", "--format", "{{.Server.Version}}").decode().strip()

    def load(self, archive: bytes) -> None:
        self.docker("load", "-q", input=archive, seconds=_LOAD_SECONDS)

    def run(self, container: Container) -> Ran:
        id = self._create(container)
        try:
            self.docker("start", id)
            output = self.docker("logs", "-f", id)
            code = self.docker("wait", id).decode().strip()
            return Ran(int(code) if code.lstrip("-").isdigit() else -1, output)
        finally:
            self._quietly("rm", "-f", "-v", id)

    def start(self, container: Container) -> str:
        id = self._create(container)
        try:
            self.docker("start", id)
        except EngineError:
            self._quietly("rm", "-f", "-v", id)
            raise
        return id

    def _create(self, container: Container) -> str:
        words = ["create", "--pull", "never"]
        if container.network:
            words += ["--network", container.network]
        if container.memory_bytes is not None:
            words += ["--memory", str(container.memory_bytes)]
            words += ["--memory-swap", str(container.memory_bytes)]
        if container.publish is not None:
            address, outer, inner = container.publish
            words += ["-p", f"{address}:{outer}:{inner}"]
        if container.volume is not None:
            words += ["-v", ":".join(container.volume)]
        if container.restart:
            words += ["--restart", container.restart]
        try:
            made = self.docker(*words, container.image, *container.command)
        except EngineError as error:
            if "unknown flag: --pull" not in str(error):
                raise
            # Docker before 20.10; nothing is pulled for an image that is there.
            made = self.docker("create", *words[3:], container.image, *container.command)
        return made.decode().strip().splitlines()[-1]

    def state(self, id: str) -> tuple[bool, str]:
        told = self.docker("inspect", "-f", "{{.State.Running}} {{.State.StartedAt}}", id)
        running, _, since = told.decode().strip().partition(" ")
        return running == "true", since

    def remove(self, id: str) -> None:
        self._quietly("rm", "-f", "-v", id)

    def remove_image(self, name: str) -> None:
        self._quietly("rmi", "-f", name)

    def remove_volume(self, name: str) -> None:
        self._quietly("volume", "rm", "-f", name)

    def _quietly(self, *words: str) -> None:
        try:
            self.docker(*words)
        except EngineError:
            pass  # what is left is told by the next proof, which uses other names


def _said(output: bytes) -> str:
    lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    text = " ".join(lines[-3:]).strip()
    return text.removeprefix("Error response from daemon: ") or "no answer"


def open_socket(target: Target, socket: str = SOCKET) -> Engine:
    """Through the socket. Raises TargetError where no program on the target can open one."""
    ways = dial.ways(socket)
    asked = f"for t in {' '.join(ways)}; do command -v $t >/dev/null && echo $t; done; :"
    there = target.run(asked).text.split()
    for name, command in ways.items():
        if name not in there:
            continue
        api = Api(target, name, command)
        if name == "curl":
            return api
        try:
            api.version()
            return api
        except TargetError:
            continue  # BusyBox's nc has no -U, for one
    raise TargetError(
        "it has no docker client, and nothing that could talk to the daemon's socket",
        where=target.name,
        hint="put the client into the bundle, or curl, socat, nc or python3 on the board",
    )


class Api:
    """Through the daemon's HTTP API. HTTP/1.0, so that answers come whole and unchunked."""

    def __init__(self, target: Target, program: str, command: str) -> None:
        self._target = target
        self._program = program
        self._command = command

    @property
    def way(self) -> str:
        return f"the socket, by {self._program}"

    def call(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        *,
        seconds: float = _SECONDS,
    ) -> bytes:
        if isinstance(body, dict):
            data, kind = json.dumps(body).encode(), "application/json"
        else:
            data, kind = body or b"", "application/x-tar"
        if self._program == "curl":
            command = (
                f"{self._command} -0 -i -X {method} -H {quote(f'Content-Type: {kind}')} "
                f"-H Expect: --data-binary @- {quote(f'http://docker{path}')}"
            )
            sent = data
        else:
            command = self._command
            head = (
                f"{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: {kind}\r\n"
                f"Content-Length: {len(data)}\r\n\r\n"
            )
            sent = head.encode() + data
        result = self._target.run(command, input=sent, timeout=seconds, check=False)
        return self._answer(result.stdout, result.stderr)

    def request(self, path: str) -> tuple[str, bytes]:
        """A command that asks for ``path``, and what goes to its standard input."""
        if self._program == "curl":
            return f"{self._command} -0 -i {quote(f'http://docker{path}')}", b""
        return self._command, f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode()

    def upload(self, path: str, size: int) -> tuple[str, bytes]:
        """A command that posts its standard input, and what comes before ``size`` bytes there."""
        if self._program == "curl":
            # "-T -" sends what comes; "--data-binary @-" would hold all of it in memory first.
            command = (
                f"{self._command} -i -X POST -H 'Content-Type: application/x-tar' -H Expect: "
                f"-T - {quote(f'http://docker{path}')}"
            )
            return command, b""
        head = (
            f"POST {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/x-tar\r\n"
            f"Content-Length: {size}\r\n\r\n"
        )
        return self._command, head.encode()

    def check_upload(self, output: bytes, complaint: bytes) -> None:
        """Raises EngineError where the answer to an upload tells of a failure."""
        self._check_stream(self._answer(output, complaint))

    def _answer(self, output: bytes, complaint: bytes) -> bytes:
        head, _, body = output.partition(b"\r\n\r\n")
        words = head.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            raise EngineError(_said(complaint), where=self._target.name)
        if int(words[1]) >= 400:
            try:
                said = str(json.loads(body)["message"])
            except (ValueError, KeyError, TypeError):
                said = body.decode("utf-8", "replace").strip()[:500] or f"HTTP {words[1].decode()}"
            raise EngineError(said, where=self._target.name)
        return body

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            told = json.loads(self.call(method, path, body))
        except ValueError as error:
            raise EngineError(f"the daemon's answer is no JSON: {error}") from error
        if not isinstance(told, dict):
            raise EngineError("the daemon's answer is not what its API promises")
        return told

    def version(self) -> str:
        return str(self._json("GET", "/version").get("Version", ""))

    def load(self, archive: bytes) -> None:
        answer = self.call("POST", "/images/load?quiet=1", archive, seconds=_LOAD_SECONDS)
        self._check_stream(answer)

    def _check_stream(self, answer: bytes) -> None:
        # Errors in the middle come with status 200, as a line of the stream.
        for line in answer.splitlines():
            if b'"error"' in line:
                raise EngineError(_said(line), where=self._target.name)

    def run(self, container: Container) -> Ran:
        id = self.start(container)
        try:
            logs = self.call("GET", LOGS.format(id))
            return Ran(self.wait(id), _unframed(logs))
        finally:
            self.remove(id)

    def wait(self, id: str) -> int:
        """The exit code of a container, once it has ended."""
        return int(self._json("POST", f"/containers/{id}/wait").get("StatusCode", -1))

    def start(self, container: Container) -> str:
        body: dict[str, Any] = {"Image": container.image}
        host: dict[str, Any] = {"NetworkMode": container.network or "default"}
        if container.command:
            body["Cmd"] = list(container.command)
        if container.memory_bytes is not None:
            host |= {"Memory": container.memory_bytes, "MemorySwap": container.memory_bytes}
        if container.publish is not None:
            address, outer, inner = container.publish
            body["ExposedPorts"] = {f"{inner}/tcp": {}}
            host["PortBindings"] = {f"{inner}/tcp": [{"HostIp": address, "HostPort": str(outer)}]}
        if container.volume is not None:
            host["Binds"] = [":".join(container.volume)]
        if container.restart:
            host["RestartPolicy"] = {"Name": container.restart}
        body["HostConfig"] = host
        id = str(self._json("POST", "/containers/create", body).get("Id", ""))
        try:
            self.call("POST", f"/containers/{id}/start")
        except EngineError:
            self.remove(id)
            raise
        return id

    def state(self, id: str) -> tuple[bool, str]:
        state = self._json("GET", f"/containers/{id}/json").get("State", {})
        return bool(state.get("Running")), str(state.get("StartedAt", ""))

    def remove(self, id: str) -> None:
        self._quietly(f"/containers/{id}?force=1&v=1")

    def remove_image(self, name: str) -> None:
        self._quietly(f"/images/{url_quote(name, safe=':')}?force=1")

    def remove_volume(self, name: str) -> None:
        self._quietly(f"/volumes/{url_quote(name)}?force=1")

    def _quietly(self, path: str) -> None:
        try:
            self.call("DELETE", path)
        except EngineError:
            pass


def _unframed(logs: bytes) -> bytes:
    """Docker's log stream: eight bytes of header (stream, 3 zeroes, size), then the bytes."""
    found = b""
    at = 0
    while at + 8 <= len(logs):
        stream, size = logs[at], struct.unpack(">I", logs[at + 4 : at + 8])[0]
        if stream > 2:
            return logs
        found += logs[at + 8 : at + 8 + size]
        at += 8 + size
    return found
