"""Reading a TOML file into a tree, with every way it can fail worded."""

import re
import tomllib
from pathlib import Path

from beamcast.core.errors import ConfigError

_PLACE = re.compile(r"(?P<what>.*) \(at (?P<place>line \d+, column \d+|end of document)\)", re.DOTALL)
# A configuration is written by hand: more than this is another file, given by mistake.
_LARGEST = 4 * 1024 * 1024


def read_toml(path: Path) -> dict[str, object]:
    """Return the tree of a TOML file; ConfigError, with line and column if it is malformed."""
    text = _text(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _malformed(path, str(error)) from error
    except RecursionError:
        raise ConfigError("not valid TOML: nested too deeply", where=str(path)) from None
    except ValueError as error:  # such as an integer of more digits than Python reads
        raise ConfigError(f"not valid TOML: {error}", where=str(path)) from error


def _text(path: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size > _LARGEST:
            raise ConfigError("too large for a configuration file (more than 4 MiB)", where=str(path))
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        hint = "TOML files are UTF-8 text"
        raise ConfigError(f"not UTF-8 at byte {error.start}", where=str(path), hint=hint) from error
    except OSError as error:
        reason = (
            "no such file" if isinstance(error, FileNotFoundError) else f"can't be read: {error.strerror}"
        )
        raise ConfigError(reason, where=str(path)) from error


def _malformed(path: Path, text: str) -> ConfigError:
    match = _PLACE.fullmatch(text)
    what, place = (match["what"], match["place"]) if match else (text, None)
    what = what[:1].lower() + what[1:]
    return ConfigError(f"not valid TOML: {what}", where=f"{path}: {place}" if place else str(path))
