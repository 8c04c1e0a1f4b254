"""`python -m beamcast`: the same as the command `beamcast`."""

from beamcast.cli.main import main

main()
