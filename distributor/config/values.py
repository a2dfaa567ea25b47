"""Parses and formats rates, durations and sizes of distributor.toml: "30/min", "14d", "1MiB". Pure."""

from __future__ import annotations

import re
from datetime import timedelta

_PER_MINUTE = {"s": 60.0, "min": 1.0, "h": 1 / 60}
_SECONDS = {"ms": 0.001, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 1000, "MB": 10**6, "GB": 10**9}
_LONGEST = timedelta(days=3653)  # ten years
_NUMBER = r"(\d+(?:\.\d+)?)"


def rate(text: str) -> float:
    """Messages a minute, from "N/s", "N/min" or "N/h"; ValueError says what is wrong."""
    match = re.fullmatch(_NUMBER + r"\s*/\s*(s|min|h)", text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError(f'"{text}" is not a rate such as "30/min" (or "2/s", "500/h")')
    return float(match[1]) * _PER_MINUTE[match[2]]


def duration(text: str) -> timedelta:
    """A length of time, from "14d", "12h", "30min", "60s"; ValueError says what is wrong."""
    match = re.fullmatch(_NUMBER + r"\s*(ms|s|min|m|h|d|w)", text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError(f'"{text}" is not a length of time such as "14d" (or "12h", "30min", "60s")')
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _LONGEST.total_seconds():
        raise ValueError(f'"{text}" is longer than ten years')
    return timedelta(seconds=seconds)


def size(text: str) -> int:
    """Bytes, from "1MiB", "512KiB", "2GB"; ValueError says what is wrong."""
    match = re.fullmatch(_NUMBER + r"\s*(B|KiB|MiB|GiB|kB|MB|GB)", text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError(f'"{text}" is not a size such as "1MiB" (or "512KiB", "2GiB")')
    return int(float(match[1]) * _BYTES[match[2]])


def rate_text(per_minute: float) -> str:
    """The notation of `rate`, in messages a minute."""
    return f"{per_minute:g}/min"


def duration_text(length: timedelta) -> str:
    """The notation of `duration`, in the largest unit that divides it into more than one."""
    seconds = length.total_seconds()
    for unit in ("d", "h", "min", "s"):
        if seconds % _SECONDS[unit] == 0 and (seconds > _SECONDS[unit] or unit == "s"):
            return f"{round(seconds / _SECONDS[unit])}{unit}"
    return f"{seconds * 1000:g}ms"


def size_text(number: int) -> str:
    """The notation of `size`, in the largest binary unit that divides it."""
    for unit in ("GiB", "MiB", "KiB"):
        if number % _BYTES[unit] == 0:
            return f"{number // _BYTES[unit]}{unit}"
    return f"{number}B"
