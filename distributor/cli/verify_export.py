"""Verifies an export of distributor's audit log (JSON Lines) with nothing but Python 3.8 or newer.

With --checkpoint and --key also that it begins with the events of a signed checkpoint (C2SP tlog-checkpoint: Ed25519, RFC 6962).
Exit code 0: no event was changed or removed. The states of deliveries are verified by `distributor audit verify` only.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from functools import reduce
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any, Iterator  # noqa: UP035  Python 3.8

HASHED = {"seq", "at", "delivery", "event", "from", "to", "by", "evidence", "commitment", "prev"}
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # the field and the order of Ed25519
BASE = (4 * pow(5, P - 2, P) % P).to_bytes(32, "little")
D, ROOT_OF_MINUS_ONE = -121665 * pow(121666, P - 2, P) % P, pow(2, (P - 1) // 4, P)


def _canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(errors="surrogatepass")


def _digest(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def _point(data: bytes) -> tuple[int, int, int, int]:
    y, odd = int.from_bytes(data, "little") & (2**255 - 1), data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * ROOT_OF_MINUS_ONE % P
    if y >= P or (x * x - square) % P or (x == 0 and odd):
        raise ValueError("not a point of the curve")
    x = x if x & 1 == odd else P - x
    return x, y, 1, x * y % P


def _sum(p: tuple[int, int, int, int], q: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _product(number: int, p: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    result = (0, 1, 1, 0)
    while number:
        result, p, number = _sum(result, p) if number & 1 else result, _sum(p, p), number >> 1
    return result


def is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the owner of an Ed25519 public key signed a message. Raises ValueError for what is no key or signature."""
    s = int.from_bytes(signature[32:], "little")
    if len(public) != 32 or len(signature) != 64 or s >= L:  # noqa: PLR2004  bytes of a key and a signature
        return False
    k = int.from_bytes(sha512(signature[:32] + public + message).digest(), "little") % L
    one, other = _product(s, _point(BASE)), _sum(_point(signature[:32]), _product(k, _point(public)))
    return (one[0] * other[2] - other[0] * one[2]) % P == 0 == (one[1] * other[2] - other[1] * one[2]) % P


def read_checkpoint(note: str, key: str) -> tuple[int, bytes]:
    """Number of events and root of a checkpoint. Raises ValueError where this key did not sign it."""
    name, hexid, encoded = key.strip().split("+", 2)
    public, (text, _, signatures) = base64.b64decode(encoded), note.replace("\r\n", "\n").rpartition("\n\n")
    keyid, text = _digest(name.encode(), b"\n", public)[:4], text.lstrip("\n") + "\n"
    origin, size, root = text.splitlines()[:3]
    for line in signatures.splitlines() if (keyid.hex(), public[:1], origin) == (hexid, b"\1", name) else ():
        dash, signer, data = line.split(" ")
        signature = base64.b64decode(data)
        if (dash, signer, signature[:4]) == ("\u2014", name, keyid) and is_signed(public[1:], signature[4:], text.encode()):
            return int(size), base64.b64decode(root)
    raise ValueError


def _root(tree: list[tuple[int, bytes]]) -> bytes:
    return reduce(lambda right, left: _digest(b"\1", left, right), [root for _, root in reversed(tree)])


def verify(lines: Iterator[str], checkpoints: list[tuple[int, bytes, str]]) -> Iterator[str]:
    """Everything that is wrong with an export, and at its end a line that begins with "events:". Raises ValueError and the like."""
    prev, seq, erased = "0" * 64, 0, set()
    tree: list[tuple[int, bytes]] = []  # the full subtrees: how many events, and their root
    for seq, line in enumerate(lines, 1):
        try:
            event = json.loads(line, object_pairs_hook=_once)
            opened = {name: event["evidence"].pop(name) for name in event["personal"] or ()}
            commitment = _digest(bytes.fromhex(event["salt"] or ""), _canonical(opened)).hex()
            hashed, node = _canonical({name: event[name] for name in HASHED}), _digest(b"\0", bytes.fromhex(event["hash"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            yield f"line {seq}: is not an event as an export in JSON Lines has it"
            return
        if set(event) != HASHED | {"personal", "salt", "hash"} or event["seq"] != seq or event["prev"] != prev:
            yield f"line {seq}: does not follow the line before: something was removed, inserted or exchanged"
        if sha256(hashed).hexdigest() != event["hash"]:
            yield f"event {seq}: was changed"
        if opened and commitment != event["commitment"]:
            yield f"event {seq}: its personal data were changed"
        erased |= {seq} if event["commitment"] and not opened else set()
        erased -= set(event["evidence"].get("events", ())) if event["event"] == "erased" else set()
        prev, size = event["hash"], 1
        while tree and tree[-1][0] == size:
            size, node = 2 * size, _digest(b"\1", tree.pop()[1], node)
        tree.append((size, node))
        yield from (
            f"{name}: events 1 to {seq} were changed since" for end, root, name in checkpoints if end == seq and root != _root(tree)
        )
    yield from (f"event {number}: lost its personal data, and no event says why" for number in sorted(erased))
    yield from (f"{name}: is of {size} events; the end was removed" for size, _, name in checkpoints if size > seq)
    yield f"events: {seq}, hash of the last: {prev}" if seq else "no events"


def main() -> int:
    """Verify the export that the command line names, and print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="FILE", help="may be repeated")
    parser.add_argument("--key", default="", help="for --checkpoint: NAME+ID+KEY, as `distributor audit key` shows it")
    given, found, checkpoints = parser.parse_args(), [], []
    for name in given.checkpoint:
        try:
            checkpoints.append((*read_checkpoint(Path(name).read_text(encoding="utf-8-sig"), given.key), name))
        except (OSError, ValueError) as error:
            found.append(f"{name}: {getattr(error, 'strerror', None) or 'not a checkpoint that was signed with --key'}")
    try:
        with Path(given.export).open(encoding="utf-8-sig", newline="\n") as lines:
            found += verify(lines, checkpoints)
    except (OSError, ValueError, TypeError) as error:
        found.append(f"{given.export}: cannot be read: {error}")
    if good := len(found) == 1 and found[0].startswith("events:"):
        found += [f"{name}: events 1 to {size} are those that were signed" for size, _, name in checkpoints]
        found += [] if checkpoints else ["no checkpoint given: if the end was removed, or every hash computed anew, this does not show it"]
    sys.stdout.write("\n".join([*found, "verified" if good else "NOT VERIFIED", ""]).encode("ascii", "backslashreplace").decode())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
