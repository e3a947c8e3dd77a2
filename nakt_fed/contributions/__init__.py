"""What each site brought to a run, from its stored answers alone. Start in `gather.py`."""
