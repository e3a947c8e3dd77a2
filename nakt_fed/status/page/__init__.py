"""A read-only page that shows how far a run is, to people without a terminal: `nakt status --web`."""

from nakt_fed.status.page.serve import serve

__all__ = ["serve"]
