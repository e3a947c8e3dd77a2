"""How far a run is, from its folder alone: while it goes on, when it waits, when it ends, when it is resumed."""

import fcntl
import json
import os
import shutil
import time
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nakt_fed.cli.status_table import screen
from nakt_fed.errors import RunError
from nakt_fed.locks import only_one
from nakt_fed.resume import write_study
from nakt_fed.status.document import document
from nakt_fed.status.files import Tail, is_held, plain
from nakt_fed.status.fold import Fold
from nakt_fed.status.reader import RunReader, newest_run, read_status
from nakt_fed.status.site_words import connection, hints
from nakt_fed.status.values import RunStatus, SiteStatus
from nakt_fed.status.words import headline, remedy
from tests.command import nakt
from tests.nakt_fed.status.story import Story, everything
from tests.tiny import whole_study


def sites(story: Story) -> dict[str, SiteStatus]:
    return {site.name: site for site in read_status(story.folder).sites}


def printed(status: RunStatus, width: int = 120) -> str:
    console = Console(file=StringIO(), width=width, highlight=False, emoji=False)
    console.print(screen(status))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def grow_old(folder: Path) -> None:
    long_ago = time.time() - 3600
    for path in (path for path in folder.iterdir() if path.is_file()):
        os.utime(path, (long_ago, long_ago))


# sites


def test_every_situation_of_a_site(tmp_path: Path) -> None:
    found = sites(everything(tmp_path / "run"))
    told = {name: (site.connection, site.offer, site.chunks, site.of) for name, site in found.items()}
    assert told == {  # 35 and 12 pictures in chunks of 10: 4 + 2
        "north": ("connected", "accepted", 5, 6),
        "harbour": ("connected", "accepted", 2, 6),
        "university": ("waiting", "none", 0, 6),
        "children": ("set_aside", "refused", 0, 6),
        "east": ("away", "accepted", 1, 6),
        "lakeside-women-and-children": ("connected", "accepted", 0, 6),
        "st-mary": ("not_seen", "none", 0, 6),
    }
    assert found["lakeside-women-and-children"].sending == (3, 4)
    assert found["harbour"].last_error is not None
    assert found["harbour"].last_error.message == "the answer belongs to another manifest or to other pictures"
    assert (found["north"].bytes_out, found["north"].bytes_back) == (300 + 5 * 50, 5 * 700)


def test_a_site_that_fine_tunes_the_student(tmp_path: Path) -> None:
    """And a student that a simulated site fine-tunes is none of the coordinator's."""
    story = everything(tmp_path / "run")
    story.presence("north", "waiting", "training; epoch 3 of 50 is done")
    story.epoch("personalised:east", 3, 50)
    status = read_status(story.folder)
    north = next(site for site in status.sites if site.name == "north")
    assert connection(north) == "fine-tunes the student"
    assert hints(north, status) == ["It learns from the site's own pictures: epoch 3 of 50 is done"]
    assert status.students == {}


def test_what_to_do_is_said(tmp_path: Path) -> None:
    status = read_status(everything(tmp_path / "run").folder)
    told = {site.name: " ".join(hints(site, status)) for site in status.sites}
    assert told["university"] == "Someone at university has to approve this run: nakt site approve SITE_FILE run"
    assert "The run goes on without it: it refused the pictures: its policy allows fewer" in told["children"]
    assert "Its connection is gone; it goes on by itself when it is back, the run waits up to 12 h" in told["east"]
    assert "nakt site start" in told["st-mary"]
    assert told["north"] == ""
    assert headline(status) == "Step 3 of 7: Sites answer the pictures. Waiting for university, east, st-mary."


def test_time_left_is_pictures_by_rate_while_the_site_is_there(tmp_path: Path) -> None:
    story = Story(tmp_path, "ann", "bob")
    story.stage("masks")
    for name in ("ann", "bob"):
        story.presence(name, "connected")
        rate = {"pictures_per_second": 4.0, "bytes": 1}
        story.raw(kind="site", site=name, set="transferal", request="masks", chunks=3, of=4, **rate)
    assert "About 6 s left in this step" in headline(read_status(story.folder))
    story.presence("bob", "away", "unreachable")
    found = sites(story)
    assert found["ann"].seconds_left == 5.9  # half of 35 + 12 pictures at 4 a second
    assert found["bob"].seconds_left is None
    assert " left" not in headline(read_status(story.folder))  # who knows when bob comes back


def test_chunks_of_earlier_starts_count(tmp_path: Path) -> None:
    """An event counts the chunks of its own start: 2 of 4, then a kill, then 1 of the 2 that were missing."""
    story = Story(tmp_path, "ann")
    story.answer("ann", 2, 4)
    story.answer("ann", 1, 2)
    assert sites(story)["ann"].chunks == 3


def test_all_is_answered_when_fusion_begins(tmp_path: Path) -> None:
    """A kill between a chunk's write and its event leaves the count short until then; a site set aside stays short."""
    story = Story(tmp_path, "ann", "bob")
    story.answer("ann", 3, 4)
    story.answer("bob", 1, 4)
    story.set_aside("bob", "transferal", "unreachable; is it running and connected?")
    assert sites(story)["ann"].chunks == 3
    assert sites(story)["ann"].connection == "not_seen"
    story.stage("fusion")
    assert sites(story)["ann"].connection == "over"  # nothing is asked of it any more
    assert (sites(story)["ann"].chunks, sites(story)["bob"].chunks) == (6, 1)


def test_chunks_are_unknown_before_the_pictures_are_prepared(tmp_path: Path) -> None:
    story = Story(tmp_path, "ann", simulated=True, prepared=False)
    story.stage("teachers")
    story.epoch("teacher:ann", 3, 20)
    reader = RunReader(tmp_path)
    ann = reader.read().sites[0]
    assert (ann.connection, ann.of, ann.chunks) == ("local", None, 0)
    assert "trains its teacher: epoch 3 of 20, Dice 71.2 %" in printed(reader.read())
    assert "About 68 s left" in headline(reader.read())  # 17 epochs of 4 s
    story.prepare()
    assert reader.read().sites[0].of == 6


def test_a_site_that_was_set_aside_is_back_once_it_accepts_again(tmp_path: Path) -> None:
    story = Story(tmp_path, "ann")
    story.set_aside("ann", "transferal", "expired; ask the site")
    assert (sites(story)["ann"].connection, sites(story)["ann"].offer) == ("set_aside", "refused")
    time.sleep(0.005)  # times are written in milliseconds
    story.events.emit("error", message="0 of 1 sites are left")
    story.presence("ann", "connected")
    story.accept("ann")
    assert (sites(story)["ann"].connection, sites(story)["ann"].offer) == ("connected", "accepted")


def test_set_aside_after_it_had_accepted_is_no_refusal(tmp_path: Path) -> None:
    story = Story(tmp_path, "ann")
    story.accept("ann")
    time.sleep(0.005)
    story.set_aside("ann", "transferal", "internal, reference 12ab34cd in the site's errors.jsonl; ask the site")
    status = read_status(tmp_path)
    assert (status.sites[0].connection, status.sites[0].offer) == ("set_aside", "accepted")
    assert "(reference 12ab34cd)" in " ".join(hints(status.sites[0], status))


def test_a_site_that_judges_no_student_has_no_error(tmp_path: Path) -> None:
    story = Story(tmp_path, "ann")
    story.fault("ann", "failed", "no_evaluation")
    assert sites(story)["ann"].last_error is None


# the run


def test_starting_then_running_then_done(tmp_path: Path) -> None:
    story = Story(tmp_path / "run", "ann")
    reader = RunReader(story.folder)
    assert reader.read().state == "starting"
    story.raw(kind="note", message="Flower starts the run's process")
    assert reader.read().state == "starting"
    story.stage("masks", 12.0)
    assert (reader.read().state, reader.read().stage) == ("running", "")
    story.finish()
    status = reader.read()
    assert (status.state, status.report) == ("done", str(story.folder / "report.html"))
    assert status.sites[0].connection == "over"
    assert {stage.name: stage.state for stage in status.stages}["student"] == "done"
    assert "report: " in printed(status)


def test_an_error_is_said_with_how_to_go_on_until_somebody_does(tmp_path: Path) -> None:
    story = Story(tmp_path / "run", "ann")
    story.presence("ann", "connected")
    story.stage("masks")
    story.events.emit("error", message="the disk is full; free some space")
    reader = RunReader(story.folder)
    failed = reader.read()
    assert failed.state == "failed"
    assert headline(failed) == "Stopped by an error: the disk is full; free some space"
    assert remedy(failed).endswith("nakt run --resume run --federation KIT")
    assert [stage.state for stage in failed.stages if stage.name == "masks"] == ["cut"]
    story.stage("teachers")
    again = reader.read()
    assert (again.state, again.end, again.sites[0].connection) == ("running", None, "not_seen")


def test_a_kill_is_noticed_by_the_lock(tmp_path: Path) -> None:
    if is_held(tmp_path) is None and not Path("/proc/locks").exists():
        pytest.skip("this system does not tell who holds a lock")
    story = Story(tmp_path, "ann")
    story.stage("student")
    with only_one(tmp_path):
        grow_old(tmp_path)
        assert is_held(tmp_path) is True
        assert read_status(tmp_path).state == "running"
        with pytest.raises(RunError, match="worked on by another"), only_one(tmp_path):
            pass  # looking has not let go of the lock
    assert is_held(tmp_path) is False
    assert read_status(tmp_path).state == "running"  # the lock was touched a moment ago
    grow_old(tmp_path)
    assert read_status(tmp_path).state == "stopped"
    assert "nakt run --resume" in remedy(read_status(tmp_path))


def test_looking_never_takes_the_lock(tmp_path: Path) -> None:
    Story(tmp_path, "ann")
    with only_one(tmp_path), mock.patch.object(fcntl, "flock", side_effect=AssertionError):
        read_status(tmp_path)


def test_without_a_lock_file_a_silent_run_is_not_called_stopped(tmp_path: Path) -> None:
    story = Story(tmp_path, "ann")
    story.stage("student")
    grow_old(tmp_path)
    assert read_status(tmp_path).state == "running"


def test_a_run_that_really_took_place(whole: Path, folders: Path, tmp_path: Path) -> None:
    names = [whole / "events.jsonl", whole / "ledger.jsonl", *whole.rglob("manifest.json")]
    for path in names:
        (tmp_path / path.relative_to(whole)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(whole))
    write_study(whole_study(folders), tmp_path)
    status = read_status(tmp_path)
    assert [stage.state for stage in status.stages] == ["done"] * 8
    # 7 pictures with a view each and 3 test pictures, in chunks of 8
    assert [(site.name, site.chunks, site.of, site.offer) for site in status.sites] == [
        ("ann", 3, 3, "accepted"),
        ("bob", 3, 3, "accepted"),
    ]
    assert {who: told.epoch for who, told in status.students.items()} == {"student": 2, "student+fine_tune": 2}


# reading


def test_only_new_lines_are_read_and_half_lines_wait(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    tail = Tail(path)
    assert tail.new() == []
    path.write_bytes(b'{"a": 1}\n{"b"')
    assert tail.new() == [{"a": 1}]
    with path.open("ab") as file:
        file.write(b': 2}\nnot json\n[3]\n{"c": "\xff"}\n{"d": 4}\n')
    assert tail.new() == [{"b": 2}, {"d": 4}]
    assert tail.new() == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=4), part, max_size=3),
    max_leaves=5,
)
kinds = ["stage", "site", "presence", "warning", "epoch", "note", "error", "done", "start", "event", "told", "_told"]
keys = ["time", "site", "name", "state", "reason", "set", "request", "chunks", "of", "who", "message", "outcome"]


@given(st.sampled_from(kinds), st.dictionaries(st.sampled_from(keys), json_values | st.just("ann")))
def test_no_line_stops_the_reading(kind: str, fields: dict[str, Any]) -> None:
    fold = Fold(Path("/runs/x"), ["ann"])
    for line in ({"kind": kind, **fields}, {**fields, "kind": "offer"}, {**fields, "kind": kind}):
        fold.event(line)
        fold.exchange(line)


@given(st.text())
def test_words_from_elsewhere_have_no_control_characters(text: str) -> None:
    told = plain(text, Path("/runs/x"))
    assert told.isprintable()
    assert len(told) <= 600


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/runs/x/masks.zarr is full", "x/masks.zarr is full"),
        ("run /runs/x ended", "run x ended"),
        ("/home/anna/p.png: not a picture", "[path]: not a picture"),
        ("no file '/home/Anna Meier/p 1.png', see", "no file [path], see"),
        ("no file /home/Anna Meier/p.png there", "no file [path] there"),
        ("4 pictures/s, 3 of 4 and/or more", "4 pictures/s, 3 of 4 and/or more"),
        ("\x1b[2J\u202egone", "�[2J�gone"),
    ],
)
def test_no_path_but_the_run_folder_is_shown(text: str, shown: str) -> None:
    assert plain(text, Path("/runs/x")) == shown


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not the folder of a run"):
        read_status(tmp_path)
    with pytest.raises(RunError, match="there is no run in"):
        newest_run(tmp_path / "runs")
    reader = RunReader(Story(tmp_path, "ann").folder)
    (tmp_path / "study.toml").unlink()
    with pytest.raises(RunError, match="is gone"):
        reader.read()


def test_newest_is_the_one_written_to_last(tmp_path: Path) -> None:
    old, new = Story(tmp_path / "z", "ann"), Story(tmp_path / "a", "ann")
    for story in (old, new):
        story.stage("masks")
    grow_old(old.folder)
    assert newest_run(tmp_path) == new.folder
    grow_old(new.folder)
    old.stage("fusion")
    assert newest_run(tmp_path) == old.folder


# the command


def test_once_without_a_terminal(tmp_path: Path) -> None:
    story = everything(tmp_path / "runs" / "breast-1")
    done = nakt("status", "--runs", tmp_path / "runs")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"run {story.folder}\nStep 3 of 7: Sites answer the pictures.")
    assert "› masks" in done.out
    assert "waiting for approval" in done.out
    assert "5/6" in done.out


def test_json_has_a_version_and_the_same_words(tmp_path: Path) -> None:
    story = everything(tmp_path / "breast-1")
    told = json.loads(nakt("status", story.folder, "--json").out)
    assert told["version"] == 1
    assert told == json.loads(json.dumps(document(read_status(story.folder))))
    assert told["sites"][2]["words"]["connection"] == "waiting for approval"


def test_live_on_a_terminal_until_the_run_is_over(tmp_path: Path) -> None:
    story = Story(tmp_path / "run", "ann")
    story.stage("masks")

    def sleep(seconds: float) -> None:
        story.finish()

    with mock.patch("time.sleep", sleep), mock.patch.dict(os.environ, {"FORCE_COLOR": "1", "TERM": "xterm"}):
        done = nakt("status", story.folder)
    assert "Step 3 of 7" in done.out
    assert "Finished. The report is ready." in done.out


def test_watching_ends_with_ctrl_c(tmp_path: Path) -> None:
    story = Story(tmp_path / "run", "ann")
    story.stage("masks")
    with (
        mock.patch("time.sleep", side_effect=KeyboardInterrupt),
        mock.patch.dict(os.environ, {"FORCE_COLOR": "1", "TERM": "xterm"}),
    ):
        done = nakt("status", story.folder)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "80"], "--host and --port go with --web"),
        (["--web", "--once"], "leave out --once and --json"),
        (["--web", "--json"], "leave out --once and --json"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str) -> None:
    done = nakt("status", *arguments)
    assert done.code == 2
    assert words in done.err


def test_no_run_ends_without_a_traceback(tmp_path: Path) -> None:
    done = nakt("status", "--runs", tmp_path)
    assert (done.code, done.err) == (
        1,
        f"error: there is no run in {tmp_path}; give the run's folder: nakt status RUN\n",
    )


@pytest.mark.parametrize("width", [60, 80, 200])
def test_nothing_is_lost_on_a_narrow_terminal(tmp_path: Path, width: int) -> None:
    shown = "".join(printed(read_status(everything(tmp_path / "run").folder), width).split())
    for text in ("st-mary", "5/6", "nakt site approve SITE_FILE run", "raises pictures_per_set"):
        assert text.replace(" ", "") in shown
