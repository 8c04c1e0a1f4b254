"""What a process that ended had to say about it, from the end of its log. Pure."""

import re

# What our own processes write before they end.
MARK = "error: "
_FATAL = "Fatal Python error: "
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*(?:Error|Exception|Exit|Interrupt))(?:: (.*))?$")
_OURS = "beamcast.core.errors."


def last_words(log: str) -> str:
    """The last error in a log: one of ours as it is, another exception with its type, or a crash of the interpreter;
    "" where there is none."""
    for line in reversed(log.splitlines()):
        if line.startswith(MARK):
            return line.removeprefix(MARK)
        if line.startswith(_FATAL):
            return line
        match = _EXCEPTION.match(line)
        if match is not None:
            message = match[2] or ""
            return message if line.startswith(_OURS) and message else f"{match[1]}: {message}".rstrip(": ")
    return ""
