"""Doing what a page says, to the letter: its files are written, its commands typed, and its promises compared.

How a page is read:

* `sh` blocks are typed into a shell, one block after the other, in the same folder and environment.
* `python` and `toml` blocks become files where the words before them name one, as in "Write `bright.py`:".
* a `text` block is what the commands before it print: each of its lines, in this order, others may stand between.
  Figures with a point, dates and ports may be any figures, whole numbers have to be right, `…` stands for anything.
  Where it begins with "error:" the command fails, otherwise it ends well.
* a block under `<!-- checkout -->` or `<!-- wheel -->` is for those alone who begin with one.
* a block under `<!-- second terminal -->` is typed elsewhere while the commands before it run, once these have printed
  something; a `text` block under it is what it prints. What stands after it is of the first terminal again.
"""

import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
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


class Typing:
    """Commands that a shell is doing."""

    def __init__(
        self, commands: str, words: list[str], folder: Path, environment: Mapping[str, str], timeout_s: float
    ) -> None:
        self._commands, self._deadline = commands, time.monotonic() + timeout_s
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed at the end of the commands
        self._shell = subprocess.Popen(
            words,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_until_it_prints(self) -> None:
        """Wait until somebody would see that it does something."""
        while self._shell.poll() is None and not self._printed():
            assert time.monotonic() < self._deadline, f"nothing is printed by {self._commands}"
            time.sleep(0.1)

    def end(self, *, fails: bool) -> str:
        """Wait for its end; what it printed. AssertionError where the status is not as promised, or nothing ends."""
        status: int | None = None
        with suppress(subprocess.TimeoutExpired):
            status = self._shell.wait(max(0.0, self._deadline - time.monotonic()))
        printed = self._printed()
        self.close()
        assert status is not None, f"no end of {self._commands}\n{printed[-6000:]}"
        assert (status != 0) == fails, f"status {status}: {self._commands}\n{printed[-6000:]}"
        return printed

    def close(self) -> None:
        """End them at once, where they have not ended."""
        if self._shell.poll() is None:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait()
        self._output.close()

    def _printed(self) -> str:
        return os.pread(self._output.fileno(), 2**24, 0).decode(errors="replace")


@dataclass
class Reader:
    """Somebody who types what a page says. `folder` is where they begin, `become` makes them an ordinary user."""

    folder: Path
    beginning: Beginning
    repository: Path
    environment: Mapping[str, str]
    become: list[str]
    timeout_s: float = 400
    _here: Path = field(init=False)
    _state: Path = field(init=False)

    def __post_init__(self) -> None:
        self._here = self.folder
        self._state = self.folder.parent / f"{self.folder.name}.state"

    def read(self, page: Path) -> None:
        """Do all that it says; AssertionError where it does not come as it says."""
        mine = [one for one in blocks(page.read_text()) if one.mark in ("", self.beginning, SECOND_TERMINAL)]
        running: Typing | None = None
        printed = {"": "", SECOND_TERMINAL: ""}
        try:
            for block, following in zip(mine, [*mine[1:], Block("", "", "", "")], strict=True):
                terminal = SECOND_TERMINAL if block.mark == SECOND_TERMINAL else ""
                if running is not None and not terminal:
                    printed[""], running = running.end(fails=False), None
                if (
                    block.language == "sh"
                    and following.language == "sh"
                    and following.mark == SECOND_TERMINAL
                ):
                    running = self._start(block.text, keeps=True)
                    running.wait_until_it_prints()
                elif block.language == "sh":
                    fails = following.language == "text" and following.text.startswith("error:")
                    printed[terminal] = self._type(block.text, keeps=not terminal, fails=fails)
                elif block.language == "text":
                    missing = unkept(block.text, printed[terminal])
                    assert missing is None, f"{page.name} promises {missing!r}:\n{printed[terminal][-6000:]}"
                elif block.file is not None:
                    self._write(self._here / block.file, block.text)
                else:
                    # A drawing, or a file that is only looked at.
                    assert block.language in ("", "python", "toml"), (
                        f"{page.name}: a block of {block.language}"
                    )
        finally:
            if running is not None:
                running.close()

    def type(self, commands: str) -> str:
        """Type commands where the ones before have led; what they print."""
        return self._type(commands, keeps=True, fails=False)

    def _type(self, commands: str, *, keeps: bool, fails: bool) -> str:
        printed = self._start(commands, keeps=keeps).end(fails=fails)
        if self._state.exists():
            self._here = Path(shlex.split(self._state.read_text().splitlines()[-1])[1])
        return printed

    def _start(self, commands: str, *, keeps: bool) -> "Typing":
        """Type into a shell: the one that is there (`keeps`), or another one, in the same folder."""
        commands = commands.replace(REPOSITORY_WORDS, shlex.quote(str(self.repository)))
        state = shlex.quote(str(self._state))
        before = f"[ -e {state} ] && . {state}\n" if keeps else ""
        after = f"{{ export -p; printf 'cd %q\\n' \"$PWD\"; }} > {state}\n" if keeps else ""
        words = [*self.become, "bash", "-c", f"{before}set -e\n{commands}\n{after}"]
        return Typing(commands, words, self.folder if keeps else self._here, self.environment, self.timeout_s)

    def _write(self, file: Path, text: str) -> None:
        """As themselves: the file is theirs."""
        command = [*self.become, "tee", str(file)]
        subprocess.run(command, input=text, text=True, stdout=subprocess.DEVNULL, check=True, cwd=self.folder)
