"""The paper's experiments on replicas: synthetic pictures in the places of its seven sets."""

import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.errors import DataError
from nakt_fed.paper.scale import PAPER, SMALL, STUDENTS, Scale
from nakt_fed.paper.sets import PaperSets, load_sets
from nakt_fed.paper.table import markdown, write_table
from simulation.cell_attempt import attempt
from simulation.cells import Cell, made, result_path, with_needs
from simulation.paper.__main__ import _finished
from simulation.paper.figures import FIGURES
from simulation.paper.presets import Experiments
from simulation.paper.tables import TABLES, Maker, cells_of
from simulation.paper.work import work
from tests.server.jobs import wait_for
from tests.tiny import SIZE

COUNTS = {"breast1": 8, "breast2": 4, "baheya": 10, "thyroid": 10, "nerve": 9, "skin": 9, "voc": 9}
TINY: Scale = replace(
    SMALL,
    image_size=SIZE,
    networks={
        **{name: {"width": 8} for name in ("unet", "attunet", "sdunet")},
        **{name: {"encoder": "resnet18"} for name in ("panoptic_fpn", "deeplabv3plus")},
    },
    teacher=1,
    weak=1,
    tuning=1,
    shown=9,
    max_entropy=8.0,
)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> PaperSets:
    root = tmp_path_factory.mktemp("sets")
    for seed, (name, count) in enumerate(COUNTS.items()):
        write_folder(synthetic_set(count, SIZE, seed), root / name)
    masks = "".join(f'[{name}]\nimages = "{name}/images"\nmasks = "{name}/masks"\n' for name in COUNTS)
    (root / "sets.toml").write_text(masks)
    return load_sets(root, root / "sets.toml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: what they share is made once."""
    return tmp_path_factory.mktemp("cells")


def make_here(cells: list[Cell], folder: Path) -> None:
    """In this process, without Ray."""
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    (folder / "cells" / "ticket").write_text("here")
    order = {"folder": str(folder), "threads": 1}
    for cell in with_needs(cells).values():
        plain = {"key": cell.key, "name": cell.name, "what": cell.what, "where": cell.where}
        plain["needs"] = {role: need.key for role, need in cell.needs.items()}
        if not result_path(folder, cell.key).exists():
            outcome = attempt(work, plain, order, "here")
            assert "error" not in outcome, outcome


def test_table_2_has_forty_students_of_one_teacher_and_five_mask_rounds(sets: PaperSets) -> None:
    cells = with_needs(cells_of(TABLES["table2"], [Experiments(sets, SMALL, 7)])).values()
    made_by = [cell.what["make"] for cell in cells]
    assert [made_by.count(make) for make in ("teacher", "masks", "kept", "student")] == [1, 5, 5, 40]
    assert {cell.key for cell in cells} == {
        cell.key for cell in with_needs(cells_of(TABLES["table3"], [Experiments(sets, SMALL, 7)])).values()
    }


def test_tables_4_and_5_go_on_from_the_students_of_table_2(sets: PaperSets) -> None:
    each = [Experiments(sets, SMALL, 7)]
    students = {cell.key for cell in cells_of(TABLES["table2"], each) if cell.what["make"] == "student"}
    tuned = [cell for cell in cells_of(TABLES["table5"], each) if cell.what["make"] == "tuned"]
    assert len(tuned) == 45  # 40 students, 4 from scratch, the teacher
    assert students == {cell.needs["start"].key for cell in tuned if "student" in cell.name and cell.needs}


def test_table_6_has_its_own_cells_for_every_seed(sets: PaperSets) -> None:
    seeds = [Experiments(sets, SMALL, seed) for seed in (7, 8, 9)]
    cells = with_needs(cells_of(TABLES["table6"], seeds)).values()
    assert len(cells) == 3 * (4 + 1 + 1)


def test_the_papers_recipe(sets: PaperSets) -> None:
    """A.3, word for word."""
    each = Experiments(sets, PAPER, 7)
    recipe = each.teacher().what["recipe"]
    assert (recipe["epochs"], recipe["batch_size"], recipe["learning_rate"], recipe["schedule"]) == (
        500,
        4,
        1e-4,
        "constant",
    )
    epochs = [
        each.student("unet", name, True).what["recipe"]["epochs"] for name in ("baheya", "thyroid", "nerve", "skin")
    ]
    assert epochs == [500, 175, 60, 30]
    assert each.tuned("unet", "baheya", None).what["recipe"]["epochs"] == 50
    assert each.teacher().what["size"] == 384
    assert each.kept("voc").what["max_entropy"] == 2.5


def test_a_moved_folder_is_the_same_cell_and_a_new_picture_another(tmp_path: Path) -> None:
    keys = []
    for name, count in (("here", 3), ("there", 3), ("more", 4)):
        for role in ("breast1", "breast2", "baheya"):
            write_folder(synthetic_set(count, SIZE, 1), tmp_path / name / role)
        lines = [f'[{r}]\nimages = "{r}/images"\nmasks = "{r}/masks"\n' for r in ("breast1", "breast2", "baheya")]
        (tmp_path / f"{name}.toml").write_text("".join(lines))
        found = load_sets(tmp_path / name, tmp_path / f"{name}.toml")
        keys.append(Experiments(found, SMALL, 7).teacher().key)
    assert keys[0] == keys[1] != keys[2]


def test_a_set_without_masks_cannot_be_a_target(tmp_path: Path) -> None:
    (tmp_path / "sets.toml").write_text('[thyroid]\nimages = "thyroid/images"\n')
    with pytest.raises(DataError, match=r"'thyroid' \(Thyroid Nodule\) needs masks; add thyroid.masks"):
        Experiments(load_sets(tmp_path, tmp_path / "sets.toml"), SMALL, 7).tuned("unet", "thyroid", None)


@pytest.mark.slow
def test_whole_protocol_on_replicas(sets: PaperSets, folder: Path) -> None:
    """One transferal set, two of the four students; what is not made stays empty in the table."""
    few = sets.model_copy(update={"nerve": None, "skin": None, "voc": None, "baheya": sets.baheya})
    each = Experiments(few, TINY, 7)
    students = [
        each.student(network, "thyroid", exclude) for network in list(STUDENTS)[:2] for exclude in (False, True)
    ]
    make_here([*students, each.tuned("unet", "thyroid", students[0]), each.tuned("unet", "thyroid", None)], folder)
    maker = Maker([each], partial(_finished, folder))
    table = TABLES["table2"](maker)
    [plain] = [entries for name, entries in table.rows if name == "Thyroid Nodule"]
    result = made(folder, students[0].key).result["dice"]["breast2"]
    assert str(plain[0]) == f"{100 * result['mean']:.1f} ± {100 * result['std']:.1f} (66.3 ± 29.2)"
    assert str(plain[2]) == "– (86.1 ± 14.1)"
    assert result["n"] == COUNTS["breast2"]
    assert np.mean(list(result["per_image"].values())) == pytest.approx(result["mean"], abs=1e-6)
    assert "Thyroid Nodule: exclusion changes the four students by" in markdown(table)
    tuned = TABLES["table5"](maker)
    assert not str(tuned.rows[0][1][0]).startswith("–")
    assert [path.name for path in write_table(tuned, folder)] == ["table5.md", "table5.csv"]
    counts = TABLES["table7"](maker)
    assert ("Thyroid Nodule", ["10 (3830)", "10 (2790)", "100 (73)"]) in counts.rows
    make_here([each.several()[2]], folder)
    several = TABLES["table6"](maker)
    assert all(not str(entry).startswith("–") for _, entries in several.rows for entry in entries)
    assert sum("the student beats" in note for note in several.notes) == 2  # a test set each, one seed
    for name, draw in FIGURES.items():
        drawn = draw(maker, folder / f"{name}.html")
        assert (drawn is None) == (name == "figure1" and few.transferal()[-1] == "baheya")


@pytest.mark.slow
def test_beta_keeps_the_papers_share_of_baheya(sets: PaperSets, folder: Path) -> None:
    """525 of 697 is 75.3 %: of 10 pictures 8, whatever the teacher's entropies are."""
    each = Experiments(sets, replace(TINY, max_entropy=None), 7)
    make_here([each.kept("baheya")], folder)
    result = made(folder, each.kept("baheya").key).result
    bits = [e for _, n, e in made(folder, each.single("baheya").key).result["numbers"] if n >= 256 * SIZE**2 / 384**2]
    assert result["beta"] in bits
    assert result["pictures"] == min(8, len(bits))
    assert sum(rule == "high_entropy" for rule in result["rules"].values()) == len(bits) - result["pictures"]


def test_too_few_kept_is_an_empty_place_not_a_failure(sets: PaperSets, folder: Path) -> None:
    strict = Experiments(sets, replace(TINY, max_entropy=0.001), 7)
    cell = strict.student("unet", "thyroid", exclude=True)
    after = strict.tuned("unet", "thyroid", cell)
    make_here([cell, after], folder)
    assert made(folder, cell.key).result["dice"] is None
    assert made(folder, after.key).result["dice"] is None


def nakt(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from nakt_fed.cli import main; main()", "paper", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.soak
def test_command_is_stopped_and_goes_on(sets: PaperSets, tmp_path: Path) -> None:
    """Ctrl-C after the teacher: the second start makes the five mask rounds only; the third shows the figure at once."""
    assert sets.breast1 is not None
    root = sets.breast1.images.parent.parent
    words = ["--data", str(root), "--sets", str(root / "sets.toml"), "--out", str(tmp_path)]
    teacher = result_path(tmp_path, Experiments(sets, SMALL, 7).teacher().key)
    with nakt("table7", *words) as process:
        wait_for(lambda: teacher.exists() or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; go on with: nakt paper table7 --data" in errors
    made_first = teacher.stat().st_mtime_ns
    with nakt("table7", *words) as process:
        told, errors = process.communicate(timeout=250)
    assert process.returncode == 0, errors
    assert "cells are made already" in told
    assert "Table 7" in told
    assert teacher.stat().st_mtime_ns == made_first
    with nakt("figure3", *words, "--show") as process:
        assert str(tmp_path / "figure3.html") in process.communicate(timeout=60)[0]


@pytest.mark.slow
def test_missing_folder_is_named_without_a_traceback(tmp_path: Path) -> None:
    with nakt("table7", "--data", str(tmp_path), "--out", str(tmp_path / "out")) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "breast-busbra-logiq7/images is not there; check the path" in errors
    assert "Traceback" not in errors
