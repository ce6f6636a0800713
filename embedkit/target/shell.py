"""What all targets with a POSIX shell share: only how a command travels differs."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import TargetError
from embedkit.progress import Progress
from embedkit.target.base import (
    COMMAND_SECONDS,
    Channel,
    Closing,
    Command,
    CommandFailed,
    ConnectionLost,
    Output,
    Result,
    Transfer,
    script,
)

if TYPE_CHECKING:
    from embedkit.target.facts import Facts

# What a board writes is kept in memory by run(); a runaway command must not fill ours.
OUTPUT_LIMIT_BYTES = 256 << 20

# Everything that transfer and probe would like to use, asked for once.
_TOOLS = (
    "base64 cat chmod cksum cmp cut dd df fsync gunzip gzip head hexdump md5sum mkdir mv od "
    "openssl readlink rm scp sha1sum sha256sum sha512sum stat stty sync tail tr truncate uname "
    "unxz unzstd uudecode uuencode wc xz xzcat zcat zstd zstdcat"
)


class ShellTarget(Closing, ABC):
    """A target whose commands are run by ``sh -c``. Implements embedkit.target.base.Target."""

    carries_binary = True

    def __init__(self, address: str, name: str) -> None:
        self._address = address
        self._name = name
        self._facts: Facts | None = None
        self._tools: frozenset[str] | None = None
        # Bytes a second that the link carried last, uncompressed; None until measured.
        self.link_rate: float | None = None
        # Bytes a second that it was seen to unpack while they came in; None until tried.
        self.unpack_rate: float | None = None

    @property
    def address(self) -> str:
        return self._address

    @property
    def name(self) -> str:
        return self._name

    @abstractmethod
    def connect(self, *, deadline_seconds: float | None = None) -> None: ...

    @abstractmethod
    def stream(
        self,
        command: Command,
        *,
        input: Iterable[bytes] | None = None,
        output: Output | None = None,
        timeout: float | None = None,
    ) -> int: ...

    @abstractmethod
    def close(self) -> None: ...

    def run(
        self,
        command: Command,
        *,
        input: bytes | None = None,
        timeout: float | None = COMMAND_SECONDS,
        check: bool = True,
    ) -> Result:
        text = script(command)
        gathered: dict[Channel, list[bytes]] = {Channel.STDOUT: [], Channel.STDERR: []}
        size = 0

        def gather(channel: Channel, data: bytes) -> None:
            nonlocal size
            size += len(data)
            if size > OUTPUT_LIMIT_BYTES:
                raise TargetError("the command wrote more than 256 MiB", where=self.name)
            gathered[channel].append(data)

        code = self.stream(
            text, input=None if input is None else (input,), output=gather, timeout=timeout
        )
        return self._ended(
            Result(
                text, code, b"".join(gathered[Channel.STDOUT]), b"".join(gathered[Channel.STDERR])
            ),
            check,
        )

    def _ended(self, result: Result, check: bool) -> Result:
        if check and result.exit_code != 0:
            raise CommandFailed(result, self.name)
        return result

    def tools(self) -> frozenset[str]:
        """Which of the programs that embedkit can use are there: applets of BusyBox too."""
        if self._tools is None:
            asked = f"for t in {_TOOLS}; do command -v $t >/dev/null 2>&1 && echo $t; done; :"
            self._tools = frozenset(self.run(asked).text.split())
        return self._tools

    def put(
        self,
        source: Path | bytes,
        path: str,
        *,
        mode: int | None = None,
        progress: Progress | None = None,
    ) -> Transfer:
        from embedkit.target.transfer import put

        return put(self, source, path, mode=mode, progress=progress)

    def get(self, path: str, destination: Path, *, progress: Progress | None = None) -> Transfer:
        from embedkit.target.receive import get

        return get(self, path, destination, progress=progress)

    def facts(self, *, refresh: bool = False) -> Facts:
        from embedkit.target.gather import gather

        if self._facts is None or refresh:
            self._facts = gather(self)
        return self._facts

    def reboot(self, *, deadline_seconds: float = 180.0) -> float:
        begun = time.monotonic()
        before = self._boot_id()
        # In the background and detached, so that the answer gets out before the line dies.
        self.run(
            "(trap '' HUP; sleep 1; reboot || /sbin/reboot || busybox reboot || "
            "systemctl reboot) >/dev/null 2>&1 </dev/null &"
        )
        time.sleep(2)
        self._facts = None
        while True:
            left = deadline_seconds - (time.monotonic() - begun)
            if left <= 0:
                raise TargetError(
                    f"it did not come back within {deadline_seconds:g} s of the reboot",
                    where=self.name,
                    hint="look at its serial console",
                )
            try:
                self._come_back(left)
                if self._boot_id() != before:
                    return time.monotonic() - begun
            except ConnectionLost:
                pass  # still going down, or not yet up
            time.sleep(1)

    def _come_back(self, seconds: float) -> None:
        """Connects to a board that is going down or coming up."""
        self.reconnect(deadline_seconds=seconds)

    def _boot_id(self) -> str:
        # Kernels before 2.6 had none; the time of boot stands in for it.
        asked = (
            "read -r id </proc/sys/kernel/random/boot_id && echo $id || "
            "while read -r k v; do [ $k = btime ] && echo $v; done </proc/stat"
        )
        return self.run(asked, check=False).text.strip()

    def reconnect(self, *, deadline_seconds: float = 60.0) -> None:
        self.close()
        self.connect(deadline_seconds=deadline_seconds)
