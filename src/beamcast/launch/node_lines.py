"""The shell lines that prepare a node, from a site: proxies, variables, modules, and the user's own last. Pure."""

import shlex

from beamcast.config.site import Site


def node_preparation(site: Site) -> str:
    """Return the lines, in the order in which they depend on each other; empty where the site asks for nothing."""
    allocation = site.allocation
    variables = {**site.network.proxy, **allocation.environment}
    lines = [f"export {name}={_quoted(value)}" for name, value in variables.items()]
    lines += [f"module load {shlex.quote(module)}" for module in allocation.modules]
    own = allocation.worker_init.strip("\n")
    return "\n".join([*lines, *([own] if own else [])])


def _quoted(value: str) -> str:
    """A value for the shell that keeps `$NAME`: a site writes $HOME and $PATH and means the node's."""
    for character in ("\\", '"', "`"):
        value = value.replace(character, "\\" + character)
    return f'"{value.replace("$(", chr(92) + "$(")}"'
