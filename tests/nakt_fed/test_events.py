import json
import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path

from nakt_fed.events import EventLog, end_of, follow


def _write_many(path: Path, who: int) -> None:
    for number in range(200):
        EventLog(path).emit("line", who=who, number=number, text="x" * 500)


def test_emit_appends_one_line_with_its_time(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "new" / "events.jsonl")
    log.emit("start", site="ü")
    log.emit("end")
    first, second = map(json.loads, log.path.read_text(encoding="utf-8").splitlines())
    assert first["kind"] == "start"
    assert first["site"] == "ü"
    assert first["time"].endswith("+00:00")
    assert first["time"] <= second["time"]


def test_lines_of_several_processes_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writers = [multiprocessing.get_context("spawn").Process(target=_write_many, args=(path, who)) for who in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    events = list(follow(path, lambda: True))
    for who in range(3):
        assert [event["number"] for event in events if event["who"] == who] == list(range(200))


def test_follow_waits_for_the_file_and_reads_to_its_end(tmp_path: Path) -> None:
    log, stop = EventLog(tmp_path / "events.jsonl"), threading.Event()
    stream = follow(log.path, stop.is_set)
    timer = threading.Timer(0.2, lambda: log.emit("late"))
    timer.start()
    assert next(stream)["kind"] == "late"
    log.emit("last")
    stop.set()
    assert [event["kind"] for event in stream] == ["last"]


def test_follow_starts_where_it_is_told(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    assert end_of(log.path) == 0
    log.emit("before")
    start = end_of(log.path)
    log.emit("after")
    assert [event["kind"] for event in follow(log.path, lambda: True, start)] == ["after"]


def test_a_half_written_line_is_yielded_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind": "a"}\n{"kind": ')
    looks: Iterator[bool] = iter([False, False, True])

    def stop() -> bool:
        ending = next(looks)
        if ending:
            path.write_bytes(b'{"kind": "a"}\n{"kind": "b"}\n')
        return ending

    assert [event["kind"] for event in follow(path, stop)] == ["a", "b"]
