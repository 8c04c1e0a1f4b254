"""Loading a user's processor and saying what it may return.

A processor is a class. `process(frame)` is the only method it must have; `start(context)`, `configure(**params)`,
`stats()` and `stop()` are called where they exist. Its parameters are keyword arguments of the constructor, from the
pool's `params`. Where it returns dictionaries it says beforehand what is in them, so that the output channel exists
before the first frame: `output = {"total": float, "peaks": list[float]}`.
"""

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from beamcast.core.errors import UsageError
from beamcast.core.place import Place
from beamcast.pools.frame import Frame


class Processor(Protocol):
    """The native interface."""

    def process(self, frame: Frame) -> Any:
        """Work on one frame. Return an array, a dict of the declared fields, a PvObject, or None for no output."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a processor may want to know when it starts."""

    run: str
    pool: str
    place: Place
    base: Path


def load_processor(spec: str, params: Mapping[str, object], *, base: Path) -> Processor:
    """Make the processor that `spec` ("file.py:Class" beside the workflow, or "package.module:Class") names.

    UsageError when there is no such file, module or class, when its constructor refuses the parameters or raises,
    or when it has no `process`; the traceback of the user's code is in the error's notes.
    """
    where, _, class_name = spec.rpartition(":")
    module = _load_file(base / where, spec) if where.endswith(".py") else _load_module(where, spec)
    made = getattr(module, class_name, None)
    if not inspect.isclass(made):
        classes = [name for name, value in vars(module).items() if inspect.isclass(value)]
        near = difflib.get_close_matches(class_name, classes, n=1)
        hint = (
            f"did you mean {near[0]!r}?" if near else f"classes there: {', '.join(sorted(classes)) or 'none'}"
        )
        raise UsageError(f"processor {spec!r}: no class {class_name!r} in {where}", hint=hint)
    try:
        processor = made(**params)
    except Exception as error:  # the user's constructor may raise anything
        refused = UsageError(
            f"processor {spec!r} can't be made: {type(error).__name__}: {error}",
            hint=f"its parameters are {inspect.signature(made)}, the workflow gives {dict(params)!r}",
        )
        refused.add_note(traceback.format_exc())
        raise refused from error
    if not callable(getattr(processor, "process", None)):
        raise UsageError(f"processor {spec!r} has no method process(frame)")
    return cast(Processor, processor)


def _load_module(name: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a user's module may raise anything when imported
        refused = UsageError(f"processor {spec!r}: can't import {name}: {type(error).__name__}: {error}")
        refused.add_note(traceback.format_exc())
        raise refused from error


def _load_file(path: Path, spec: str) -> ModuleType:
    if not path.is_file():
        raise UsageError(
            f"processor {spec!r}: no file {path}", hint="the path is relative to the workflow file"
        )
    name = f"beamcast_user_{path.stem}"
    description = importlib.util.spec_from_file_location(name, path)
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    # Known under its name and with its folder on the path, it can import what lies beside it and be pickled.
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        description.loader.exec_module(module)
    except Exception as error:  # the user's file may raise anything
        refused = UsageError(f"processor {spec!r}: {path.name} fails: {type(error).__name__}: {error}")
        refused.add_note(traceback.format_exc())
        raise refused from error
    return module
