"""Every way dreamflow refuses to go on, each with the exit code of the command line.

A message says what was given, what is allowed and what to do, in one line; the library raises,
only the command line prints. The codes follow BSD's sysexits.h where it has one that fits.
"""


class DreamflowError(Exception):
    """Base of all expected failures. Anything else that escapes is a bug."""

    exit_code = 70
    frame: int | None = None
    """Index in its file of the frame that it is about, if it is about one."""


class RendersFailedError(DreamflowError):
    """Some renders of a batch failed; the others are done."""

    exit_code = 1


class UsageError(DreamflowError):
    """The call itself makes no sense: an impossible option value or combination."""

    exit_code = 2


class BadMediaError(DreamflowError):
    """The input exists but is not media that can be rendered, or rendering it left the numbers."""

    exit_code = 65


class InputMissingError(DreamflowError):
    """The input is absent, unreadable, a folder without pictures, or not a regular file."""

    exit_code = 66


class UnavailableError(DreamflowError):
    """Something the render stands on is not there: ffmpeg, an encoder, a network, its weights."""

    exit_code = 69


class OutputError(DreamflowError):
    """The output exists already or cannot be created where it was asked for."""

    exit_code = 73


class StorageError(DreamflowError):
    """Reading or writing failed midway: disk full, device gone, encoder killed."""

    exit_code = 74


class StoppedError(DreamflowError):
    """The render stopped in good order; the same command goes on from there."""

    exit_code = 75


class PresetError(DreamflowError):
    """A preset or manifest is wrong. One message a line, each `file:line:column: what`."""

    exit_code = 78


class ChangedError(DreamflowError):
    """What was begun is not what is asked for now: it cannot be resumed."""

    exit_code = 78


_NO_MEMORY = ("can't allocate memory", "Insufficient memory", "out of memory")
"""As torch says it of a processor, OpenCV, and torch of a GPU."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of whatever library, says that there was no memory."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)
