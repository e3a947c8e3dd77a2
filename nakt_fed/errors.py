"""What a user did that cannot work. Every message says what was expected, what came, which key, site or picture, and the remedy."""

import errno


class NaktError(ValueError):
    """The family of all errors that are the user's to mend; the CLI prints them without a traceback."""


class StudyError(NaktError):
    """A study file has an unknown key, an impossible value or names something that is not there."""


class DataError(NaktError):
    """A picture, mask or folder cannot be used."""


class CheckpointError(NaktError):
    """A checkpoint is missing, damaged, of another architecture, or holds more than plain arrays."""


class AnswerError(NaktError):
    """A site's answer is not the soft masks that were asked for."""


class FilterError(NaktError):
    """Too few pictures have a salient target."""


class RunError(NaktError):
    """A run cannot start, go on or be read."""


def is_disk_full(error: BaseException) -> bool:
    """Whether the system had no room for a write: the disk, the user's quota or the largest file allowed."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
