"""The few lines of shell that serve framed exchanges on a board's serial console.

They are typed in at the prompt, checked by their own checksum before they run, and then read
lines from the terminal themselves: no prompt, no line editor, no echo, no history. Lines from
us: ``+BASE64`` gathers, ``:VERB SEQ …`` acts. Every answer is a frame with a checksum, repeated
when asked for; a SEQ that was done already is never done again.
"""

from __future__ import annotations

from embedkit.target.digest import Digester

# D folder, L last sequence number done, K checksum program, E encoder, F decoder.
# Files: a gathered base64, b decoded block, c command, i its input, o e its output, r answer.
# "=": forget what was gathered.      ":a N FILE SUM N": append the gathered to FILE.
# ":x N SUM N": the gathered is the (rest of the) command: run it.
# ":g N FILE BLOCK SIZE N": a block of FILE.   ":q N N": the answer again.   ":e": end.
# N stands at both ends so that a line that lost a byte is not taken for another number's.
_AGENT = r"""
umask 077
for D in /tmp /run /var/run /dev/shm /var/tmp /root; do D=$D/.embedkit.$$; mkdir $D 2>/dev/null && break; done
h() { command -v $1 >/dev/null 2>&1; }
for K in cksum md5sum sha1sum sha256sum none; do h $K && break; done
if h base64; then E=base64 F='base64 -d'
elif h openssl; then E='openssl base64' F='openssl base64 -d'
elif h uuencode; then E='uuencode -m x' F=u
else E=none; fi
s() { set -- $($K); echo $1; }
d() { if [ $F = u ]; then { echo begin-base64 600 x; cat $D/a; echo ====; } | uudecode -o /dev/stdout; else $F <$D/a; fi >$D/b 2>/dev/null; [ "$(s <$D/b)" = "$1" ]; }
w() { echo; echo "~{$1 $(s <$D/r)"; $E <$D/r; echo "}~$1"; }
z() { : >$D/a; }
y() { : >$D/c; : >$D/i; }
O=$(stty -g 2>/dev/null); stty -echo -ixon -ixoff icanon 2>/dev/null
trap : INT QUIT; trap '' HUP
L=0; z; y; echo "h 0 $K ${E%% *}" >$D/r; w 0
while IFS= read -r l; do
case $l in
+*) echo "${l#+}" >>$D/a;;
=) z;;
:e) break;;
:*) set -f; set -- $l; set +f
for q in $l; do :; done
[ "$q" = "$2" ] || continue
N=$2
case $1 in
:q) [ $N = $L ] && { w $N; continue; }
mv $D/r $D/s; echo none >$D/r; w $N; mv $D/s $D/r; continue;;
esac
[ $N = $L ] && { w $N; continue; }
case $1 in
:a) if d "$4"; then L=$N; cat $D/b >>$D/$3; echo "$l" >$D/r; else L=0; echo bad >$D/r; fi; z;;
:x) if d "$3"; then L=$N; z; cat $D/b >>$D/c; echo "~<$N"; sh $D/c <$D/i >$D/o 2>$D/e; R=$?
set -- $(s <$D/o) $(wc -c <$D/o) $(s <$D/e) $(wc -c <$D/e)
{ echo "$l"; echo $R $*; [ $(($2+$4)) -le 2048 ] && cat $D/o $D/e; } >$D/r; y
else L=0; echo bad >$D/r; z; fi;;
:g) L=$N; { echo "$l"; dd if=$D/$3 bs=$5 skip=$4 count=1 2>/dev/null; } >$D/r;;
*) continue;;
esac
w $N;;
esac
done
rm -rf $D; stty $O 2>/dev/null
"""  # noqa: E501

# What is typed at a time: BusyBox's line editor takes 1,023 characters, old ones 255.
_TYPED = 160


def text() -> str:
    """The agent as one argument of ``sh -c``, comments and blank lines left out."""
    return _AGENT.strip() + "\n"


def typed_lines() -> list[str]:
    """What is typed to have the agent in the variable ``EK``: each line stands for itself, so
    none needs a continuation prompt; newlines travel as ``\\n`` of printf."""
    escaped = text().replace("\\", "\\\\").replace("%", "%%").replace("\n", "\\n")
    lines = ["EK="]
    piece = ""
    for unit in _units(escaped):
        quoted = "'\\''" if unit == "'" else unit
        if len(piece) + len(quoted) > _TYPED:
            lines.append(f"EK=$EK'{piece}'")
            piece = ""
        piece += quoted
    lines.append(f"EK=$EK'{piece}'")
    return lines


def _units(escaped: str) -> list[str]:
    """Characters, escapes of two kept together."""
    units = []
    index = 0
    while index < len(escaped):
        step = 2 if escaped[index] in "\\%" else 1
        units.append(escaped[index : index + step])
        index += step
    return units


def check_line() -> str:
    """Prints the checksum of what was typed, in a form that the echo of this line has not."""
    return 'printf "$EK" | { cksum || md5sum; } 2>/dev/null | { read -r a b; echo "~""K$a""K~"; }'


def checksums() -> tuple[bytes, ...]:
    """What check_line() prints where all was typed right."""
    content = text().encode()
    crc = int(Digester("cksum").of_bytes(content), 16)
    return tuple(f"~K{value}K~".encode() for value in (crc, Digester("md5sum").of_bytes(content)))


# The interactive shell's own job control would give the terminal to every command; a plain sh
# keeps it. "exec" is not used: at the end the login shell is there again.
START_LINE = 'sh -c "$(printf "$EK")"'
