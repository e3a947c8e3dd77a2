"""Teachers that know different classes: each class is fused over the sites that know it, the student learns the union."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from rich.console import Console

from nakt_fed.answered import Combiners
from nakt_fed.checkpoint import load_checkpoint, save_checkpoint
from nakt_fed.classes import planes, union
from nakt_fed.cli.results import print_results
from nakt_fed.errors import CheckpointError, RunError, StudyError
from nakt_fed.filtering import read_filter
from nakt_fed.fusion import fixed_point, fuse, sharpen
from nakt_fed.manifest import Manifest
from nakt_fed.metrics import dice
from nakt_fed.parts import evaluate_folder, predict_folder
from nakt_fed.predict import soft_masks
from nakt_fed.replay.fuse import fuse_again
from nakt_fed.replay.stored import StoredRun
from nakt_fed.report import write_report
from nakt_fed.resume import write_study
from nakt_fed.run import Run, run_study
from nakt_fed.shared_set import SharedSet
from nakt_fed.site.site_file import SiteFile
from nakt_fed.store import open_group
from nakt_fed.student import train_student
from nakt_fed.study import Study
from nakt_fed.study.file import load_federated, parse_study
from nakt_fed.study.tables import FusionSpec
from nakt_fed.teacher import fresh_network, trained_teacher
from nakt_fed.weightings.check import refuse_combination
from nakt_fed.withdraw import study_without, withdraw
from simulation.sweep import cells_of, load_sweep
from tests.command import nakt
from tests.conftest import replace_report
from tests.nakt_fed.test_schemas import validator
from tests.tiny import UNET, Answer, Gray, Hospitals, bright, dark, hospitals, service_of, tiny_study

SITES: list[dict[str, Any]] = [
    {"name": "ann", "images": "ann/images", "masks": "ann/masks", "classes": ["lesion"], "teacher": UNET},
    {"name": "bob", "images": "bob/images", "masks": {"nodule": "bob/masks", "lesion": "bob/masks"}, "teacher": UNET},
    {
        "name": "few",
        "images": "few/images",
        "masks": {"nodule": "few/masks"},
        "teacher": {**UNET, "validation": 0},
        "test_share": 0.5,
    },
]
TEST = [{"name": "outside", "images": "outside/images", "masks": dict.fromkeys(("nodule", "lesion"), "outside/masks")}]


def two(pictures: Gray) -> Any:
    """bob's teacher: (n, 2, H, W), lesion and nodule."""
    return np.stack([bright(pictures[:, ::-1]), dark(pictures)], axis=1)


def half(pictures: Gray) -> Any:
    return dark(pictures) / 2


TEACHERS: dict[str, Answer] = {"ann": bright, "bob": two, "few": half}
"""What is bright is a lesion, what is dark a nodule: some pictures have both, some one and some none."""


def label_study(root: Path, **tables: Any) -> Study:
    wanted = {"site": SITES, "test": TEST, "transferal": {"views": 1}, "filter": {"min_target_pixels": 330 * 144}}
    return tiny_study(root, **{**wanted, "round": {"judge_student": True}, **tables})


def sites_of(study: Study, folder: Path) -> Hospitals:
    """ann and bob have eight private pictures, `few` has held out two."""
    services = {name: service_of(study, name, folder, TEACHERS[name]) for name in study.site_names}
    for service in services.values():
        service.min_evaluated = 8
    return Hospitals(services)


def carried_out(study: Study, folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_study(study, folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        replace_report(monkeypatch)
        run_study(study, folder, sites_of(study, folder), train_student)
    return folder


@pytest.fixture(scope="module")
def study(folders: Path) -> Study:
    return label_study(folders)


@pytest.fixture(scope="module")
def finished(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return carried_out(study, tmp_path_factory.mktemp("labels") / "run")


def stack(place: Path, name: str) -> np.ndarray:
    return np.asarray(open_group(place)[name][:])  # type: ignore[index]


def test_a_class_is_the_mean_of_the_sites_that_know_it(finished: Path) -> None:
    """By hand: lesions of ann and bob, nodules of bob and few, half each, rounded half up."""
    pictures = stack(finished / "pictures.zarr", "images")
    q = {name: np.rint(255 * np.asarray(teacher(pictures))).astype(np.int64) for name, teacher in TEACHERS.items()}
    lesion, nodule = (q["ann"] + q["bob"][:, 0] + 1) // 2, (q["bob"][:, 1] + q["few"] + 1) // 2
    np.testing.assert_array_equal(stack(finished / "classes/lesion/masks.zarr", "pseudo"), lesion)
    np.testing.assert_array_equal(stack(finished / "classes/nodule/masks.zarr", "pseudo"), nodule)


def test_the_student_learns_a_class_from_the_pictures_that_it_keeps(finished: Path, study: Study) -> None:
    kept = [[v.kept for v in read_filter(finished / "classes" / c / "filter.csv")] for c in study.classes]
    known = np.array(kept).T
    assert 0 < known.sum() < known.size
    stay = known.any(axis=1)
    assert stay.sum() < len(stay)
    pseudo = [stack(finished / "classes" / c / "masks.zarr", "pseudo") for c in study.classes]
    ids = Manifest.from_json((finished / "manifest.json").read_bytes()).ids
    group = open_group(finished / "pseudo.zarr")
    assert group.attrs["ids"] == [i for i, there in zip(ids, stay, strict=True) if there]
    np.testing.assert_array_equal(stack(finished / "pseudo.zarr", "known"), known[stay])
    learned = sharpen(np.stack(pseudo, axis=1)[stay], study.student.temperature)
    np.testing.assert_array_equal(stack(finished / "pseudo.zarr", "masks"), learned)


def test_everyone_is_judged_by_what_they_know(finished: Path, study: Study) -> None:
    results = json.loads((finished / "results.json").read_text())
    validator("results").validate(results)
    tests = {model: set(row) for model, row in results["dice"].items()}
    assert list(tests) == ["teacher:ann", "teacher:bob", "teacher:few", "ensemble", "student"]
    nodules = {"outside:nodule", "few:nodule"}
    assert tests["teacher:ann"] == {"outside:lesion"}
    assert tests["teacher:few"] == nodules
    assert tests["student"] == tests["ensemble"] == tests["teacher:bob"] == {"outside:lesion", *nodules}
    model, card = load_checkpoint(finished / "student.safetensors", expect=study.student.spec())
    assert card["provenance"]["classes"] == ["lesion", "nodule"]
    answer = soft_masks(model, stack(finished / "tests/outside/pictures.zarr", "images"), classes=2)
    for number, label in enumerate(study.classes):
        truth = stack(finished / "tests/outside/pictures.zarr", f"truth~{label}")
        values = dice(answer[:, number] > 127, truth > 127)
        assert results["dice"]["student"][f"outside:{label}"]["mean"] == pytest.approx(values.mean())


def test_the_sites_judge_the_student_by_what_they_know(finished: Path, folders: Path) -> None:
    """Each class is as if it were evaluated alone, with the student's output of that class."""
    told = json.loads((finished / "results.json").read_text())["at_sites"]
    assert list(told) == ["ann:lesion", "bob:lesion", "bob:nodule", "few"]
    assert told["few"] == {"refused": "too_few_images"}
    for name, label in (("ann", "lesion"), ("bob", "lesion"), ("bob", "nodule")):
        student = finished / "student.safetensors"
        rows = evaluate_folder(
            student, folders / name / "images", folders / name / "masks", label=label, distances=False
        )
        score = told[f"{name}:{label}"]
        assert score["n"] == len(rows["dice"]) == 8
        assert score["student"]["mean"] == pytest.approx(rows["dice"].mean(), abs=1e-4)
    assert told["bob:lesion"]["teacher"] != told["bob:nodule"]["teacher"]


def test_results_say_what_each_class_kept(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert results["classes"]["lesion"]["weights"] == {"ann": 0.5, "bob": 0.5}
    assert results["classes"]["nodule"]["weights"] == {"bob": 0.5, "few": 0.5}
    assert results["bytes"]["per_mask"] == pytest.approx(results["bytes"]["back"] / (4 * 19), rel=0.2)
    known = stack(finished / "pseudo.zarr", "known")
    assert [told["kept"] for told in results["classes"].values()] == known.sum(axis=0).tolist()
    assert results["transferal"]["kept"] == len(known)
    assert results["transferal"]["images"] == len(known) + sum(results["transferal"]["excluded"].values())


def test_the_terminal_shows_a_column_per_class_and_test_set(finished: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    print_results(finished, console)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    [row] = [line for line in told.splitlines() if line.startswith("teacher:ann")]
    assert row.count("–") == 3  # two test sets of nodules, and the mean
    assert "outside:lesion" in told
    assert "class nodule: " in told
    assert [line.split()[0] for line in told.splitlines() if line.startswith("bob:")] == ["bob:lesion", "bob:nodule"]


def test_the_report_has_a_part_per_class(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    page = write_report(folder).read_text(encoding="utf-8")
    assert page.count("<h3>Class lesion</h3>") == page.count("<h3>Class nodule</h3>") == 1
    assert "knows lesion, nodule" in page
    assert "lesion 0.500; nodule 0.500" in page
    assert "named after a site (few:nodule)" in page
    assert "<h3>outside:nodule</h3>" in page
    assert page.count('<th scope="row">bob:nodule</th>') == 1
    assert ": few/" not in page  # held out at a site: shown, never named


def test_the_order_of_sites_and_classes_changes_nothing(finished: Path, folders: Path, tmp_path: Path) -> None:
    turned = [{**site} for site in reversed(SITES)]
    turned[1]["masks"] = dict(reversed(turned[1]["masks"].items()))
    other = carried_out(label_study(folders, site=turned), tmp_path / "run")
    for label in ("lesion", "nodule"):
        ours, theirs = (place / "classes" / label / "filter.csv" for place in (other, finished))
        assert ours.read_bytes() == theirs.read_bytes()
    assert (other / "student.safetensors").read_bytes() == (finished / "student.safetensors").read_bytes()


def test_one_class_with_a_name_is_as_one_without(folders: Path, tmp_path: Path) -> None:
    """Whatever it is called at each site, in files and bytes."""
    plain = tiny_study(folders, transferal={"views": 1})
    sites = [{**site.model_dump(exclude={"classes"}), "classes": ["lesion"]} for site in plain.site]
    named = tiny_study(folders, transferal={"views": 1}, site=sites)
    assert named.classes == ("",)
    places = [tmp_path / name for name in ("plain", "named")]
    for study, place in zip((plain, named), places, strict=True):
        place.mkdir()
        with pytest.MonkeyPatch.context() as monkeypatch:
            replace_report(monkeypatch)
            run_study(study, place, hospitals(study, place), train_student)
    for name in ("filter.csv", "student.safetensors"):
        assert (places[0] / name).read_bytes() == (places[1] / name).read_bytes()
    assert sorted(p.name for p in places[0].iterdir()) == sorted(p.name for p in places[1].iterdir())
    assert sorted(open_group(places[1] / "masks.zarr")["masks"].keys()) == ["ann", "bob"]  # type: ignore[union-attr]


KNOWN = st.dictionaries(
    st.sampled_from("abcd"), st.sets(st.sampled_from(["x", "y", "z"]), min_size=1), min_size=2, max_size=4
)


@given(KNOWN, st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_a_class_is_fused_as_if_it_were_the_only_one(
    tmp_path_factory: pytest.TempPathFactory, known: dict[str, set[str]], order: Any, seed: int
) -> None:
    """The law: masks that arrive class below class, fused from the store, are the one-class fusion over the sites that know it."""
    rng, count = np.random.default_rng(seed), 3
    asked = {site: tuple(sorted(classes)) for site, classes in known.items()}
    manifest = Manifest(tuple("123"), ("",) * count, 4)
    shared = SharedSet("transferal", manifest, tmp_path_factory.mktemp("law"), 2, asked)
    sent = {(s, c): rng.integers(0, 256, (count, 4, 4), dtype=np.uint8) for s in asked for c in asked[s]}
    arriving = list(known)
    order.shuffle(arriving)
    for site in arriving:
        for number, rows in enumerate(shared.masks.chunks):
            answer = [sent[site, label][rows.start : rows.stop] for label in asked[site]]
            shared.masks.write(site, number, np.concatenate(answer))
        assert shared.masks.missing(site) == []
    cards = {site: {"binary": False} for site in known}
    for label in union(asked.values()):
        if not label:
            continue
        sites = [site for site in arriving if label in known[site]]
        view = shared.of(label).masks
        combine = Combiners(FusionSpec(), cards, view).of(sites)
        alone = fuse({s: sent[s, label] for s in sites}, fixed_point(dict.fromkeys(sites, 1.0)))
        assert sum(combine.weights.values()) == 65536  # type: ignore[union-attr]
        np.testing.assert_array_equal(combine({site: view.all(site) for site in sites}), alone)


def test_a_chunk_of_which_a_class_is_missing_is_asked_again(tmp_path: Path) -> None:
    manifest = Manifest(tuple("1234"), ("",) * 4, 4)
    shared = SharedSet("transferal", manifest, tmp_path, 2, {"ann": ("x", "y")})
    shared.masks.write("ann", 0, np.zeros((4, 4, 4), np.uint8))
    shared.of("x").masks.write("ann", 1, np.zeros((2, 4, 4), np.uint8))
    assert shared.masks.missing("ann") == [1]
    assert planes("ann", ("x", "y")) == ("ann~x", "ann~y")


def test_a_class_that_nobody_is_left_to_know_stops_the_run(study: Study, folders: Path, tmp_path: Path) -> None:
    sites = [site for site in SITES if site["name"] != "bob"]
    wanted = label_study(folders, site=sites, round={"min_sites": 1})
    silent = Hospitals({n: service_of(wanted, n, tmp_path, TEACHERS[n]) for n in wanted.site_names})
    silent.services["few"].__dict__["teacher"] = lambda pictures: pictures / 0.5  # type: ignore[index]
    run = Run(wanted, tmp_path, silent, train_student)
    run.predict()
    with pytest.raises(RunError, match=r"no site is left that knows the class 'nodule' \(few: .*start again"):
        run.fuse_and_filter()


@pytest.mark.parametrize("known", [(), ("lesion",), ("cyst", "nodule")])
def test_a_site_that_knows_other_classes_is_set_aside(study: Study, tmp_path: Path, known: tuple[str, ...]) -> None:
    sites = sites_of(study, tmp_path)
    card = sites.services["bob"].__dict__["_ready"][1]
    sites.services["bob"].__dict__["_ready"] = None, card.model_copy(update={"classes": known})
    with pytest.raises(
        RunError, match=r"bob: its teacher knows .*, the study says \['lesion', 'nodule'\]; write the same"
    ):
        Run(study, tmp_path, sites, train_student).predict()


def test_a_teacher_of_too_few_classes_is_set_aside(study: Study, tmp_path: Path) -> None:
    sites = sites_of(study, tmp_path)
    sites.services["bob"].__dict__["teacher"] = bright
    with pytest.raises(RunError, match="bob: bad_answer"):
        Run(study, tmp_path, sites, train_student).predict()
    told = (tmp_path / "sites/bob/errors.jsonl").read_text()
    assert "expected one probability per pixel and class" in told


def changed(site: int, **keys: Any) -> dict[str, Any]:
    return {"site": [{**each, **(keys if number == site else {})} for number, each in enumerate(SITES)]}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "silent site": (changed(0, classes=[]), "site 'ann' does not say which classes its teacher knows"),
    "two names for three": (
        changed(1, classes=["lesion"]),
        r"masks of \['lesion', 'nodule'\], but classes = \['lesion'\]",
    ),
    "one folder for two": (
        changed(0, classes=["lesion", "cyst"]),
        r"one folder of masks for 2 classes; write masks = \{ cyst",
    ),
    "a number": (changed(0, classes=5), r"site\[0\].classes: Input should be a list"),
    "a word": (changed(0, classes="lesion"), r"site\[0\].classes: Input should be a list"),
    "lists": (changed(0, classes=[["lesion"]]), r"site\[0\].classes\[0\]: "),
    "twice": (changed(0, classes=["lesion", "lesion"]), "names the class 'lesion' twice"),
    "outputs of a teacher": (
        changed(1, teacher={**UNET, "classes": 1}),
        "teacher.classes is 1, but site 'bob' knows 2 classes; leave teacher.classes out",
    ),
    "outputs of the student": (
        {"student": {"classes": 3}},
        "student.classes is 3, but the sites together know 2 classes; leave student.classes out",
    ),
    "unknown class of a test set": (
        {"test": [{**TEST[0], "masks": {"cyst": "outside/masks"}}]},
        "test set 'outside' has masks of 'cyst', a class that no site knows",
    ),
    "nameless test set": (
        {"test": [{**TEST[0], "masks": "outside/masks"}]},
        "does not say of which class its masks are",
    ),
    "fine-tuning": ({"fine_tune": {"images": "few/images", "masks": "few/masks"}}, "fine_tune works with one class"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_with_the_remedy(folders: Path, case: str) -> None:
    tables, message = REFUSED[case]
    with pytest.raises(StudyError, match=message):
        label_study(folders, **tables)


def test_a_test_set_of_a_class_where_no_site_names_one_is_refused(folders: Path) -> None:
    with pytest.raises(StudyError, match="the sites know one class without a name"):
        tiny_study(folders, test=[{**TEST[0], "masks": "outside/masks", "classes": ["lesion"]}])


def test_weightings_that_cannot_weigh_each_class_are_refused(folders: Path) -> None:
    with pytest.raises(StudyError, match="over the several classes of 'bob' is no measure of any"):
        refuse_combination(label_study(folders, fusion={"weighting": "validation"}))
    refuse_combination(label_study(folders, fusion={"weighting": "learned", "annotated": "outside"}))
    with pytest.raises(StudyError, match="'few' has no masks of 'lesion'; annotate them"):
        refuse_combination(label_study(folders, fusion={"weighting": "learned", "annotated": "few"}))


def test_a_deployment_keeps_the_classes_of_its_sites(study: Study, tmp_path: Path) -> None:
    write_study(study, tmp_path)
    named = load_federated(tmp_path / "study.toml")
    assert named.asked == study.asked
    raw = named.model_dump(mode="json", exclude_none=True)
    raw["site"][1]["classes"] = ["nodule", "lesion"]
    assert parse_study(raw, tmp_path).asked == study.asked


def test_one_class_of_a_finished_run_is_looked_at_alone(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"know lesion, nodule: name one of them \(--class"):
        StoredRun(finished)
    with pytest.raises(RunError, match="name one of them"):
        StoredRun(finished, "cyst")
    run = StoredRun(finished, "nodule")
    assert run.active == ["bob", "few"]
    assert run.study.student.classes == 1
    annotation = fuse_again(run, FusionSpec(), tmp_path / "again")
    again = (tmp_path / "again/filter.csv").read_bytes()
    assert again == (finished / "classes/nodule/filter.csv").read_bytes()
    np.testing.assert_array_equal(annotation.pseudo[:], stack(finished / "classes/nodule/masks.zarr", "pseudo"))
    told = json.loads((tmp_path / "again/fusion.json").read_text())["per_image"]
    row = json.loads((finished / "results.json").read_text())["dice"]["ensemble"]["outside:nodule"]["per_image"]
    assert {name: value for name, value in told.items() if name.startswith("outside/")} == {
        f"outside/{i}": value for i, value in row.items()
    }


def test_a_single_class_student_takes_the_steps_of_the_runs_own(finished: Path, tmp_path: Path) -> None:
    """nodule keeps fewer pictures than are kept for any class, so they are seen in more epochs."""
    from nakt_fed.replay.cells import work
    from simulation.cells import Made, Task

    (tmp_path / "sweep.toml").write_text('weighting = ["uniform"]\nstudent = ["study"]\nequal_steps = true\n')
    run = StoredRun(finished, "nodule")
    [(cell, _)] = cells_of(run, load_sweep(tmp_path / "sweep.toml"))
    needs: dict[str, Made] = {}
    for name, part in (("fused", cell.needs["fused"]), ("row", cell)):
        place = tmp_path / name
        place.mkdir()
        task = Task(name, part.what, part.where, place, needs, 1)
        needs = {name: Made(work(task), place, 0.0)}
    kept = json.loads((finished / "results.json").read_text())
    ratio = kept["transferal"]["kept"] / kept["classes"]["nodule"]["kept"]
    assert ratio > 1
    epochs = len((tmp_path / "row/history.csv").read_text().splitlines()) - 1
    assert epochs == round(run.study.student.epochs * ratio)


def test_what_a_site_brought_to_a_class(finished: Path, tmp_path: Path) -> None:
    """The sites that know it, the test sets that have masks of it; all of them together are the run's ensemble."""
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    assert nakt("contributions", folder).err.count("lesion, nodule: name one of them (--class") == 1
    done = nakt("contributions", folder, "--class", "nodule", "--students", "1", "--pictures", "16")
    assert done.code == 0, done.err
    assert {path.name for path in folder.glob("contributions*")} == set()
    found = json.loads((folder / "classes/nodule/contributions.json").read_text())
    validator("contributions").validate(found)
    assert (found["class"], found["sites"], found["pictures"]) == ("nodule", ["bob", "few"], {"few": 2, "outside": 3})
    dice = json.loads((folder / "results.json").read_text())["dice"]
    for test in ("few", "outside"):
        row = dice["ensemble"][f"{test}:nodule"]["mean"]
        assert found["everyone"]["per_set"][test] == pytest.approx(row, abs=1e-6)
    kept = json.loads((folder / "results.json").read_text())["classes"]["nodule"]["kept"]
    assert found["students"]["pictures"] == min(16, kept)
    assert ": nodule</h1>" in (folder / "classes/nodule/contributions.html").read_text(encoding="utf-8")


def test_a_site_withdraws_and_the_others_are_not_asked_again(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    withdraw(folder, "ann")
    left = sorted(open_group(folder / "masks.zarr")["masks"].keys())  # type: ignore[union-attr]
    assert left == ["bob~lesion", "bob~nodule", "few~nodule"]
    assert not (folder / "classes").exists()


def test_the_only_site_that_knows_a_class_cannot_withdraw(folders: Path) -> None:
    study = label_study(folders, site=[SITES[0], SITES[2]])
    with pytest.raises(StudyError, match="'few' is the only site that knows 'nodule'; start a new study"):
        study_without(study, "few")


def test_one_class_of_a_student_is_predicted_and_evaluated(finished: Path, folders: Path, tmp_path: Path) -> None:
    student, images = finished / "student.safetensors", folders / "outside/images"
    with pytest.raises(CheckpointError, match="knows lesion, nodule: name one of them"):
        predict_folder(student, images, tmp_path / "out")
    found = [
        predict_folder(student, images, tmp_path / label, style="soft", label=label) for label in ("lesion", "nodule")
    ]
    masks = np.array([[np.asarray(Image.open(path)) for path in paths] for paths in found])
    model, _ = load_checkpoint(student)
    answer = soft_masks(model, stack(finished / "tests/outside/pictures.zarr", "images"), classes=2)
    np.testing.assert_array_equal(masks, answer.swapaxes(0, 1))
    row = json.loads((finished / "results.json").read_text())["dice"]["student"]["outside:nodule"]
    table = evaluate_folder(student, images, folders / "outside/masks", label="nodule", distances=False)
    assert table["dice"].mean() == pytest.approx(row["mean"], abs=1e-6)


def test_a_checkpoint_of_other_classes_is_refused(folders: Path, tmp_path: Path) -> None:
    """Outputs go by the order of the names, so another name may mean another output."""
    study = label_study(folders)
    bob = study.site[1]
    save_checkpoint(
        tmp_path / "t.safetensors", fresh_network(bob.teacher.spec(), 0), bob.teacher.spec(), classes=["a", "b"]
    )
    teacher = bob.teacher.model_copy(update={"checkpoint": tmp_path / "t.safetensors"})
    site = bob.model_copy(update={"teacher": teacher})
    with pytest.raises(
        CheckpointError, match=r"trained on the classes \['a', 'b'\], its site says \['lesion', 'nodule'\]"
    ):
        trained_teacher(site, lambda: None, tmp_path, image_size=32, seed=0, events=None)  # type: ignore[arg-type, return-value]


def test_teachers_of_two_classes_are_trained_on_both(folders: Path, tmp_path: Path) -> None:
    study = label_study(folders)
    service = service_of(study, "bob", tmp_path, bright)
    for name in ("_ready", "teacher"):
        del service.__dict__[name]
    assert service.data.train.masks.shape[1:] == (2, 32, 32)
    assert service.teacher(np.zeros((3, 32, 32), np.uint8)).shape == (3, 2, 32, 32)
    assert service._ready[1].classes == ("lesion", "nodule")


def test_check_says_who_knows_what(study: Study, tmp_path: Path) -> None:
    write_study(study, tmp_path)
    told = nakt("check", tmp_path / "study.toml")
    assert told.code == 0, told.err
    assert "class      lesion: known to ann, bob\nclass      nodule: known to bob, few\n" in told.out


def test_a_site_file_says_which_classes_its_teacher_knows() -> None:
    raw: dict[str, Any] = {
        "site": {"name": "bob", "image_size": 32, "classes": ["nodule", "lesion"]},
        "teacher": {"network": "unet", "checkpoint": "t.safetensors"},
        "private": {"images": "i", "masks": {"lesion": "l", "nodule": "n"}},
        "coordinator": {"address": "a:1", "root_certificates": "r", "public_key": "p", "site_key": "k"},
    }
    site = SiteFile.model_validate(raw).spec()
    assert site.classes == ("lesion", "nodule")
    assert site.teacher.classes == 2
    assert SiteFile.model_validate({**raw, "policy": {"evaluate_student": True}}).policy.evaluate_student
    with pytest.raises(ValidationError, match=r"policy\.personalise_student works with one class"):
        SiteFile.model_validate({**raw, "policy": {"personalise_student": True}})
    with pytest.raises(ValidationError, match=r"\[private\] has one folder of masks for 2 classes"):
        SiteFile.model_validate({**raw, "private": {"images": "i", "masks": "m"}})


def test_fedavg_of_sites_of_different_classes_is_refused(study: Study, tmp_path: Path) -> None:
    from benchmarks.fedavg import main

    write_study(study, tmp_path)
    with pytest.raises(SystemExit, match="FedAvg needs the same classes at all sites"):
        main([str(tmp_path / "study.toml")])
