"""A study: one TOML file that describes a whole run."""

from nakt_fed.study.study import FederatedStudy, Study

__all__ = ["FederatedStudy", "Study"]
