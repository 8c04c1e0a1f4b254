"""`beamcast site-key`: the key to which a run's secrets are sealed on their way to a far endpoint."""

from pathlib import Path
from typing import Annotated

import typer

from beamcast.security.site_key import SiteKey


def site_key(
    file: Annotated[Path, typer.Option(help="Where the private key lies; made when it is not there.")] = Path(
        "~/.beamcast/site.key"
    ),
) -> None:
    """Print this site's public key, for `globus.public_key` in the site file; makes the key pair when there is none."""
    path = file.expanduser()
    if not path.exists():
        SiteKey.create().write(path)
    print(SiteKey.read(path).public)
