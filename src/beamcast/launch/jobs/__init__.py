"""What batch schedulers say and do: jobs, their states and ends, walltime."""
