"""Verifies an export of distributor's audit log (JSON Lines) with Python 3.8 or newer and nothing else: python3 THIS.py EXPORT

--checkpoint FILE --key KEY: also that the export begins with the events of a signed checkpoint (C2SP tlog-checkpoint, Ed25519).
Verified are the hash of each event with the one before, the commitments to personal data, the root of the Merkle tree (RFC 6962) and the
signature (RFC 8032). Exit code 0: all is well, 1: something was changed. `distributor audit verify` also verifies the states of deliveries.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any, Iterator  # noqa: UP035  Python 3.8

FIELDS = {"seq", "at", "delivery", "event", "from", "to", "by", "evidence", "personal", "salt", "commitment", "prev", "hash"}
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, ROOT_OF_MINUS_ONE = -121665 * pow(121666, P - 2, P) % P, pow(2, (P - 1) // 4, P)


def canonical(value: object) -> str:
    """JSON with sorted keys and without white space, which is what is hashed."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def digest(*parts: bytes) -> bytes:
    """SHA-256."""
    return sha256(b"".join(parts)).digest()


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without a name that is there twice."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


# --- Ed25519 ---------------------------------------------------------------------------------------------------------


def point(data: bytes) -> tuple[int, int, int, int]:
    """The point of the curve that is encoded so. Raises ValueError."""
    y, odd = int.from_bytes(data, "little") & (2**255 - 1), data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * ROOT_OF_MINUS_ONE % P
    if y >= P or (x * x - square) % P or (x == 0 and odd):
        raise ValueError("not a point")
    x = x if x & 1 == odd else P - x
    return x, y, 1, x * y % P


def add(p: tuple[int, ...], q: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The sum of two points."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number: int, p: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """A point added to itself so often."""
    result = (0, 1, 1, 0)
    while number:
        result, p, number = add(result, p) if number & 1 else result, add(p, p), number >> 1
    return result


def is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the owner of the public key signed the message."""
    s = int.from_bytes(signature[32:], "little")
    if len(public) != 32 or len(signature) != 64 or s >= L:  # noqa: PLR2004  bytes of a key and a signature
        return False
    base = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
    k = int.from_bytes(sha512(signature[:32] + public + message).digest(), "little") % L
    try:
        one, other = times(s, base), add(point(signature[:32]), times(k, point(public)))
    except ValueError:
        return False
    return (one[0] * other[2] - other[0] * one[2]) % P == 0 == (one[1] * other[2] - other[1] * one[2]) % P


# --- checkpoints -----------------------------------------------------------------------------------------------------


def read_checkpoint(note: str, key: str) -> tuple[int, bytes]:
    """Number of events and root of a checkpoint. Raises ValueError where this key did not sign it."""
    name, hexid, encoded = key.strip().split("+", 2)
    public, (text, _, signatures) = base64.b64decode(encoded), note.replace("\r\n", "\n").rpartition("\n\n")
    keyid, text = digest(name.encode(), b"\n", public)[:4], text.lstrip("\n") + "\n"
    origin, size, root = text.splitlines()[:3]
    if keyid.hex() != hexid or public[:1] != b"\1" or origin != name:
        raise ValueError("of another log, or the key was not copied whole")
    for line in signatures.splitlines():
        dash, signer, data = (line.split(" ") + ["", ""])[:3]
        signature = base64.b64decode(data)
        if (dash, signer, signature[:4]) == ("\u2014", name, keyid) and is_signed(public[1:], signature[4:], text.encode()):
            return int(size), base64.b64decode(root)
    raise ValueError("the signature is not valid")


class Tree:
    """A Merkle tree: the roots of its full subtrees with their numbers of leaves, the largest first."""

    def __init__(self) -> None:
        self.edge: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        """Add a leaf, and join subtrees of the same size."""
        size, node = 1, digest(b"\0", leaf)
        while self.edge and self.edge[-1][0] == size:
            size, node = 2 * size, digest(b"\1", self.edge.pop()[1], node)
        self.edge.append((size, node))

    def root(self) -> bytes:
        """The root of the whole tree."""
        node = self.edge[-1][1] if self.edge else digest()
        for _, left in reversed(self.edge[:-1]):
            node = digest(b"\1", left, node)
        return node


def faults(lines: Iterator[str], checkpoints: dict[int, list[tuple[str, bytes]]]) -> Iterator[str]:
    """Everything that is wrong; the last text, which begins with "events: ", is none."""
    prev, seq, erased, tree = "0" * 64, 0, set(), Tree()
    for seq, line in enumerate(lines, 1):  # noqa: B007  used after the loop
        event = json.loads(line, object_pairs_hook=once)
        personal, salt, commitment = event["personal"], event["salt"], event["commitment"]
        opened = {name: event["evidence"].pop(name) for name in personal or ()}
        text = canonical({name: event[name] for name in FIELDS - {"personal", "salt", "hash"}})
        if set(event) != FIELDS or event["seq"] != seq or event["prev"] != prev:
            yield f"event {event['seq']}: does not follow event {seq - 1}: something was removed, inserted or exchanged"
        if sha256(text.encode(errors="surrogatepass")).hexdigest() != event["hash"]:
            yield f"event {seq}: was changed"
        if opened and sha256(bytes.fromhex(salt or "") + canonical(opened).encode(errors="surrogatepass")).hexdigest() != commitment:
            yield f"event {seq}: its personal data were changed"
        if commitment and not opened:
            erased.add(seq)
        if event["event"] == "erased":
            erased.difference_update(event["evidence"].get("events", ()))
        prev = event["hash"]
        tree.add(bytes.fromhex(prev))
        yield from (f"{name}: events 1 to {seq} were changed since" for name, root in checkpoints.pop(seq, ()) if root != tree.root())
    yield from (f"event {number}: lost its personal data, which no event explains" for number in sorted(erased))
    yield from (f"{name}: is of {size} events; the end was removed" for size, several in checkpoints.items() for name, _ in several)
    yield f"events: {seq}, hash of the last: {prev}"


def main() -> int:
    """Verify, and print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="FILE", help="may be repeated")
    parser.add_argument("--key", help="NAME+ID+KEY, as `distributor audit key` shows it")
    given = parser.parse_args()
    if given.checkpoint and not given.key:
        parser.error("--checkpoint needs --key")
    checkpoints: dict[int, list[tuple[str, bytes]]] = {}
    found = []
    for name in given.checkpoint:
        try:
            size, root = read_checkpoint(Path(name).read_text(encoding="utf-8"), given.key)
            checkpoints.setdefault(size, []).append((name, root))
        except ValueError as error:
            found.append(f"{name}: not a checkpoint signed with this key: {error}")
    with Path(given.export).open(encoding="utf-8", newline="\n") as lines:
        try:
            found += faults(lines, checkpoints)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            found.append(f"not an export: {type(error).__name__}: {error}")
    good = [text for text in found if text.startswith("events: ")]
    bad = [text for text in found if not text.startswith("events: ")]
    sys.stdout.write("\n".join([*bad, *good, "NOT VERIFIED" if bad else "verified"]).encode("ascii", "backslashreplace").decode() + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
