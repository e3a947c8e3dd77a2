"""All tables, one after the other. A benchmark that needs minutes says so in its own docstring."""

from . import codec, deployment, fusion, memory, round, sites, training, weighting

if __name__ == "__main__":
    for part in (fusion, weighting, codec, memory, sites, training, round, deployment):
        part.main([])
