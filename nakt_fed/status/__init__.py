"""How far a run is, from its folder alone: the reader, what it tells, the words for it, a page."""
