"""`beamcast network`: what a site's network needs besides beamcast."""

from typing import Annotated, Literal, cast

import typer

from beamcast.cli.options import SetSiteOption, SiteOption
from beamcast.config.load import load_site
from beamcast.core.errors import UsageError, WorldError
from beamcast.launch.network.forwarders import render
from beamcast.pva.interfaces import resolve_address

app = typer.Typer(
    help="What a site's network needs besides beamcast.", no_args_is_help=True, add_completion=False
)


@app.command("render")
def render_forwarder(
    site: SiteOption = "local",
    end: Annotated[
        str,
        typer.Option(help="cluster: where the nodes reach the forwarder; beamline: stunnel's other end."),
    ] = "cluster",
    site_settings: SetSiteOption = None,
) -> None:
    """Print the configuration of the site's forwarder, for haproxy or stunnel."""
    if end not in ("cluster", "beamline"):
        raise UsageError(f"--end is cluster or beamline, not {end!r}")
    loaded = load_site(site, overrides=site_settings or ())
    try:
        cluster_address = resolve_address(loaded.network.cluster.interfaces)
    except WorldError:
        forwarder = loaded.network.forwarder
        # The cluster's end is another host: what faces the cluster is known there by the forwarder's target.
        if end == "beamline" or (forwarder is not None and forwarder.target is None):
            raise
        cluster_address = ""
    print(
        render(loaded, end=cast(Literal["cluster", "beamline"], end), cluster_address=cluster_address), end=""
    )
