"""`beamcast keys`, and the rules for key files in workflows."""

import stat
from pathlib import Path

import pytest

from beamcast.cli.main import call
from beamcast.config.check_keys import key_files_exist, sealing_fits
from beamcast.config.workflow import Pool, Source, Workflow
from beamcast.security.keys import KeyRing


def workflow(**more: object) -> Workflow:
    one = Pool(name="a", role="consumer", input="source", **more)  # type: ignore[arg-type]
    return Workflow(name="w", source=Source(channel="x"), pools=(one,))


def test_create_makes_a_file_for_its_owner_and_show_tells_it_apart_without_showing_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "with space" / "stream.keys"
    file.parent.mkdir()
    assert call(["keys", "create", str(file)]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    created = capsys.readouterr().out
    assert call(["keys", "show", str(file)]) == 0
    assert capsys.readouterr().out == created
    ring = KeyRing.read(file)
    assert created == f"{ring.current.id.hex()}  {ring.current.fingerprint}  seals and opens\n"
    assert ring.current.secret.hex() not in created
    assert ring.current.fingerprint != KeyRing.create().current.fingerprint


def test_rotate_keeps_what_still_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "stream.keys"
    KeyRing.create().write(file)
    before = KeyRing.read(file).current
    assert call(["keys", "rotate", str(file)]) == 0
    ring = KeyRing.read(file)
    assert ring.current.id != before.id
    assert ring.find(before.id) == before
    assert [line.split("  ")[2] for line in capsys.readouterr().out.splitlines()] == [
        "seals and opens",
        "opens",
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nothing_is_overwritten_and_loose_permissions_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "stream.keys"
    KeyRing.create().write(file)
    text = file.read_text()
    assert call(["keys", "create", str(file)]) == 2
    assert "is there already. give another name" in capsys.readouterr().err.replace("Give", "give")
    assert file.read_text() == text
    file.chmod(0o640)
    for command in ("show", "rotate"):
        assert call(["keys", command, str(file)]) == 2
        assert "mode 640" in capsys.readouterr().err


def test_a_workflow_is_told_of_a_missing_or_open_key_file_before_anything_starts(tmp_path: Path) -> None:
    made = workflow(seal="stream.keys", open="stream.keys")
    missing = list(key_files_exist(made, tmp_path))
    assert [problem.where for problem in missing] == ["pools[0].open", "pools[0].seal"]
    assert "beamcast keys create" in missing[0].hint
    KeyRing.create().write(tmp_path / "stream.keys")
    assert not list(key_files_exist(made, tmp_path))
    (tmp_path / "stream.keys").chmod(0o644)
    assert "chmod 600" in next(key_files_exist(made, tmp_path)).hint


def test_what_can_not_be_sealed_or_opened_is_said() -> None:
    assert not list(sealing_fits(workflow(seal="k", open="k")))
    [problem] = sealing_fits(workflow(seal="k", output_id_field="number"))
    assert problem.message == "sealed objects are numbered by 'uniqueId', not by 'number'"
    [problem] = sealing_fits(workflow(open="k", batch=4))
    assert "can't be stacked" in problem.message
