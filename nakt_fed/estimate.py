"""How long a study will take here: one batch of each network is timed, the rest is multiplication."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from nakt_fed.cores import cores
from nakt_fed.losses import dice_bce
from nakt_fed.precision import half_type, layout
from nakt_fed.predict import normalise, soft_masks, to_input
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.study import Study
from nakt_fed.study.summary import StudySummary
from nakt_fed.teacher import fresh_network

START_SECONDS = 35
"""Flower's simulation and Ray Train, measured together on two cores."""


def estimate_seconds(study: Study, summary: StudySummary) -> dict[str, float]:
    """Seconds per stage on this machine; the sites share it, `sites_at_once` at a time."""
    size, resources = study.study.image_size, study.resources
    sites = [pair for pair in zip(study.site, summary.sites, strict=True) if pair[0].name not in summary.faults]
    at_once = min(resources.sites_at_once, len(sites), max(1, cores() // resources.site_threads))
    torch.set_num_threads(resources.site_threads)
    teachers = sum(
        _training(site.teacher.spec(), site.teacher.recipe(), size, counts.train)
        for site, counts in sites
        if not counts.checkpoint
    )
    questions = summary.pictures + sum(summary.tests.values())
    answers = sum(_answer(site.teacher.spec(), size) * questions for site, _ in sites)
    torch.set_num_threads(resources.student_threads)
    student = _training(study.student.spec(), study.student.recipe(), size, summary.pictures)
    count = summary.fine_tune + (sum(site.train for _, site in sites) / at_once if study.tunes_at_sites else 0)
    few = _training(study.student.spec(), study.fine_tune.recipe(), size, count) if study.fine_tune else 0.0
    stages = {
        "start of Flower and Ray": float(START_SECONDS),
        "teachers": teachers / at_once,
        "masks": answers / at_once,
        "student": student,
        "fine-tuning": few,
    }
    return {name: seconds for name, seconds in stages.items() if seconds}


def _training(spec: NetworkSpec, recipe: Recipe, size: int, pictures: float) -> float:
    """Seconds of a whole training, if every picture is kept."""
    cpu = torch.device("cpu")
    half = half_type(recipe.precision, cpu)
    model = fresh_network(spec, 0).train().to(memory_format=layout(cpu, half))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    images = normalise(to_input(np.zeros((min(recipe.batch_size, math.ceil(pictures)), size, size), np.uint8)))
    batch = images if len(images) > 1 else images.repeat(2, 1, 1, 1)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=half, enabled=half is not None):
            loss = dice_bce(model(batch), torch.zeros_like(batch).expand(-1, spec.classes, -1, -1))
        loss.backward()
        optimizer.step()

    return _timed(step) / len(batch) * pictures * recipe.epochs


def _answer(spec: NetworkSpec, size: int) -> float:
    """Seconds per picture."""
    model = fresh_network(spec, 0).eval()
    pictures = np.zeros((8, size, size), np.uint8)
    return _timed(lambda: soft_masks(model, pictures, classes=spec.classes)) / len(pictures)


def _timed(work: Callable[[], object], least: float = 0.5) -> float:
    """Seconds per call, after one call to warm up."""
    work()
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < least:
        work()
        calls += 1
    return (time.perf_counter() - began) / calls
