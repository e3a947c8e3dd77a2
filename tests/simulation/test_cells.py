"""Cells: made once, found again by content, failures alone, kills survived."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nakt_fed.errors import RunError
from simulation.cells import Cell, run_cells, with_needs
from simulation.cells_words import Teller, failed_path
from tests.server.jobs import ROOT, users_cluster, wait_for
from tests.simulation.cell_work import work
from tests.watch import family, started, survivors


def test_key_is_content() -> None:
    plain = Cell("a", {"x": 1, "y": [2]})
    assert plain.key == Cell("b", {"y": [2], "x": 1}, where={"folder": "/elsewhere"}).key
    assert plain.key != Cell("a", {"x": 2, "y": [2]}).key
    assert Cell("s", {}, needs={"teacher": plain}).key != Cell("s", {}, needs={"teacher": Cell("a", {"x": 2})}).key
    assert Cell("s", {}, needs={"teacher": plain}).key != Cell("s", {}, needs={"other": plain}).key


def test_shared_need_is_one_cell_and_comes_first() -> None:
    teacher = Cell("teacher", {"t": 1})
    students = [Cell(f"s{n}", {"s": n}, needs={"teacher": Cell("again", {"t": 1})}) for n in range(2)]
    assert list(with_needs([*students, teacher])) == [teacher.key, *(student.key for student in students)]


def test_progress_names_count_cell_and_time() -> None:
    lines: list[str] = []
    teller = Teller(2, lines.append)
    teller({"kind": "cell", "name": "one", "seconds": 3.2})
    teller({"kind": "cell", "name": "two", "error": "why"})
    assert lines[0].startswith("[1/2] one: 3 s; about ")
    assert lines[1] == "[2/2] two: FAILED: why"


def attempts(folder: Path, cell: Cell) -> int:
    path = folder / "cells" / cell.key / "attempts"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.slow
def test_each_is_made_once_and_a_failed_one_alone_again(tmp_path: Path) -> None:
    """Two sums on one shared need; a third cell fails until it is mended, a fourth waits for it."""
    mended = tmp_path / "mended"
    base = Cell("base", {"add": 1})
    good = [Cell(f"good {n}", {"add": n}, needs={"base": base}) for n in (10, 20)]
    bad = Cell("bad", {"add": 5}, where={"mend": str(mended)})
    after = Cell("after", {"add": 100}, needs={"bad": bad})
    lines: list[str] = []
    with pytest.raises(RunError) as caught:
        run_cells([*good, after], work, tmp_path, tell=lines.append)
    assert "1 cell failed; 1 cell that waits for them was not begun" in str(caught.value)
    assert "  bad: the picture is broken; mend it" in str(caught.value)
    assert "Traceback" not in "".join(lines) + str(caught.value)
    assert "Traceback" in json.loads(failed_path(tmp_path, bad.key).read_text())["traceback"]
    mended.touch()
    made = run_cells([*good, after], work, tmp_path, tell=lines.append)
    assert [made[cell.key].result["sum"] for cell in (*good, after)] == [11, 21, 105]
    assert [attempts(tmp_path, cell) for cell in (base, *good, bad, after)] == [1, 1, 1, 2, 1]
    assert not failed_path(tmp_path, bad.key).exists()
    again: list[str] = []
    assert run_cells([*good, after], work, tmp_path, tell=again.append).keys() == made.keys()
    assert not again
    assert not started()


@pytest.mark.slow
def test_want_of_memory_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")

    with pytest.raises(RunError, match=r"died 3 times \(its machine ran out of memory; free some.*\)\n"):
        run_cells([Cell("hungry", {"add": 1, "wait": "always"})], work, tmp_path)


@pytest.mark.slow
def test_killed_worker_is_replaced(tmp_path: Path) -> None:
    cell, other = Cell("waits", {"add": 1, "wait": True}), Cell("other", {"add": 2})
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_cells, [cell, other], work, tmp_path)
        wait_for(lambda: running.done() or attempts(tmp_path, cell))
        os.kill(int((tmp_path / "cells" / cell.key / "attempts").read_text()), signal.SIGKILL)
        made = running.result()
    assert made[cell.key].result == {"sum": 1, "attempts": 2}


STARTER = """
import json, sys
from pathlib import Path
from simulation.cells import Cell, run_cells
from tests.simulation.cell_work import work
run_cells([Cell(**cell) for cell in json.loads(sys.argv[2])], work, Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_kill_of_all_leaves_nothing_and_the_same_call_goes_on(tmp_path: Path) -> None:
    cells: list[dict[str, Any]] = [{"name": str(n), "what": {"add": n, "wait": n == 1}} for n in range(3)]
    quick, waits, last = (Cell(**cell) for cell in cells)
    command = [sys.executable, "-c", STARTER, str(tmp_path), json.dumps(cells)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        wait_for(lambda: all(attempts(tmp_path, cell) for cell in (quick, waits, last)))
        wait_for(lambda: (tmp_path / "cells" / f"{quick.key}.json").exists())
        children = family(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert not survivors(children, 30)
    run_cells([quick, waits, last], work, tmp_path)
    assert [attempts(tmp_path, cell) for cell in (quick, waits)] == [1, 2]


ELSEWHERE = """
import importlib.util, pickle, sys
assert importlib.util.find_spec("simulation") is None and importlib.util.find_spec("tests") is None
make, arguments = pickle.load(sys.stdin.buffer)
print(make(*arguments))
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["tests.simulation.cell_work", "simulation.paper.work"])
def test_work_travels_to_where_only_nakt_fed_is(tmp_path: Path, module: str) -> None:
    """A node of a cluster; the paper's work refuses there what it cannot read, as it would here."""
    import ray

    from simulation.cells_ray import portable

    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "ticket").write_text("t")
    cell = {"key": "k", "name": "n", "what": {"add": 1, "make": "student"}, "where": {}, "needs": {}}
    order = {"work": [module, "work"], "folder": str(tmp_path), "threads": 1}
    payload = ray.cloudpickle.dumps((portable(order), (cell, order, "t")))
    command = [sys.executable, "-I", "-c", ELSEWHERE]
    done = subprocess.run(command, cwd="/", input=payload, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    answer = done.stdout.decode()
    assert "seconds" in answer if "tests" in module else "KeyError: 'pictures'" in answer


@pytest.mark.slow
def test_on_the_users_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Cell("base", {"add": 1})
    sums = [Cell(str(n), {"add": n}, needs={"base": base}) for n in (10, 20)]
    with users_cluster(monkeypatch):
        made = run_cells(sums, work, tmp_path)
        with pytest.raises(RunError, match="a cell needs 99 CPU on one machine, the largest has 2"):
            run_cells([Cell("large", {"add": 0})], work, tmp_path, threads=99)
    assert [made[cell.key].result["sum"] for cell in sums] == [11, 21]
