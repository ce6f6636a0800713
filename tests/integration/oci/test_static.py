"""A static registry, served by real web servers, to real clients."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import oci_images as images
from support import services
from support.oci_images import OVERRIDES, embedkit
from support.services import Docker
from support.skopeo import Skopeo

from embedkit.oci.serve import Server

pytestmark = pytest.mark.needs(
    "program:skopeo", "program:nginx", "program:caddy", "program:apache2"
)


@pytest.fixture(scope="module")
def exported(five: Path, single: Path) -> Iterator[Path]:
    # Apache's workers are not root, and pytest's own folders are closed to others.
    with tempfile.TemporaryDirectory(prefix="embedkit-static-") as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "static"
        embedkit("oci", "static", "export", folder, five, single)
        embedkit("oci", "static", "export", folder, five, "-t", "tools/deep/hello:2")
        yield folder


@pytest.fixture(params=["nginx", "caddy", "apache", "serve.py", "embedkit"])
def served(request: pytest.FixtureRequest, exported: Path, tmp_path: Path) -> Iterator[str]:
    if request.param == "nginx":
        with services.nginx(tmp_path / "nginx", (exported / "server/nginx.conf").read_text()) as at:
            yield at
    elif request.param == "caddy":
        with services.caddy(tmp_path / "caddy", (exported / "server/Caddyfile").read_text()) as at:
            yield at
    elif request.param == "apache":
        with services.apache(tmp_path / "apache", exported) as at:
            yield at
    elif request.param == "serve.py":
        port = services.free_port()
        argv = [sys.executable, str(exported / "server/serve.py"), str(port)]
        with services.running(argv, tmp_path / "log", lambda: services.answers(port, "/v2/")):
            yield f"127.0.0.1:{port}"
    else:
        server = Server(exported, "127.0.0.1", 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.port}"
        server.shutdown()
        server.server_close()


def test_skopeo_pulls_every_platform(served: str, skopeo: Skopeo, tmp_path: Path) -> None:
    for platform, override in OVERRIDES.items():
        config = skopeo.config(f"docker://{served}/hello:1", os="linux", **override)
        variant = f"/{config['variant']}" if "variant" in config else ""
        assert f"{config['os']}/{config['architecture']}{variant}" == platform
    skopeo("copy", "--all", f"docker://{served}/tools/deep/hello:2", f"oci:{tmp_path}/out:x")
    back = embedkit("oci", "copy", f"{tmp_path}/out", tmp_path / "back")
    straight = embedkit("oci", "pull", f"{served}/hello:1", tmp_path / "straight")
    assert back["data"]["digest"] == straight["data"]["digest"]


def test_tags_are_listed(served: str) -> None:
    listed = embedkit("oci", "list", f"{served}/tools/deep/hello")
    assert [tag["tag"] for tag in listed["data"]["tags"]] == ["2"]


@pytest.mark.needs("root", "program:dockerd")
def test_docker_pulls_and_runs(served: str, docker: Docker) -> None:
    docker("pull", "--quiet", f"{served}/single:1")
    ran = docker("run", "--rm", "--network", "none", f"{served}/single:1")
    assert ran == "hello from linux/amd64\n"
    docker("pull", "--quiet", "--platform", "linux/arm/v6", f"{served}/hello:1")
    docker("rmi", f"{served}/single:1", f"{served}/hello:1")


@pytest.mark.needs("root", "program:dockerd")
def test_python_s_plain_server_cannot_serve_it_and_the_error_says_why(
    exported: Path, skopeo: Skopeo, docker: Docker, tmp_path: Path
) -> None:
    port = services.free_port()
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1",
            "--directory", str(exported)]  # fmt: skip
    with services.running(argv, tmp_path / "log", lambda: services.answers(port)):
        ours = embedkit("oci", "inspect", f"127.0.0.1:{port}/single:1", code=2)
        assert "application/octet-stream" in ours["error"]["message"]
        assert "Content-Type" in ours["error"]["hint"]
        said = skopeo("inspect", f"docker://127.0.0.1:{port}/single:1", check=False)
        assert "unsupported schema version" in said
        said = docker("pull", f"127.0.0.1:{port}/single:1", check=False)
        assert "Downloaded" not in said


def test_serve_command_serves_until_it_is_told_to_stop(
    exported: Path, skopeo: Skopeo, tmp_path: Path
) -> None:
    port = services.free_port()
    argv = [sys.executable, "-m", "embedkit.cli", "oci", "static", "serve", str(exported),
            "--listen", f"127.0.0.1:{port}"]  # fmt: skip
    log = tmp_path / "log"
    with services.running(argv, log, lambda: services.answers(port, "/v2/")) as process:
        skopeo.config(f"docker://127.0.0.1:{port}/single:1")
        process.send_signal(2)
        assert process.wait(20) == 0
    assert "requests answered" in log.read_text()


@pytest.mark.needs("program:sh")
def test_the_s3_script_is_a_proper_script(exported: Path) -> None:
    subprocess.run(["sh", "-n", exported / "server/s3-upload.sh"], check=True)
    text = (exported / "server/s3-upload.sh").read_text()
    assert "v2/tools/deep/hello/manifests/2" in text
    assert images.PLATFORMS
