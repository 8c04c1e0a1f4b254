"""What of `make conformance` is quick and has failed before; the whole of it takes some minutes."""

from pathlib import Path

import pytest

from conformance.trial import play, structure_named
from conformance.variants import QUICK

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
# Each with the other server, the other delivery.
KINDS = {QUICK[0]: ("pvxs", "at-least-once"), QUICK[1]: ("pvxs", "at-most-once")}


@pytest.mark.parametrize("name", QUICK)
def test_every_variant_of_a_structure_comes_out_as_it_was_sent(name: str, tmp_path: Path) -> None:
    """C11, item 7: to the processor, and to clients of pvaccess and pvxs, bit by bit."""
    server, delivery = KINDS[name]
    rows = play(structure_named(name), server=server, delivery=delivery, folder=tmp_path / "a folder")
    assert rows
    assert not [row for row in rows if not row.good]
