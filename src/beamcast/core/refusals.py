"""What the operating system refuses, as a sentence: which thing, why, and what to do. Pure."""

import errno
import os

from beamcast.core.errors import BeamcastError, WorldError

_ELSEWHERE = "Name another place: --run-dir, or run_root in the site file"
_WHO_MAY = f"`ls -ld` shows who may write there. {_ELSEWHERE}"
_MORE_FILES = "Raise the limit, such as `ulimit -n 4096`"
_MORE_PROCESSES = "See `ulimit -u`, and the limit of your group or container (pids.max)"
_FILE_SERVER = "The file system does not answer as it should: ask whoever keeps it"
_NETWORK = "See that the host name and the port are right, and that the network is up"

# What is wrong, in words that don't need the reader to know the error numbers, and what helps.
_WORDS: dict[int, tuple[str, str]] = {
    errno.EACCES: ("permission denied", _WHO_MAY),
    errno.EPERM: ("this is not permitted here", _WHO_MAY),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.ENOSPC: ("the disk is full", f"Make room. {_ELSEWHERE}"),
    errno.EDQUOT: ("the disk quota is used up", f"Make room. {_ELSEWHERE}"),
    errno.EFBIG: ("the file would be larger than is allowed", "See `ulimit -f`"),
    errno.ENOENT: ("no such file or folder", "See that the path is right, and that nobody has removed it"),
    errno.ENOTDIR: ("a part of the path is not a folder", "See that the path is right"),
    errno.EISDIR: ("this is a folder, not a file", "See that the path is right"),
    errno.EEXIST: ("this exists already", _ELSEWHERE),
    errno.ENOTEMPTY: ("the folder is not empty", "Somebody else writes there: name another place"),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter path"),
    errno.ELOOP: ("the path goes round in circles through symbolic links", "See where its links lead"),
    errno.ETXTBSY: ("the file is being executed", "Wait until that program has ended"),
    errno.EMFILE: ("this process may not open more files", _MORE_FILES),
    errno.ENFILE: ("this host may not open more files", "Ask whoever keeps the host"),
    errno.EAGAIN: ("no more processes or threads are allowed", _MORE_PROCESSES),
    errno.ENOMEM: ("there is not enough memory", "End what else runs on this host, or ask for more memory"),
    errno.EIO: ("the disk or its file server failed", _FILE_SERVER),
    errno.ESTALE: ("the file server has forgotten this file", _FILE_SERVER),
    errno.EOPNOTSUPP: ("the file system can't do this", _ELSEWHERE),
    errno.ENOSYS: ("this system can't do this", _ELSEWHERE),
    errno.EADDRINUSE: ("the port is in use", "Choose another one; `ss -ltnp` shows who listens"),
    errno.EADDRNOTAVAIL: ("this host does not have the address", "See [network] interfaces in the site file"),
    errno.ECONNREFUSED: ("nobody listens there", _NETWORK),
    errno.ECONNRESET: ("the other side has closed the connection", _NETWORK),
    errno.ETIMEDOUT: ("nobody answers there", _NETWORK),
    errno.EHOSTUNREACH: ("there is no way to the host", _NETWORK),
    errno.ENETUNREACH: ("there is no way to the network", _NETWORK),
    errno.EHOSTDOWN: ("the host is down", _NETWORK),
}
_UNKNOWN_NAME = ("the host name is not known", "See that it is spelt right, or write the address in numbers")
# Writing into an open file fails without the name of the file.
_OF_A_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE, errno.EROFS})
# Python says these by the text of a RuntimeError alone.
_THREAD = "can't start new thread"
_HOME = "could not determine home directory"


def refusal(error: BaseException, *, doing: str = "", place: str | None = None) -> WorldError | None:
    """The error that tells of what was refused; None where it is no refusal, and so a fault of the program.

    `doing`: what could not be done, such as "the run directory can't be made"; `place`: where files are written, for
    errors of a disk that don't say.
    """
    if isinstance(error, OSError):
        return _of_the_system(error, doing, place)
    if isinstance(error, MemoryError):
        return _worded(*_WORDS[errno.ENOMEM], doing=doing)
    if isinstance(error, RuntimeError) and str(error).startswith(_THREAD):
        return _worded(*_WORDS[errno.EAGAIN], doing=doing)
    if isinstance(error, RuntimeError) and str(error).lower().startswith(_HOME):
        hint = "Set HOME, or write the whole path in place of `~`"
        return _worded("this account has no home folder", hint, doing=doing)
    return None


def in_words(error: Exception, *, place: str | None = None) -> BeamcastError:
    """One of our errors as it is, a refusal in words; anything else is a fault, and raised again."""
    if isinstance(error, BeamcastError):
        return error
    worded = refusal(error, place=place)
    if worded is None:
        raise error
    worded.__cause__ = error
    return worded


def _of_the_system(error: OSError, doing: str, place: str | None) -> WorldError | None:
    number = error.errno
    # Negative numbers come from the look-up of host names.
    words = _UNKNOWN_NAME if number is not None and number < 0 else _WORDS.get(number or 0)
    if words is None:
        return None
    where = None if error.filename is None else os.fsdecode(error.filename)
    if where is None and number in _OF_A_DISK:
        where = place
    return _worded(*words, doing=doing, where=where)


def _worded(what: str, hint: str, *, doing: str, where: str | None = None) -> WorldError:
    message = f"{doing}: {what}" if doing else what
    return WorldError(message, hint=hint, where=where)
