"""From one federation file to the kits of a deployment: keys, certificates and files for each. Start reading in `kits.py`."""
