"""`beamcast sites`, `schema` and `version`: what is here, without starting anything."""

import enum
import json
import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Annotated

import typer

import beamcast
from beamcast.config.load import load_site
from beamcast.config.schema import site_schema, workflow_schema
from beamcast.config.sites import shipped_sites


class Model(enum.StrEnum):
    """The two kinds of file."""

    WORKFLOW = "workflow"
    SITE = "site"


def sites() -> None:
    """List the shipped sites."""
    names = shipped_sites()
    width = max(map(len, names), default=0)
    for name in names:
        print(f"{name:{width}}  {load_site(name).description}")


def schema(model: Annotated[Model, typer.Argument(help="Which file's schema.")]) -> None:
    """Print the JSON schema of workflow or site files, for editors."""
    print(json.dumps(workflow_schema() if model is Model.WORKFLOW else site_schema(), indent=2))


def version() -> None:
    """Print the versions that matter in a report of a problem."""
    print(f"beamcast {beamcast.__version__}")
    print(f"python {platform.python_version()}")
    for package in ("pvapy", "parsl", "mpi4py"):
        try:
            print(f"{package} {installed(package)}")
        except PackageNotFoundError:
            print(f"{package} is not installed")
