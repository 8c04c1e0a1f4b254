"""How ranks are started: through Parsl, Globus Compute, or by somebody else."""
