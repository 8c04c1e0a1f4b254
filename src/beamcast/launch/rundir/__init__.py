"""The run directory: what is in it, and who owns it."""
