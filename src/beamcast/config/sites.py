"""Finding site files, shipped ones by name and others by path, and laying them over what they extend."""

from importlib.resources import files
from pathlib import Path

from beamcast.config.patch import merged
from beamcast.config.read import read_toml
from beamcast.config.words import nearest, shown
from beamcast.core.errors import ConfigError

EXTENDS = "extends"


def shipped_sites() -> dict[str, Path]:
    """Return the shipped site files by name: those in the wheel, or `site-configs/` of a checkout."""
    package = Path(str(files("beamcast")))  # wheels are unpacked when they are installed: a real folder
    return {path.stem: path for path in sorted(site_folder(package).glob("*.toml"))}


def find_site(name_or_path: str | Path) -> Path:
    """Return the file of a shipped site's name, or the path; ConfigError, with the nearest name, for neither.

    A name has no folder and no `.toml`; write `./local` for a file of that name in the current folder.
    """
    text = str(name_or_path)
    if _is_name(text) and text in shipped_sites():
        return shipped_sites()[text]
    path = Path(name_or_path)
    if not path.is_file() and _is_name(text):
        hint = (
            f"{nearest(text, shipped_sites())} A file of your own is named by its path, such as my-site.toml"
        )
        raise ConfigError(f"unknown site {shown(text)}", hint=hint)
    return path


def site_tree(path: Path) -> dict[str, object]:
    """Return the tree of a site file over that of the site it extends, and so on; `extends` is consumed.

    Raises ConfigError for files that can't be read and for files that extend each other in a circle.
    """
    return _site_tree(path, ())


def _site_tree(path: Path, above: tuple[Path, ...]) -> dict[str, object]:
    here = path.resolve()
    if here in above:
        circle = " -> ".join(file.name for file in (*above[above.index(here) :], here))
        raise ConfigError(f"sites extend each other in a circle: {circle}", where=f"{path}: {EXTENDS}")
    tree = read_toml(path)
    if EXTENDS not in tree:
        return tree
    base = _base(path, tree.pop(EXTENDS))
    return merged(_site_tree(base, (*above, here)), tree)


def _base(path: Path, given: object) -> Path:
    where = f"{path}: {EXTENDS}"
    if not isinstance(given, str) or not given:
        raise ConfigError(f"expected the name or path of a site, got {shown(given)}", where=where)
    if _is_name(given) and given in shipped_sites():
        return shipped_sites()[given]
    base = path.parent / given
    if not base.is_file():
        raise ConfigError(f"unknown site {shown(given)}", where=where, hint=nearest(given, shipped_sites()))
    return base


def _is_name(text: str) -> bool:
    return "/" not in text and not text.endswith(".toml")


def site_folder(package: Path) -> Path:
    """Return the folder of the shipped site files of an installed package, or of `src/beamcast`."""
    shipped = package / "site_configs"
    return shipped if shipped.is_dir() else package.parents[1] / "site-configs"
