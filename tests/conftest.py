"""For all tests: how hypothesis judges slowness on machines that also do other things."""

from hypothesis import HealthCheck, settings

settings.register_profile("beamcast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("beamcast")
