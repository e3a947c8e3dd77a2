"""The mask exchange as one writes it first in Flower; `benchmarks.deployment` measures it beside ours."""
