"""Real programs that tests talk to: started on loopback, stopped by process id."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answers(port: int, path: str = "/") -> bool:
    """Whether an HTTP server answers on loopback, whatever it says."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


@contextlib.contextmanager
def running(
    argv: list[str],
    log: Path,
    ready: object,
    *,
    seconds: float = 60,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """``argv`` as long as the block lasts, from when ``ready()`` is true."""
    assert callable(ready)
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=env,
        )
    try:
        deadline = time.monotonic() + seconds
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{argv[0]} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def docker_registry(folder: Path) -> Iterator[str]:
    """Debian's docker-registry; ``127.0.0.1:PORT``."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n"
        f"    rootdirectory: {folder}/data\n  delete:\n    enabled: true\n"
        f"http:\n  addr: 127.0.0.1:{port}\n"
    )
    argv = ["docker-registry", "serve", str(config)]
    # It would take skopeo's REGISTRY_AUTH_FILE for a setting of its own.
    env = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")}
    with running(argv, folder / "log", lambda: answers(port, "/v2/"), env=env):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def nginx(folder: Path, server_block: str) -> Iterator[str]:
    """Debian's nginx with one server block, whose ``listen 5000`` is replaced."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    block = server_block.replace("listen 5000;", f"listen 127.0.0.1:{port};")
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        "events {}\nhttp { access_log off;\n"
        + "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + block
        + "}\n"
    )
    argv = ["/usr/sbin/nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    with running(argv, folder / "log", lambda: answers(port, "/v2/")):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def caddy(folder: Path, caddyfile: str) -> Iterator[str]:
    """Debian's Caddy with a Caddyfile whose ``:5000`` is replaced."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    off = "{\n\tadmin off\n\tauto_https off\n}\n"
    text = caddyfile.replace(":5000 {", f"http://127.0.0.1:{port} {{")
    (folder / "Caddyfile").write_text(off + text)
    argv = ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    env = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with running(argv, folder / "log", lambda: answers(port, "/v2/"), env=env):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def apache(folder: Path, root: Path) -> Iterator[str]:
    """Debian's Apache over ``root``, which decides by its .htaccess."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    modules = Path("/usr/lib/apache2/modules")
    names = ("mpm_event", "authz_core", "dir", "mime", "headers")
    (folder / "httpd.conf").write_text(
        "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in names)
        + f"ServerName localhost\nListen 127.0.0.1:{port}\nPidFile {folder}/pid\n"
        f"ErrorLog {folder}/error.log\nUser nobody\nGroup nogroup\nTypesConfig /dev/null\n"
        f'DocumentRoot "{root}"\n<Directory "{root}">\n'
        "AllowOverride FileInfo Indexes\nRequire all granted\n</Directory>\n"
    )
    argv = ["apache2", "-d", str(folder), "-f", str(folder / "httpd.conf"), "-D", "FOREGROUND"]
    with running(argv, folder / "log", lambda: answers(port, "/v2/")):
        yield f"127.0.0.1:{port}"


class Docker:
    """A Docker daemon of its own, with nothing shared with any other."""

    def __init__(self, socket_path: Path) -> None:
        self.socket = socket_path

    def __call__(self, *words: str, check: bool = True) -> str:
        argv = ["docker", "-H", f"unix://{self.socket}", *words]
        ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        if check and ended.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: {ended.stdout}{ended.stderr}")
        return ended.stdout + ("" if check else ended.stderr)


@contextlib.contextmanager
def dockerd(folder: Path) -> Iterator[Docker]:
    """Debian's dockerd without network, in a folder that overlay2 can live in."""
    folder.mkdir(parents=True, exist_ok=True)
    docker = Docker(folder / "docker.sock")
    argv = [
        "dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec",
        "--host", f"unix://{docker.socket}", "--pidfile", f"{folder}/pid",
        "--config-file", f"{folder}/daemon.json", "--iptables=false", "--ip6tables=false",
        "--bridge=none", "--ip-forward=false", "--storage-driver=overlay2",
    ]  # fmt: skip
    (folder / "daemon.json").write_text("{}")

    def ready() -> bool:
        return docker.socket.exists() and "Server" in docker("version", check=False)

    with running(argv, folder / "log", ready, seconds=120):
        yield docker
