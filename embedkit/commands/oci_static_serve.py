"""``embedkit oci static serve DIR``."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from embedkit.errors import InputError
from embedkit.oci.serve import Server
from embedkit.report.model import Report, Status
from embedkit.report.text import safe
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="what 'oci static export' wrote")
    parser.add_argument(
        "--listen",
        default="127.0.0.1:5000",
        metavar="ADDRESS:PORT",
        help="default 127.0.0.1:5000; 0.0.0.0:5000 serves boards on the network; port 0: any",
    )


def run(args: argparse.Namespace, ui: Ui) -> Report:
    address, colon, port = args.listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InputError(f"'{args.listen}' is not ADDRESS:PORT")
    address = address.strip("[]") or "127.0.0.1"
    server = Server(args.folder, address, int(port), lambda line: ui.detail(safe(line)))
    stop = threading.Event()
    previous = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    worker = threading.Thread(target=server.serve_forever, daemon=True)
    worker.start()
    shown = f"[{address}]" if ":" in address else address
    ui.say(f"serving {args.folder} on {shown}:{server.port}; Ctrl-C ends it")
    try:
        stop.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        server.shutdown()
        server.server_close()
    return Report(
        command="oci static serve",
        title=f"Served {args.folder}",
        verdict=f"{server.requests} requests answered",
        status=Status.OK,
        data={"requests": server.requests},
    )
