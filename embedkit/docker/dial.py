"""Programs of a board that make standard input and output a connection to a unix socket; curl,
which speaks HTTP by itself, first."""

from __future__ import annotations

from embedkit.target.base import quote

# Not closed where the request ends: Docker takes half a connection for none, and says no more.
_DIALS = (
    ("curl", "curl -sS --unix-socket @S@"),
    ("socat", "socat -t 600 - UNIX-CONNECT:@S@,shut-none"),
    ("ncat", "ncat --no-shutdown -U @S@"),
    ("nc", "nc -U @S@"),
    ("python3", "python3 -c @PY@ @S@"),
    ("perl", "perl -e @PL@ @S@"),
)
_PYTHON = """
import socket,sys
s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1])
for d in iter(lambda:sys.stdin.buffer.read(65536),b""): s.sendall(d)
while True:
    d=s.recv(65536)
    if not d: break
    sys.stdout.buffer.write(d)
"""
_PERL = (
    "use IO::Socket::UNIX;binmode STDIN;binmode STDOUT;"
    "$s=IO::Socket::UNIX->new(Peer=>$ARGV[0]) or die $!;while(read(STDIN,$d,65536)){print $s $d}"
    "$s->flush;$/=\\65536;while(<$s>){print}"
)


def ways(socket: str) -> dict[str, str]:
    """Program → the command that reaches ``socket`` with it, best first."""
    return {
        name: command.replace("@S@", quote(socket))
        .replace("@PY@", quote(_PYTHON))
        .replace("@PL@", quote(_PERL))
        for name, command in _DIALS
    }
