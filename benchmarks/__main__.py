"""All tables, one after the other. A benchmark that needs minutes says so in its own docstring."""

from . import codec, fusion, memory, round, sites, training

if __name__ == "__main__":
    for part in (fusion, codec, memory, sites, training, round):
        part.main([])
