"""beamcast: streaming pools inside batch allocations, results back as PVs at the beamline."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("beamcast")
except PackageNotFoundError:  # running from a source tree that is not installed
    __version__ = "0+unknown"
