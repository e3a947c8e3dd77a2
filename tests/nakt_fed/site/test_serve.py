import io
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nakt_fed.errors import AnswerError, RunError
from nakt_fed.exchange import Reply, Request
from nakt_fed.processes import below
from nakt_fed.recipe import Recipe
from nakt_fed.site import connection
from nakt_fed.site import desk as desk_module
from nakt_fed.site.cache import Cached
from nakt_fed.site.frame import read_reply_frame, read_request_frame, reply_frame, request_frame
from nakt_fed.site.local_socket import LONGEST_PATH, is_answered, listening
from nakt_fed.site.relay import ask_service
from nakt_fed.site.serve import serve_site, teacher_key
from nakt_fed.site.site_file import load_site
from nakt_fed.wire import KINDS
from tests.nakt_fed.site.desk import Echo, served, wait_for
from tests.nakt_fed.site.hospital import Coordinator, bare
from tests.nakt_fed.site.kit import write_site
from tests.watch import command

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
META = st.dictionaries(st.text(), JSON, max_size=4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


@given(st.sampled_from(KINDS), META, st.binary())
def test_a_frame_brings_a_request_and_a_reply_unchanged(kind: str, meta: dict[str, object], blob: bytes) -> None:
    request, reply = Request(kind, meta, blob), Reply(True, meta, blob)  # type: ignore[arg-type]
    assert read_request_frame(request_frame(request)) == request
    assert read_reply_frame(reply_frame(reply)) == reply


@given(st.binary() | st.builds(lambda head: len(head).to_bytes(4, "big") + head, st.binary()))
def test_any_other_bytes_are_no_frame(data: bytes) -> None:
    for read in (read_request_frame, read_reply_frame):
        with pytest.raises(AnswerError):
            read(data)


@pytest.mark.parametrize("text", ["[" * 99_999, "9" * 9999, '{"kind": "hello", "text": 1}', '{"kind": "hello"}', "[]"])
def test_a_hostile_head_is_no_frame(text: str) -> None:
    with pytest.raises(AnswerError):
        read_request_frame(len(text).to_bytes(4, "big") + text.encode())


def test_meta_that_is_no_object_is_no_request() -> None:
    with pytest.raises(AnswerError):
        read_request_frame(request_frame(Request("hello")).replace(b"{}", b"[]"))


def test_a_request_goes_through_the_socket_and_back(path: Path) -> None:
    blob = os.urandom(3_000_000)
    with served(Echo(), path):
        assert ask_service(path, Request("masks", {"set": "ä", "n": 3}, blob), 10) == Reply(
            True, {"kind": "masks", "set": "ä", "n": 3}, blob
        )


def test_only_owner_and_group_may_open_the_socket(path: Path) -> None:
    with served(Echo(), path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


def test_nobody_listens(path: Path) -> None:
    reply = ask_service(path, Request("hello"), 10, patience=0)
    assert reply.meta["reason"] == "no_service"
    assert "nakt site serve" in reply.meta["message"]
    assert str(path) not in str(reply.meta)


def test_the_relay_waits_for_a_service_that_is_started_again(path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(ask_service, path, Request("hello"), 10)
        time.sleep(0.3)
        with served(Echo(), path):
            assert waiting.result(10).ok


def test_an_answer_that_takes_too_long(path: Path) -> None:
    with served(Echo(lambda request: time.sleep(0.5)), path):
        assert ask_service(path, Request("masks"), 0.1).meta["reason"] == "no_answer"
        assert ask_service(path, Request("masks"), 10).ok


def test_a_request_that_is_too_large_is_not_read(path: Path) -> None:
    echo = Echo()
    with served(echo, path, limit=1000):
        reply = ask_service(path, Request("pictures", {}, bytes(50_000_000)), 10)
        assert (reply.meta["reason"], echo.asked) == ("too_large", [])
        with line(path) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            sock.sendall((b"%x\r\n%s\r\n" % (400, bytes(400))) * 3)
            assert b"too_large" in rest(sock)
        assert ask_service(path, Request("hello"), 10).ok


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection looks like that of another process."""
    monkeypatch.setattr(connection, "peer", id)


@pytest.mark.usefixtures("strangers")
def test_one_request_is_worked_on_a_few_wait_the_rest_is_sent_away(path: Path) -> None:
    doors, at_once, most = threading.Semaphore(0), [0], [0]

    def work(request: Request) -> None:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        doors.acquire(timeout=10)
        at_once[0] -= 1

    with served(Echo(work), path) as desk, ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(ask_service, path, Request("masks"), 10, 0) for _ in range(10)]
        wait_for(lambda: desk.refused == 6)
        for _ in range(4):
            doors.release()
        replies = [each.result(10) for each in asked]
    assert sorted(reply.meta.get("reason", "ok") for reply in replies) == ["busy"] * 6 + ["ok"] * 4
    assert most == [1]


def test_a_process_has_one_place(path: Path) -> None:
    door = threading.Event()
    with served(Echo(lambda request: door.wait(10) and None), path) as desk, ThreadPoolExecutor() as pool:
        first = pool.submit(ask_service, path, Request("masks"), 10)
        wait_for(lambda: desk.taken)
        assert desk.taken == {os.getpid()}
        assert ask_service(path, Request("masks"), 10, patience=0).meta["reason"] == "busy"
        door.set()
        assert first.result(10).ok


@pytest.mark.usefixtures("strangers")
def test_who_is_gone_is_not_worked_for(path: Path) -> None:
    door = threading.Event()
    echo = Echo(lambda request: door.wait(10) and None)
    with served(echo, path) as desk:
        with line(path) as first, line(path) as second:
            for sock, kind in ((first, "hello"), (second, "masks")):
                post(sock, request_frame(Request(kind)))  # type: ignore[arg-type]
                wait_for(lambda kind=kind: len(desk.taken) == (1 if kind == "hello" else 2))
        door.set()
        assert ask_service(path, Request("offer"), 10).ok
    assert [request.kind for request in echo.asked] == ["hello", "offer"]


def test_a_handler_that_raises_says_nothing_outside(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(request: Request) -> None:
        raise OSError("/private/Erika Mustermann.png")

    with served(Echo(fail), path):
        reply = ask_service(path, Request("masks"), 10)
    assert set(reply.meta) == {"reason", "reference"}
    told = capsys.readouterr().err
    assert reply.meta["reference"] in told
    assert "Erika" not in told


def test_a_line_per_request_is_said(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(Echo(), path):
        ask_service(path, Request("masks", {"set": "../private name"}), 10)
    (said,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\S+ masks ok \d\.\d\d s", said)


@contextmanager
def line(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        yield sock


def post(sock: socket.socket, body: bytes, length: int | str | None = None) -> None:
    size = len(body) if length is None else length
    sock.sendall(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode() + body)


def rest(sock: socket.socket) -> bytes:
    """All that still comes until the service closes the line."""
    got = b""
    try:
        while part := sock.recv(65536):
            got += part
    except ConnectionResetError:
        pass
    return got


GARBAGE = {
    "noise": b"\x00\xff\x16\x03\x01" * 200,
    "no frame": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\xff\xff\xff\xff",
    "another method": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "a huge length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "a length beyond numbers": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 9000 + b"\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
    "endless headers": b"POST / HTTP/1.1\r\n" + b"A: b\r\n" * 50_000,
    "an upgrade": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "pipelined": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" * 500,
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=list(GARBAGE))
def test_garbage_is_refused_and_the_service_lives(
    path: Path, data: bytes, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    echo = Echo()
    with served(echo, path):
        with line(path) as sock:
            with suppress(BrokenPipeError):
                sock.sendall(data)
            answer = rest(sock)
        assert b'\\"ok\\": true' not in answer
        assert echo.asked == []
        assert ask_service(path, Request("hello"), 10).ok
    assert len(capsys.readouterr().err.splitlines()) == 1, "the log grows by hostile lines"
    assert caplog.text == ""


def test_whoever_says_nothing_or_half_is_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BEGIN", 0.3)
    monkeypatch.setattr(desk_module, "SEND", 0.3)
    with served(Echo(), path) as desk, line(path) as silent, line(path) as half:
        post(half, b"\0\0\0", length=1000)
        assert rest(silent) == b""
        assert rest(half) == b""
        assert not desk.taken


def test_whoever_takes_no_reply_is_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (desk_module, connection):
        monkeypatch.setattr(module, "TAKE", 0.3)
    big = request_frame(Request("masks", {}, bytes(20_000_000)))
    with served(Echo(), path) as desk, line(path) as sock:
        post(sock, big)
        wait_for(lambda: desk.taken)
        wait_for(lambda: not desk.taken)
        assert len(rest(sock)) < len(big)


FLOOD = """
import socket, sys, time
socks = [socket.socket(socket.AF_UNIX) for _ in range(200)]
head = b"POST / HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 30000000\\r\\n\\r\\n"
while True:
    for number, sock in enumerate(socks):
        try:
            sock.settimeout(0.05)
            sock.connect(sys.argv[1])
            sock.sendall((b"", head, head + bytes(29_000_000))[number % 3])
        except OSError:
            socks[number] = socket.socket(socket.AF_UNIX)
    print("flooded", flush=True)
"""


@pytest.mark.slow
def test_a_flood_keeps_nobody_out_and_fills_no_memory(path: Path) -> None:
    """A process with 200 connections, silent, with half a body or with most of 30 MB, each made again when it is cut."""
    code = f"from tests.nakt_fed.site.desk import *; serve_echo(Path({str(path)!r}))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL) as service:
        wait_for(lambda: is_answered(path), 30)
        before = memory(service.pid)
        with subprocess.Popen([sys.executable, "-c", FLOOD, str(path)], stdout=subprocess.PIPE) as flood:
            assert flood.stdout
            flood.stdout.readline()
            for _ in range(3):
                began = time.monotonic()
                assert ask_service(path, Request("hello"), 10).ok
                assert time.monotonic() - began < 5
            grown = memory(service.pid) - before
            flood.kill()
        service.terminate()
        assert service.wait(10) == 0
    assert grown < 200e6  # one body, twice, and 64 connections' buffers of 0.3 MB


def memory(pid: int) -> int:
    """Bytes at the most until now."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def test_a_dead_services_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    assert not is_answered(path)
    with served(Echo(), path):
        assert ask_service(path, Request("hello"), 10).ok


def test_a_living_services_socket_is_not(path: Path) -> None:
    with served(Echo(), path):
        with pytest.raises(RunError, match=r"listens on .* already"), listening(path):
            pass
        assert ask_service(path, Request("hello"), 10).ok


def test_what_is_no_socket_stays(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(RunError, match="no socket"), listening(path):
        pass
    assert path.read_text() == "mine"


def test_nobody_listens_below_a_file(tmp_path: Path) -> None:
    """`nakt site start` said that a service listens there already."""
    (tmp_path / "file").touch()
    assert not is_answered(tmp_path / "file" / "teacher.sock")


def test_a_folder_that_everybody_may_enter(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(RunError, match="chmod o-rwx"), listening(tmp_path / "open" / "socket"):
        pass


def test_a_folder_in_which_the_group_could_put_another_socket(tmp_path: Path) -> None:
    """An app of the group's could answer in the service's place, and approve every other app."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o770)
    with pytest.raises(RunError, match="chmod g-w"), listening(tmp_path / "shared" / "socket"):
        pass


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
def test_files_of_the_service_are_its_own_with_any_umask(tmp_path: Path, umask: int) -> None:
    """And the socket's folder lets the group in, which is what it is for."""
    site = write_site(tmp_path, site={"socket": str(tmp_path / "run" / "s")})
    file, coordinator = load_site(site), Coordinator(tmp_path)
    with start(site, umask) as process:
        wait_for(lambda: is_answered(file.socket), 60)
        assert all(ask_service(file.socket, request, 30).ok for request in coordinator.everything())
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in file.site.folder.rglob("*")}
        socket_modes = [stat.S_IMODE(path.stat().st_mode) for path in (file.socket.parent, file.socket)]
        process.terminate()
        assert process.wait(10) == 0
    assert {"receipts.jsonl", "receipts.jsonl.head", "day.json", "offers.json"} <= {path.name for path in modes}
    assert [path for path, mode in modes.items() if mode & 0o077] == []
    assert socket_modes == [0o750, 0o660]


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * LONGEST_PATH)
    with pytest.raises(RunError, match=r"at most 107.*\[site\] socket"), listening(deep):
        pass
    assert ask_service(deep, Request("hello"), 10, patience=0).meta["reason"] == "no_service"


def start(site: Path, umask: int = -1) -> subprocess.Popen[str]:
    """`nakt site serve` in a process of its own."""
    command = [sys.executable, "-c", "from nakt_fed.cli import main; main()", "site", "serve", str(site)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, umask=umask)


def test_a_whole_site_answers_and_ends_with_0(tmp_path: Path) -> None:
    """Gate, cache and teacher in a process; a second one is refused; SIGTERM."""
    site = write_site(tmp_path)
    file, coordinator = load_site(site), Coordinator(tmp_path)
    with start(site) as process:
        wait_for(lambda: is_answered(file.socket), 60)
        replies = [ask_service(file.socket, request, 30) for request in coordinator.everything()]
        assert [reply.meta for reply in replies if not reply.ok] == []
        assert ask_service(file.socket, coordinator.ask(0, 4, set="x"), 10).meta["reason"] == "not_offered"
        with pytest.raises(RunError, match="another process"):
            serve_site(file)
        process.terminate()
        assert process.wait(10) == 0
        assert process.stderr
        said = process.stderr.read()
    assert " masks ok " in said
    assert str(tmp_path) not in said
    assert not file.socket.exists()
    assert stat.S_IMODE(file.site.folder.stat().st_mode) == 0o700
    again = Cached(Echo(), file.site.folder / "cache", teacher_key(file))  # of a later process
    assert again.handle(bare(coordinator.ask(0, 4))) == replies[4]


@pytest.mark.soak
def test_a_service_that_is_killed_while_it_fine_tunes_goes_on(tmp_path: Path) -> None:
    """The training ends with it; the next service trains only the epochs that are missing. Others are answered meanwhile."""
    policy = {"personalise_student": True, "min_evaluated": 2, "personalise_epochs": 9999}
    site = write_site(tmp_path, private={"test_share": 0.5}, policy=policy)
    file, coordinator = load_site(site), Coordinator(tmp_path)
    blob = (tmp_path / "teacher.safetensors").read_bytes()
    recipe = Recipe(epochs=80, batch_size=2, validation=0.0).model_dump(mode="json")
    order = coordinator.personalise(blob, {"network": "unet", "width": 2}, recipe)
    with start(site) as process:
        wait_for(lambda: is_answered(file.socket), 60)
        sent = coordinator.personalise(blob, {"network": "unet", "width": 2}, recipe, send=True)
        assert ask_service(file.socket, sent, 30).meta == {"taken": True}
        assert ask_service(file.socket, order, 30).meta["reason"] == "training"
        [folder] = (file.site.folder / "personalised").iterdir()
        history = folder / "history.csv"
        wait_for(lambda: history.exists() and history.read_text().count("\n") > 3, 60)
        assert ask_service(file.socket, coordinator.hello(), 10).ok
        training = below(process.pid)
        assert len(training) == 2, "the guard and the training"
        process.kill()
    wait_for(lambda: not any(command(pid) for pid in training), 20)
    before = history.read_text().splitlines()[:-1]  # the last epoch may not be in last.pt
    assert 3 <= len(before) < 81
    with start(site) as process:
        wait_for(lambda: is_answered(file.socket), 60)
        replies: list[Reply] = []

        def done() -> bool:
            replies.append(ask_service(file.socket, order, 30))
            return replies[-1].meta.get("reason") != "training"

        wait_for(done, 120)
        process.terminate()
        assert process.wait(10) == 0
    assert replies[-1].ok, replies[-1].meta
    assert replies[-1].meta["n"] == 2
    assert history.read_text().splitlines()[: len(before)] == before


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_stopped_in_the_midst_of_its_work_it_ends_with_0_too(tmp_path: Path, stop: int) -> None:
    code = f"from tests.nakt_fed.site.desk import *; serve_echo(Path({str(tmp_path / 's')!r}), 60)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        wait_for(lambda: is_answered(tmp_path / "s"), 30)
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(ask_service, tmp_path / "s", Request("masks"), 30, 0)
            time.sleep(0.5)
            process.send_signal(stop)
            assert process.wait(10) == 0
            assert asked.result(10).meta["reason"] == "no_service"
    assert not (tmp_path / "s").exists()


def test_what_cannot_work_is_said_without_a_traceback(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    (tmp_path / "teacher.safetensors").unlink()
    with start(site) as process:
        assert process.wait(60) == 1
        assert process.stderr
        assert process.stderr.read().startswith("error: checkpoint ")


def test_a_log_on_a_full_disk_silences_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(full, write_through=True))
        desk_module.say("masks ok 0.1 s")
