"""A process that did not get its port begins once more, with what it has learned in between."""

from beamcast.members.setup import again

COMMAND = ["python", "-m", "beamcast.members.rank", "--run-dir", "/r", "--generation=0", "--rank", "1"]


def test_the_same_command_with_its_generation() -> None:
    expected = ["python", "-m", "beamcast.members.rank", "--run-dir", "/r", "--rank", "1", "--generation=3"]
    assert again(COMMAND, generation=3) == expected


def test_an_understudy_does_not_wait_for_its_cue_twice() -> None:
    words = again([*COMMAND, "--understudy", "7", "--generation", "2"], generation=5)
    assert "--understudy" not in words
    assert "7" not in words
    assert words[-1] == "--generation=5"
    assert sum(word.startswith("--generation") for word in words) == 1
