"""Stand-ins for Docker's programs where only the installation is under test: small real static
programs that are started, write a process id file, listen on the socket and end on SIGTERM."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support import debian, locks

NAMES = ("docker", "dockerd", "containerd", "containerd-shim-runc-v2", "runc")
_SOURCE = r"""
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
static const char *pidfile = "/var/run/docker.pid", *path = "/var/run/docker.sock";
static void end(int n) { unlink(pidfile); unlink(path); _exit(0); }
int main(int argc, char **argv) {
  const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
  struct sockaddr_un at = {AF_UNIX};
  strcpy(at.sun_path, path);
  for (int i = 1; i < argc; i++) if (!strcmp(argv[i], "--version")) {
    printf("%s version %s, stand-in\n", name, VERSION); return 0; }
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  if (!strcmp(name, "docker")) {
    if (connect(s, (struct sockaddr *)&at, sizeof at)) { perror("connect"); return 1; }
    char told[64]; int got = read(s, told, 63); if (got > 0) write(1, told, got); return got < 1; }
  if (strcmp(name, "dockerd")) return 1;
  char wrong[64] = ""; int f = open("/etc/standin-fails", O_RDONLY);
  if (f >= 0) { read(f, wrong, 63); if (!strncmp(wrong, VERSION, strlen(VERSION))) {
    fprintf(stderr, "level=fatal msg=\"Iptables not found\"%s\n", wrong + strlen(VERSION));
    return 1; } }
  signal(SIGTERM, end); unlink(path);
  f = open(pidfile, O_CREAT | O_TRUNC | O_WRONLY, 0644);
  dprintf(f, "%d", getpid()); close(f);
  if (!unlink("/etc/standin-is-slow")) { sleep(1); unlink(pidfile);
    fprintf(stderr, "failed to start containerd: timeout waiting for containerd to start\n");
    return 1; }
  if (bind(s, (struct sockaddr *)&at, sizeof at) || listen(s, 5)) { perror("bind"); return 1; }
  if (getenv("NOTIFY_SOCKET")) { /* sd_notify(3) */
    struct sockaddr_un to = {AF_UNIX}; strncpy(to.sun_path, getenv("NOTIFY_SOCKET"), 107);
    sendto(socket(AF_UNIX, SOCK_DGRAM, 0), "READY=1", 7, 0, (struct sockaddr *)&to, sizeof to); }
  fprintf(stderr, "API listen on %s\n", path);
  for (;;) { int c = accept(s, 0, 0); dprintf(c, "stand-in %s\n", VERSION); close(c); }
}
"""


def bundle(version: str) -> Path:
    """The folder of a bundle of stand-ins of that version; compiled once."""
    return locks.made_once(
        debian.cache() / "standins-5" / f"docker-{version}", lambda empty: _compile(empty, version)
    )


def _compile(folder: Path, version: str) -> None:
    program = folder / "docker"
    options = ["-Os", "-s", "-static", "-w", f'-DVERSION="{version}"', "-x", "c"]
    subprocess.run(["gcc", *options, "-o", program, "-"], input=_SOURCE, text=True, check=True)
    for name in NAMES[1:]:
        shutil.copy(program, folder / name)
        # Told apart by their content, too.
        with (folder / name).open("ab") as file:
            file.write(name.encode())
