"""Code that a user brings along as `module:name`: found, and its faults told as its author needs them."""

import importlib
import traceback
from pathlib import Path
from typing import Any

from nakt_fed.errors import NaktError, StudyError


def imported(name: str, what: str) -> Any:
    """The object that `module:attribute` names.

    Args:
        what: what it is to be, for messages: "network", "weighting".

    Raises:
        StudyError: the module is not there, fails while it is imported, or has no such attribute.
    """
    module, _, attribute = name.rpartition(":")
    if not module or module.startswith("."):
        raise StudyError(
            f"{what} {name!r} cannot be imported; write 'module:name', the module as it stands on PYTHONPATH"
        )
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        remedy = "install its package, or put its folder on PYTHONPATH"
        raise StudyError(f"{what} {name!r} cannot be imported ({error}); {remedy}") from error
    except NaktError as error:
        raise StudyError(f"{what} {name!r} cannot be imported: {error}") from error
    except Exception as error:
        raise StudyError(f"{what} {name!r} cannot be imported: {told(error)}; mend it there") from error
    if not attribute or not hasattr(loaded, attribute):
        remedy = "write 'module:name' with a name that the module defines"
        raise StudyError(f"{what} {name!r}: module {module!r} has no attribute {attribute!r}; {remedy}")
    return getattr(loaded, attribute)


def told(error: Exception) -> str:
    """What went wrong in a user's code, and where: the file's name and the line."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({Path(error.filename or '').name}, line {error.lineno})"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
