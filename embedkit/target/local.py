"""This machine as a target: for tests, and for running embedkit on the board itself."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from typing import IO

from embedkit import process
from embedkit.errors import TargetError
from embedkit.target.base import Channel, Command, CommandTimeout, Output, script
from embedkit.target.shell import ShellTarget

_CHUNK = 256 << 10
# How long a command that was told to stop may take before it is killed.
_GRACE_SECONDS = 2.0


class LocalTarget(ShellTarget):
    """Runs commands here. ``shell`` are the words before the script (for a chroot, say)."""

    def __init__(self, shell: Sequence[str] = ("/bin/sh", "-c"), *, name: str = "local") -> None:
        super().__init__("local:", name)
        self._shell = tuple(shell)

    def connect(self, *, deadline_seconds: float | None = None) -> None:
        pass

    def close(self) -> None:
        pass

    def reboot(self, *, deadline_seconds: float = 180.0) -> float:
        raise TargetError("embedkit does not reboot the machine that it runs on", where=self.name)

    def stream(
        self,
        command: Command,
        *,
        input: Iterable[bytes] | None = None,
        output: Output | None = None,
        timeout: float | None = None,
    ) -> int:
        running = process.start(
            [*self._shell, script(command)],
            stdin=process.DEVNULL if input is None else process.PIPE,
            new_session=True,
        )
        feeder = _Feeder(running.stdin, input) if input is not None else None
        try:
            self._pump(running, output, timeout)
        except BaseException:
            _stop(running)
            raise
        finally:
            if feeder is not None:
                feeder.join()
            for stream in (running.stdout, running.stderr):
                if stream is not None:
                    stream.close()
        if feeder is not None and feeder.error is not None:
            raise feeder.error
        code = running.returncode
        return 128 - code if code < 0 else code

    def _pump(self, running: process.Running, output: Output | None, timeout: float | None) -> None:
        ends = None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            for stream, channel in (
                (running.stdout, Channel.STDOUT),
                (running.stderr, Channel.STDERR),
            ):
                assert stream is not None
                selector.register(stream, selectors.EVENT_READ, channel)
            while selector.get_map():
                left = None if ends is None else ends - time.monotonic()
                if left is not None and left <= 0:
                    raise CommandTimeout(
                        f"the command did not end within {timeout:g} s", where=self.name
                    )
                for key, _ in selector.select(left):
                    data = os.read(key.fd, _CHUNK)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif output is not None:
                        output(key.data, data)
        try:
            running.wait(None if ends is None else max(0.0, ends - time.monotonic()))
        except process.TimeoutExpired as late:
            raise CommandTimeout(
                f"the command did not end within {timeout:g} s", where=self.name
            ) from late


class _Feeder:
    """Writes a command's input beside the reading of its output, so that neither blocks."""

    def __init__(self, pipe: IO[bytes] | None, chunks: Iterable[bytes]) -> None:
        assert pipe is not None
        self.error: BaseException | None = None
        self._pipe = pipe
        self._thread = threading.Thread(target=self._feed, args=(chunks,), daemon=True)
        self._thread.start()

    def _feed(self, chunks: Iterable[bytes]) -> None:
        try:
            for chunk in chunks:
                self._pipe.write(chunk)
            self._pipe.flush()
        except BrokenPipeError:
            pass  # the command ended without reading all of it: its exit code tells
        except BaseException as error:
            self.error = error
        finally:
            with contextlib.suppress(OSError):
                self._pipe.close()

    def join(self) -> None:
        self._thread.join()


def _stop(running: process.Running) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, number)
        try:
            running.wait(_GRACE_SECONDS)
            return
        except process.TimeoutExpired:
            continue
