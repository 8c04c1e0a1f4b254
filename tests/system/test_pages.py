"""README, tutorial and the examples' pages, done to the letter by an ordinary user, from a checkout and wheel (P11).

A checkout is cloned and a wheel installed in an empty folder with a space in its path; the user has a home.
Where the tests run as root the user is nobody, otherwise whoever runs them.
"""

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import pytest
from launching import ordinary_user
from pages import Beginning, Reader
from requirements import REPOSITORY, required
from traces import marked, processes_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
TUTORIAL = REPOSITORY / "docs" / "tutorials" / "first-stream.md"
README = REPOSITORY / "README.md"
EXAMPLES = sorted(path.parent.name for path in (REPOSITORY / "examples").glob("*/workflow.toml"))
# What is not the author's: installed, built, or written by runs.
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", "runs", "dist", "build", "frames", "__pycache__", ".*_cache", ".hypothesis"
)


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    """A folder that everybody may read; pytest's own are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="beamcast pages "))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def repository(public: Path) -> Path:
    """What is cloned: the files as they are here, committed."""
    folder = public / "repository.git"
    shutil.copytree(REPOSITORY, folder, ignore=NOT_SOURCE)
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for words in (
        ["init", "--quiet"],
        ["add", "--all"],
        [*who, "commit", "--quiet", "--message", "as it is"],
    ):
        subprocess.run(["git", *words], cwd=folder, check=True, timeout=60)
    # It is the user's own: git refuses to clone what another one owns.
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user_id(), -1)
    return folder


@pytest.fixture(scope="module")
def wheel(public: Path, repository: Path) -> Path:
    """The wheel of this tree."""
    words = [sys.executable, "-m", "build", "--wheel", "--outdir", str(public / "dist"), str(repository)]
    subprocess.run(words, check=True, capture_output=True, timeout=240)
    (made,) = (public / "dist").glob("*.whl")
    return made


def user_id() -> int:
    """Who reads the pages."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()


@cache
def interpreters() -> Path:
    """The folder of a Python that this user may run: the tests' own may lie in root's home."""
    enough = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    for folder in (Path(sys.base_prefix) / "bin", Path("/usr/local/bin"), Path("/usr/bin")):
        words = [*ordinary_user(powers=""), str(folder / "python3"), "-c", enough]
        if (folder / "python3").exists() and subprocess.run(
            words, capture_output=True, check=False
        ).returncode == 0:
            return folder
    reason = "an ordinary user has no Python 3.11 or newer with venv here"
    if required():
        pytest.fail(reason)  # where components are demanded, this one is too
    pytest.skip(reason)


def reader(public: Path, repository: Path, name: str, beginning: Beginning) -> Reader:
    """An ordinary user with a home, in an empty folder of their own."""
    home = public / name
    folder = home / "my streams"
    folder.mkdir(parents=True)
    for path in (home, folder):
        os.chown(path, user_id(), -1)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    environment = {
        **kept,
        **marked(home),
        "PATH": f"{interpreters()}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "USER": "nobody",
        "LOGNAME": "nobody",
        "PIP_NO_COMPILE": "1",  # what is imported is compiled then; all of it costs half a minute
    }
    return Reader(folder, beginning, repository, environment, ordinary_user(powers=""))


def beginning(public: Path, repository: Path, request: pytest.FixtureRequest, how: Beginning) -> Reader:
    """Somebody in an empty folder, with the wheel where that is what they have."""
    # No brackets: hdf5plugin looks for its filters with a pattern, and finds none in such a folder.
    made = reader(public, repository, f"{request.node.originalname} {how}", how)
    if how == "wheel":
        shutil.copy(request.getfixturevalue("wheel"), made.folder)
    return made


HONEST = """
Write `a.toml`:

```toml
x = 1
```

```sh
cd .. && cd "$OLDPWD" && echo "$(cat a.toml), 3.5 s" && echo done
```

```text
x = 1, 1.25 s
d…e
```

```sh
sleep 1 && echo first
```

<!-- second terminal -->
```sh
echo second
```

<!-- second terminal -->
```text
second
```

```text
first
```

```sh
echo error: no such thing; false
```

```text
error: no such …
```
"""


@pytest.mark.parametrize(
    ("said", "instead", "found"),
    [
        ("", "", None),
        ("x = 1, 1.25 s", "x = 2, 1.25 s", "promises 'x = 2, 1.25 s'"),
        ("```text\nsecond", "```text\nfirst", "promises 'first'"),
        ("; false", "", "status 0"),
        ("echo second", "nonsense", "status 127"),
        ("```text\nx", "```json\nx", "a block of json"),
    ],
)
def test_what_is_not_true_is_found(said: str, instead: str, found: str | None, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(HONEST.replace(said, instead, 1))
    folder = tmp_path / "here"
    folder.mkdir()
    user = Reader(folder, "wheel", tmp_path, dict(os.environ), [], timeout_s=60)
    with nullcontext() if found is None else pytest.raises(AssertionError, match=re.escape(found)):
        user.read(page)


@pytest.mark.parametrize("how", ["wheel", pytest.param("checkout", marks=pytest.mark.slow)])
def test_the_tutorial_is_true(
    public: Path, repository: Path, request: pytest.FixtureRequest, how: Beginning
) -> None:
    user = beginning(public, repository, request, how)
    user.read(TUTORIAL)
    where = user.type("python -c 'import beamcast; print(beamcast.__file__)'")
    assert str(user.folder) in where, "beamcast came from elsewhere"
    assert processes_of(user.folder.parent) == []


@pytest.mark.parametrize("how", ["checkout", pytest.param("wheel", marks=pytest.mark.slow)])
def test_the_readme_is_true(
    public: Path, repository: Path, request: pytest.FixtureRequest, how: Beginning
) -> None:
    user = beginning(public, repository, request, how)
    user.read(README)
    assert processes_of(user.folder.parent) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("how", ["checkout", "wheel"])
def test_the_pages_of_the_examples_are_true(
    public: Path, repository: Path, request: pytest.FixtureRequest, how: Beginning
) -> None:
    user = beginning(public, repository, request, how)
    if how == "checkout":
        user.type(
            "git clone --quiet <this repository> beamcast && cd beamcast && make install && . .venv/bin/activate"
        )
    else:
        user.type("python3 -m venv .venv && . .venv/bin/activate && pip install --quiet ./beamcast-*.whl")
        user.type("beamcast examples examples")
    for example in EXAMPLES:
        user.read(REPOSITORY / "examples" / example / "README.md")
    assert processes_of(user.folder.parent) == []
