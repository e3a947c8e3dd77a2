"""benchmarks.fedavg on a tiny study through Flower's simulation, against the average by hand."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import fedavg
from benchmarks.averaging.server.app import rate
from benchmarks.averaging.sites.app import local_recipe
from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.errors import RunError
from nakt_fed.recipe import Recipe
from nakt_fed.seeds import draw
from nakt_fed.site_data import private_data
from nakt_fed.study import Study
from nakt_fed.study.file import load_study
from nakt_fed.teacher import fresh_network
from nakt_fed.train import fit

STUDY = """
[study]
name = "tiny"
seed = 3
image_size = 32
[transferal]
images = ["transferal/images"]
[student]
network = "unet"
width = 4
[[site]]
name = "one"
images = "one/images"
masks = "one/masks"
test_share = 0.25
teacher = { network = "unet", width = 4 }
[[site]]
name = "two"
images = "two/images"
masks = "two/masks"
test_share = 0.25
teacher = { network = "unet", width = 4, augment = "flip" }
[resources]
site_threads = 1
student_threads = 1
sites_at_once = 2
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    for seed, (name, count) in enumerate({"one": 12, "two": 20, "transferal": 4}.items()):
        write_folder(synthetic_set(count, 32, seed), tmp_path / name)
    (tmp_path / "study.toml").write_text(STUDY)
    return load_study(tmp_path / "study.toml")


def test_the_rate_falls_over_the_rounds_as_the_study_says() -> None:
    falling = [rate(Recipe(learning_rate=1.0, schedule="cosine"), number, 4) for number in range(1, 5)]
    assert falling == sorted(falling, reverse=True)
    assert (falling[0], round(falling[2], 9)) == (1.0, 0.5)
    assert rate(Recipe(learning_rate=1.0, schedule="constant"), 4, 4) == 1.0


def results(study: Study, run: Path, **changes: object) -> Path:
    """A finished run of the study, as far as it is read."""
    settings = study.model_dump(mode="json")
    settings["study"] |= changes
    dice = {"student": {"one": {"mean": 0.75}, "two": {"mean": 0.5}}}
    run.mkdir()
    told = {"settings": settings, "dice": dice, "bytes": {"out": 10, "back": 90}}
    (run / "results.json").write_text(json.dumps(told))
    return run


def test_the_table_has_both_and_the_ratio_of_their_bytes(study: Study, tmp_path: Path) -> None:
    found = fedavg.results_of(study, results(study, tmp_path / "run"))
    text = fedavg.table({"one": 0.5, "two": 0.7}, {"sent": 2000, "received": 3000}, found)
    assert "| one | 50.0 | 75.0 |" in text
    assert "| mean | 60.0 | 62.5 |" in text
    assert "ratio 50.0" in text


def test_a_run_of_another_seed_is_not_compared(study: Study, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--seed"):
        fedavg.results_of(study, results(study, tmp_path / "run", seed=4))
    with pytest.raises(RunError, match=r"no results\.json"):
        fedavg.results_of(study, tmp_path)


def by_hand(study: Study, folder: Path) -> dict[str, torch.Tensor]:
    """One round of one epoch: each site trains the same first weights, and counts by its number of pictures."""
    torch.set_num_threads(1)
    states, counts = [], []
    for site in study.site:
        data = private_data(site, 32, 3)
        model = fresh_network(study.student.spec(), draw(3, "student"))
        recipe = local_recipe(study, site, 1, study.student.learning_rate)
        fit(model, data.train, recipe, folder=folder / site.name, seed=draw(3, "fedavg", site.name, 1))
        states.append(model.state_dict())
        counts.append(len(data.train))
    return {
        name: sum(n * s[name].double() for n, s in zip(counts, states, strict=True)) / sum(counts) for name in states[0]
    }  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.soak
def test_one_round_through_flower_is_the_average_by_hand(study: Study, tmp_path: Path) -> None:
    expected = by_hand(study, tmp_path / "by-hand")
    moved = fedavg.averaged(study, tmp_path / "run", rounds=1, epochs=1)
    model, _ = load_checkpoint(tmp_path / "run" / "fedavg.safetensors", expect=study.student.spec())
    floats = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    for name, tensor in floats.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6, msg=name)
    weights = sum(tensor.nbytes for tensor in floats.values())
    assert weights < moved["sent"] / 2 < 1.5 * weights  # of each of two sites; a small network's headers count
    assert moved["sent"] == moved["received"]
    assert set(fedavg.scores(study, tmp_path / "run")) == {"one", "two"}
