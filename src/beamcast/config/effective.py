"""The configuration in force, written back as TOML: what the files, the shipped site and `--set` came to."""

from datetime import date, datetime, time

import msgspec
import tomli_w

from beamcast.config.units import enc_hook
from beamcast.config.workflow import Struct


def to_toml(struct: Struct) -> str:
    """Return TOML that loads to an equal struct: defaults in full, quantities with units, no absent keys."""
    tree = msgspec.to_builtins(struct, enc_hook=enc_hook, builtin_types=(datetime, date, time))
    return tomli_w.dumps(_without_none(tree))


def _without_none(tree: dict[str, object]) -> dict[str, object]:
    return {key: _clean(value) for key, value in tree.items() if value is not None}


def _clean(value: object) -> object:
    if isinstance(value, dict):
        return _without_none(value)
    return [_clean(item) for item in value] if isinstance(value, list | tuple) else value
