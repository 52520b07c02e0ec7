"""Settings of the whole suite."""

from hypothesis import HealthCheck, settings

# Machines that run tests are busy: how long an example takes says nothing about the code. The same examples each time,
# so that a failure is of the change at hand; `make test-properties` looks for new ones.
settings.register_profile("weft", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=2000, suppress_health_check=list(HealthCheck))
settings.load_profile("weft")
