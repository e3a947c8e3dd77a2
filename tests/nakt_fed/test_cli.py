"""The command line: help at once, exit codes, handing over to the simulation, Ctrl-C and kills of a real process."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from nakt_fed import __version__
from nakt_fed.cli import COMMANDS
from nakt_fed.cli.words import duration, many, os_error, size
from tests.command import nakt, resume, run, study_file, write_teachers

NAKT = [sys.executable, "-c", "from nakt_fed.cli import main; main()"]
ROOT = Path(__file__).parents[2]


def start(*arguments: str | Path, **options: str) -> "subprocess.Popen[str]":
    """A real `nakt` in a session of its own, its errors among its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **options}
    command = [*NAKT, *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=partial(
            signal.signal, signal.SIGINT, signal.SIG_DFL
        ),  # ignored where the tests run in the background
    )


def test_help_loads_nothing_heavy() -> None:
    """Every command's help in one process: none of them has imported what takes long."""
    script = f"""
import sys
from nakt_fed.cli import main
for command in {[[], *([name] for name in COMMANDS)]}:
    sys.argv = ["nakt", *command, "--help"]
    try:
        main()
    except SystemExit as end:
        assert end.code in (0, None), command
slow = [name for name in ("torch", "numpy", "pydantic", "zarr", "rich", "matplotlib") if name in sys.modules]
assert not slow, slow
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    assert done.stderr == ""
    for name, (_, text) in COMMANDS.items():
        assert name in done.stdout
        assert text[:30] in done.stdout


def test_version() -> None:
    assert nakt("--version").out == f"nakt, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "give a STUDY file, or --resume RUN"),
        (["run", "x.toml", "--engine", "flour"], "flower"),
        (["run", "--resume", "x", "--seed", "3"], "--seed is for a new run"),
        (["run", "x.toml", "--seed", "-1"], "--seed"),
        (["chek"], "No such command 'chek'"),
        (["predict", "a", "b"], "Missing argument 'OUT'"),
        (["predict", "a", "b", "c", "--width", "3"], "--width and --encoder go with --network"),
        (["train", "a", "b", "c", "--epocs", "3"], "Usage: nakt train "),
    ],
)
def test_wrong_usage(arguments: list[str], words: str) -> None:
    outcome = nakt(*arguments)
    assert outcome.code == 2
    assert words in outcome.err
    assert outcome.out == ""


def test_the_demo_and_a_seed_are_handed_over(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    class Handed(Exception):
        pass

    def hand_over(program: str, arguments: list[str], environment: dict[str, str]) -> None:
        seen.append(arguments)
        raise Handed

    for options in (["--verbose"], ["--seed", "8", "--engine", "in-process"]):
        with mock.patch("tests.command._become", hand_over), pytest.raises(Handed):
            nakt("demo", "--runs", tmp_path, *options)
    plain, seeded = (arguments[4:] for arguments in seen)
    assert plain[1:5] == ["--engine", "flower", "--verbose", "--new"]
    assert plain[-2] == "--study"
    assert plain[-1].endswith("demo/study.toml")
    assert seeded[1:] == ["--engine", "in-process", "--new"], (
        "the file has another seed, so it does not go on with this run"
    )
    assert "seed = 8" in Path(seeded[0], "study.toml").read_text()
    assert Path(plain[0]).name != Path(seeded[0]).name


def test_letters_that_the_terminal_lacks_are_no_error(tmp_path: Path) -> None:
    process = start("check", tmp_path / "größe.toml", PYTHONIOENCODING="ascii")
    out, _ = process.communicate()
    assert process.returncode == 1
    assert out.startswith("error: study file ")
    assert "gr??e.toml is not there" in out.replace("\\xf6", "?").replace("\\xdf", "?")


def test_a_reader_that_leaves_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*NAKT, "--version"], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_ctrl_c_in_a_command_without_anything_to_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nakt_fed.report.write_report", stopped)
    outcome = nakt("report", "x")
    assert (outcome.code, outcome.err.strip()) == (130, "stopped")


@pytest.fixture
def place(folders: Path, tmp_path: Path) -> Path:
    """Pictures and teachers, in a folder with a blank in its name."""
    place = Path(shutil.copytree(folders, tmp_path / "my study"))
    write_teachers(place)
    return place


def wait_for(process: "subprocess.Popen[str]", words: str) -> str:
    """Read the output until a line holds `words`; returns what was read."""
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"it ended before it said {words!r}:\n{seen}")


def nobody_is_left(process: "subprocess.Popen[str]") -> bool:
    """Whether its process group is empty; the group has the first process's number."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
def test_killed_and_interrupted_runs_go_on_to_the_same_student(place: Path, plain_report: None) -> None:
    """SIGKILL among the masks, Ctrl-C in the student's training, then to the end: as if nothing had happened."""
    study = study_file(place, lambda raw: raw["student"].update(epochs=40))
    undisturbed = run(study).run

    process = start("run", study, "--engine", "in-process", "--runs", place / "killed")
    seen = wait_for(process, "ann  chunk 2/4  masks back")
    process.kill()
    process.communicate()
    [folder] = (place / "killed").iterdir()
    assert f"run {folder}\n" in seen
    assert nobody_is_left(process)

    process = start("run", study, "--resume", folder, "--engine", "in-process")
    wait_for(process, "student  epoch 1/40")
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    rest, _ = process.communicate()
    assert process.returncode == 130
    assert rest.endswith(f"\nstopped; go on with: nakt run '{study}' --resume '{folder}' --engine in-process\n")
    assert "Traceback" not in rest
    assert nobody_is_left(process)

    done = len((folder / "history.csv").read_text().splitlines()) - 1
    assert 1 <= done < 40
    last = resume(folder)
    assert (last.code, last.err) == (0, "")
    assert "masks back" not in last.out
    assert "student  epoch 1/40" not in last.out, "finished epochs are not repeated"
    for name in ("student.safetensors", "filter.csv"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()


def test_ctrl_c_while_it_loads_waits_until_it_can_be_answered(place: Path) -> None:
    process = start("run", study_file(place), "--runs", place / "runs")
    cmdline = Path(f"/proc/{process.pid}/cmdline")
    while b"simulation" not in cmdline.read_bytes():
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate()
    [folder] = (place / "runs").iterdir()
    assert process.returncode == 130
    assert out.endswith(f"\nstopped; go on with: nakt run '{place}/study.toml' --resume '{folder}'\n")
    assert "Traceback" not in out


def test_a_fault_of_ours_says_so_and_how_to_go_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object) -> None:
        raise AssertionError("never")

    monkeypatch.setattr("nakt_fed.run_evaluation.run_tests.all_dice", fault)
    outcome = run(study_file(place))
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert "error: this is a fault of nakt-fed" in outcome.err
    assert "what was done is kept" in outcome.err


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (18_600, "18.6 kB"), (3e6, "3.0 MB"), (987e6, "987.0 MB"), (3e9, "3.0 GB")],
)
def test_size(number: float, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (99, "99 s"),
        (99.7, "1 min 40 s"),
        (125, "2 min 05 s"),
        (3540, "59 min"),
        (6000, "1 h 40 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_many() -> None:
    assert [many(count, "view") for count in (0, 1, 2)] == ["0 views", "1 view", "2 views"]


def test_what_the_system_refuses_has_a_remedy() -> None:
    assert os_error(OSError(28, "No space left on device", "a.zarr")) == (
        "the disk is full (No space left on device: a.zarr); free some space, then try again"
    )
    assert os_error(OSError(13, "Permission denied", "a")) == "Permission denied: a; change its permissions"
    assert (
        os_error(FileExistsError(17, "File exists", "a"))
        == "File exists: a; a folder is needed there; give another path"
    )
    assert os_error(OSError(2, "No such file or directory", "a")) == "No such file or directory: a; correct the path"
