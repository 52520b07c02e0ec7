"""Engine profiles as YAML, each with the source of its figures; see ``sim.engine.profile``."""
