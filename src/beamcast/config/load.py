"""Reading workflow and site files.

    load_workflow("workflow.toml", overrides=["pools.stats.ranks=4"])  -> LoadedWorkflow
    load_site("local-mpi")  or  load_site("my-site.toml")              -> Site

Both report everything they can find wrong in one ConfigError. `load_workflow` reads and decodes; the rules
between the fields of a workflow are `beamcast.config.check.check_workflow`, which looks for files and so
belongs where the run starts, not on a node. The rules of a site need no files and are part of `load_site`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from beamcast.config.check_site import check_site
from beamcast.config.decode import decode
from beamcast.config.patch import apply_overrides
from beamcast.config.read import read_toml
from beamcast.config.site import Site
from beamcast.config.sites import find_site, site_tree
from beamcast.config.workflow import Workflow


@dataclass(frozen=True, slots=True)
class LoadedWorkflow:
    """A workflow with the file it came from; relative paths in it start at `base`, an absolute folder."""

    workflow: Workflow
    path: Path
    base: Path


def load_workflow(path: str | Path, *, overrides: Sequence[str] = ()) -> LoadedWorkflow:
    """Return the workflow of a TOML file, with `overrides` assigned; ConfigError if that fails."""
    path = Path(path)
    tree, origins = apply_overrides(read_toml(path), overrides)
    workflow = decode(Workflow, tree, file=str(path), origins=origins)
    return LoadedWorkflow(workflow=workflow, path=path, base=path.resolve().parent)


def load_site(name_or_path: str | Path, *, overrides: Sequence[str] = ()) -> Site:
    """Return a site by shipped name or by file, over those it extends; ConfigError if that fails."""
    path = find_site(name_or_path)
    tree, origins = apply_overrides(site_tree(path), overrides, option="--set-site")
    site = decode(Site, tree, file=str(path), origins=origins)
    check_site(site, file=str(path))
    return site
