"""Importing a processor's file, so that it can import what lies beside it, and other processes can import it.

The choice: the module has the name of its file, and the file's folder is on `sys.path`. A process that Python's
multiprocessing starts by spawn or forkserver gets `sys.path` from us and imports the module by its name to find the
functions and classes that it is to run; with a name of our own it would find nothing.

The folder stands behind the standard library and before installed packages. So a file beside the processor that is
called `queue.py` or `random.py` replaces nothing that Python or we import later.
"""

import importlib
import importlib.util
import keyword
import os
import sys
import zlib
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

_INSTALLED = ("site-packages", "dist-packages")


def load_user_file(path: Path) -> ModuleType:
    """Import a file; raises whatever it raises. Again, for a file that was imported before, gives the same module."""
    path = path.resolve()
    _put_on_path(str(path.parent))
    name = module_name(path)
    known = sys.modules.get(name)
    if known is not None:
        return known
    description = importlib.util.spec_from_file_location(name, path)
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    sys.modules[name] = module
    try:
        description.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def module_name(path: Path) -> str:
    """The name under which any process with our `sys.path` finds this file; one of our own where there is none, since
    the name is not one of Python's or belongs to another module."""
    name = path.stem
    if name.isidentifier() and not keyword.iskeyword(name):
        known = sys.modules.get(name)
        found = PathFinder.find_spec(name) if known is None else known.__spec__
        builtin = known is None and name in (*sys.builtin_module_names, *sys.stdlib_module_names)
        if (
            not builtin
            and found is not None
            and found.origin is not None
            and Path(found.origin).resolve() == path
        ):
            return name
    return f"beamcast_user_{zlib.crc32(os.fsencode(path.parent)):08x}_{name}"


def _put_on_path(folder: str) -> None:
    if folder in sys.path:
        return
    places = (at for at, entry in enumerate(sys.path) if Path(entry).name in _INSTALLED)
    sys.path.insert(next(places, len(sys.path)), folder)
    importlib.invalidate_caches()
