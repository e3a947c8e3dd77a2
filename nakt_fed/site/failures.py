"""What goes wrong at a site stays there: a reference number leaves, errors.jsonl in the site's own folder holds the rest."""

import contextlib
import json
import secrets
import traceback
from pathlib import Path

from nakt_fed.errors import is_disk_full
from nakt_fed.exchange import Reply


def failed(folder: Path, kind: str, error: Exception, reason: str = "internal") -> Reply:
    """The refusal for the error that is being handled: its text may hold paths or names.

    Args:
        folder: the site's own.
        kind: of the request.
        reason: a code for what went wrong; of a full disk it is always `disk_full`.
    """
    reference = secrets.token_hex(4)
    line = {"reference": reference, "request": kind, "error": str(error), "traceback": traceback.format_exc()}
    with contextlib.suppress(OSError), (folder / "errors.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")  # where the disk is full, the refusal still has to leave
    return Reply(False, {"reason": "disk_full" if is_disk_full(error) else reason, "reference": reference})
