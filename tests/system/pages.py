"""Doing what a page says, to the letter: its files are written, its commands typed, and its promises compared.

How a page is read:

* `sh` blocks are typed into a shell, one block after the other, in the same folder and environment.
* `python` and `toml` blocks become files where the words before them name one, as in "Write `bright.py`:".
* a `text` block is what the commands before it print: each of its lines, in this order, others may stand between.
  Figures with a point, dates and ports may be any figures, whole numbers have to be right, `…` stands for anything.
  Where it begins with "error:" the command fails, otherwise it ends well.
* a block under `<!-- checkout -->` or `<!-- wheel -->` is for those alone who begin with one.
* a block under `<!-- second terminal -->` is typed while the command before it runs on.
"""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Beginning = Literal["checkout", "wheel"]
REPOSITORY_WORDS = "<this repository>"  # the one thing that a reader fills in
SECOND_TERMINAL = "second terminal"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"`([\w.-]+\.(?:py|toml))`")
_FIGURE = re.compile(r"\d+(?:[.:-]\d+)+")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a page: its language, its text, what it is marked with, and the words before it."""

    language: str
    text: str
    mark: str
    before: str

    @property
    def file(self) -> str | None:
        """The file that it becomes; None for one that is only looked at."""
        named = _NAMED.findall(self.before)
        return named[-1] if named and self.language in ("python", "toml") else None


def blocks(page: str) -> list[Block]:
    """All blocks of a page, in order."""
    found, end = [], 0
    for fence in _FENCE.finditer(page):
        before = page[end : fence.start()].rstrip()
        mark = re.search(r"<!-- (.*?) -->$", before)
        words = before[: mark.start()].rstrip() if mark else before
        paragraph = words.rsplit("\n\n", 1)[-1]
        found.append(Block(fence[1], fence[2], mark[1] if mark else "", paragraph))
        end = fence.end()
    return found


def unkept(promise: str, printed: str) -> str | None:
    """The first line of a promise that was not printed after those before it; None when all were."""
    lines = iter(printed.splitlines())
    for promised in promise.strip().splitlines():
        pattern = re.compile(_pattern(promised))
        if not any(pattern.fullmatch(line.strip()) for line in lines):
            return promised
    return None


def _pattern(promised: str) -> str:
    words = []
    for word in promised.split():
        parts = [re.escape(part) for part in _FIGURE.split(word)]
        figures = r"\d+(?:[.:-]\d+)+".join(parts)
        words.append(figures.replace("…", ".*"))
    return r"\s+".join(words)


@dataclass
class Reader:
    """Somebody who types what a page says. `folder` is where they begin, `become` makes them an ordinary user."""

    folder: Path
    beginning: Beginning
    repository: Path
    environment: Mapping[str, str]
    become: list[str]
    timeout_s: float = 240
    _here: Path = field(init=False)
    _state: Path = field(init=False)
    _last: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self._here = self.folder
        self._state = self.folder.parent / f"{self.folder.name}.state"

    def read(self, page: Path) -> None:
        """Do all that it says; AssertionError where it does not come as it says."""
        mine = [one for one in blocks(page.read_text()) if one.mark in ("", self.beginning, SECOND_TERMINAL)]
        for number, block in enumerate(mine):
            match block.language:
                case "sh":
                    promised = mine[number + 1] if number + 1 < len(mine) else None
                    fails = promised is not None and promised.text.startswith("error:")
                    self.type(block.text, fails=fails)
                case "text":
                    missing = unkept(block.text, self._last)
                    assert missing is None, f"{page.name} promises {missing!r}:\n{self._last[-6000:]}"
                case "python" | "toml":
                    if block.file is not None:
                        self._write(self._here / block.file, block.text)
                case "":
                    pass  # a picture of characters
                case _:
                    raise AssertionError(
                        f"{page.name}: nobody knows what to do with a block of {block.language}"
                    )

    def type(self, commands: str, *, fails: bool = False) -> str:
        """Type commands where the ones before have led; what they print."""
        self._last = self._shell(
            commands.replace(REPOSITORY_WORDS, shlex.quote(str(self.repository))), fails=fails
        )
        return self._last

    def _shell(self, commands: str, *, fails: bool) -> str:
        state = shlex.quote(str(self._state))
        keep = f"{{ export -p; printf 'cd %q\\n' \"$PWD\"; }} > {state}"
        script = f"[ -e {state} ] && . {state}\nset -e\n{commands}\n{keep}\n"
        typing = subprocess.Popen(
            [*self.become, "bash", "-c", script],
            cwd=self.folder,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = typing.communicate(timeout=self.timeout_s)
        except BaseException:
            os.killpg(typing.pid, signal.SIGKILL)
            typing.communicate()
            raise
        assert (typing.returncode != 0) == fails, f"status {typing.returncode}: {commands}\n{printed[-6000:]}"
        if self._state.exists():
            self._here = Path(shlex.split(self._state.read_text().splitlines()[-1])[1])
        return printed

    def _write(self, file: Path, text: str) -> None:
        """As themselves: the file is theirs."""
        command = [*self.become, "tee", str(file)]
        subprocess.run(command, input=text, text=True, stdout=subprocess.DEVNULL, check=True, cwd=self.folder)
