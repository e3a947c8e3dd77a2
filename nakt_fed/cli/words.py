"""Numbers and errors as the commands print them."""

import errno
import io
import sys

from nakt_fed.errors import is_disk_full


def size(count: float) -> str:
    """Bytes for people.

    >>> size(18600)
    '18.6 kB'
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration(seconds: float) -> str:
    """Seconds for people, to two or three digits.

    >>> duration(42.3), duration(125), duration(700), duration(9000)
    ('42 s', '2 min 05 s', '11 min', '2 h 30 min')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def many(count: int, what: str) -> str:
    """A count with its noun.

    >>> many(1, "picture"), many(2000, "picture")
    ('1 picture', '2000 pictures')
    """
    return f"{count} {what}" + ("" if count == 1 else "s")


def os_error(error: OSError) -> str:
    """What the system refused, and the remedy."""
    what = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    if is_disk_full(error):
        return f"the disk is full ({what}); free some space, then try again"
    remedy = {
        errno.EACCES: "change its permissions",
        errno.EROFS: "write to another place",
        errno.EEXIST: "a folder is needed there; give another path",
        errno.ENOTDIR: "a folder is needed there; give another path",
    }
    return f"{what}; {remedy.get(error.errno or 0, 'correct the path')}"


def any_letters() -> None:
    """Names may hold letters that the terminal's encoding lacks: they become question marks, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def plain_error(message: str) -> None:
    """An error as the user sees it."""
    print(f"error: {message}", file=sys.stderr, flush=True)
