"""For all tests: how hypothesis judges slowness on machines that also do other things."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("beamcast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("beamcast")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden`: write what is produced over the files that it is compared with; then look at `git diff`."""
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written anew."""
    return bool(request.config.getoption("--update-golden"))
