"""Bytes and seconds as people read them; the only place where units are converted."""

KIB = 1024
MIB = 1024**2
GIB = 1024**3


def format_bytes(count: int) -> str:
    """`15.3 GiB`, `412 MiB`, `7 B`: three significant digits at most, binary units; nothing has 1024 TiB."""
    if abs(count) >= 1024**5:
        return "more than 1024 TiB"
    for unit, size in (("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(count) >= size:
            value = count / size
            return f"{value:.0f} {unit}" if abs(value) >= 100 or value == int(value) else f"{value:.1f} {unit}"
    return f"{count} B"


def format_gib(count: int) -> str:
    """GiB with two decimals and no unit, as vLLM's own log prints memory: `15.27`."""
    return f"{count / GIB:.2f}"


def format_duration(seconds: float) -> str:
    """`0.4 s`, `52 s`, `3 min 20 s`, `2 h 5 min`, `4 d 1 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
