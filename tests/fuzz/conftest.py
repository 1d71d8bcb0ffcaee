"""How many inputs each property is tried with: few of the same ones by default, thousands of new ones by `make test-fuzz`."""

from hypothesis import HealthCheck, settings

COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

settings.register_profile("quick", max_examples=10, derandomize=True, **COMMON)
settings.register_profile("fuzz", max_examples=1000, **COMMON)
settings.load_profile("quick")  # --hypothesis-profile=fuzz goes before it
