"""What a user may have meant by a name that is not known."""

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> str:
    """The nearest known names as a question; where none is near, all of them.

    >>> suggestion("unifrm", ["uniform", "median"])
    "did you mean 'uniform'?"
    >>> suggestion("x", ["uniform", "median"])
    'known here: uniform, median'
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=most, cutoff=cutoff)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known here: {', '.join(names) or 'none'}"
