"""Addresses, ports and name servers of a run."""
