"""beamcast: streaming pools inside batch allocations, results back as PVs at the beamline."""

# Written here, since looking it up among the installed packages takes 60 ms in every process of a run.
__version__ = "0.1.0"
