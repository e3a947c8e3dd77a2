"""Every benchmark runs at a tiny size and prints its table. No time is asserted: that is for a quiet machine."""

import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import codec, deployment, fusion, link, memory, round, sites, training, weighting
from benchmarks.common import Row, blobs, interleaved, show, synthetic_study, times_faster, write_pictures
from nakt_fed.errors import RunError
from nakt_fed.filtering import judge
from nakt_fed.store import ChunkStore
from nakt_fed.study.file import load_study


@pytest.mark.parametrize(
    ("ratio", "at_most", "verdict"), [(5.0, False, "≥ 5 met"), (4.9, False, "≥ 5 MISSED"), (5.1, True, "≤ 5 MISSED")]
)
def test_a_goal_is_judged_in_its_direction(ratio: float, at_most: bool, verdict: str) -> None:
    assert Row("w", "a", "b", ratio, 5.0, at_most).verdict == verdict


def test_a_row_without_goal_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show("Title", [Row("what", "1 s", "2 s", 2.0)], "Note.")
    assert "| what | 1 s | 2 s | 2 |  |" in capsys.readouterr().out


def test_works_take_turns_and_warm_up_once() -> None:
    calls: list[str] = []
    first, second = interleaved([lambda: calls.append("a") or 1.0, lambda: calls.append("b") or 2.0], 2)
    assert calls == ["a", "b"] * 3
    assert (first, second) == ([1.0, 1.0], [2.0, 2.0])


def test_the_ratio_is_the_median_of_neighbours() -> None:
    """8 ÷ 2, 9 ÷ 3 and 100 ÷ 10: the median is 4, whatever slowed the last pair down."""
    assert times_faster([2, 3, 10], [8, 9, 100]) == 4


def test_the_plain_filter_agrees_with_ours() -> None:
    """Both speak of the same pictures: N exactly where no mean lies at the threshold, E up to the rounding of the mean."""
    soft = {"a": blobs(4, 64, 0), "b": blobs(4, 64, 0)}
    ours = fusion.ours(soft)
    for verdict, (n, e, _) in zip(ours, fusion.plain(soft), strict=True):
        assert n == verdict.N
        assert pytest.approx(e, abs=0.2) == verdict.E


def test_fusion() -> None:
    rows = fusion.measure(sites=2, pictures=3, size=32, repeats=1)
    assert [row.goal for row in rows] == [fusion.GOAL, None]


def test_weighting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighting, "CHUNK", 2)
    rows = weighting.measure(sites=2, pictures=3, size=32, names=("uniform", "staple", "shapley", "learned"))
    assert [row.goal for row in rows] == [weighting.GOAL, weighting.STAPLE_GOAL, weighting.GOAL, weighting.GOAL]


def test_codec_on_a_run(tmp_path: Path) -> None:
    """Of the two chunks of 64, the second was never answered."""
    store = ChunkStore(tmp_path / "masks.zarr", 70, 32, 64)
    store.write("a", 0, blobs(64, 32, 0))
    masks = codec.masks_of_run(tmp_path)
    np.testing.assert_array_equal(masks, blobs(64, 32, 0))
    names = ["JPEG-LS, lossless", "JPEG-LS, near = 1", "zstd", "PNG"]
    assert [row.what for row in codec.measure(masks, repeats=1)] == names


def test_codec_on_a_run_without_answers(tmp_path: Path) -> None:
    ChunkStore(tmp_path / "masks.zarr", 6, 32, 4).missing("a")
    ChunkStore(tmp_path / "masks.zarr", 6, 32, 4).stack("a")
    with pytest.raises(RunError, match="no answered mask"):
        codec.masks_of_run(tmp_path)


def test_codec_on_the_demo() -> None:
    assert codec.masks_of_demo(32, budget=0, spec=round.TINY).shape[1:] == (32, 32)


def test_sites() -> None:
    [row] = sites.measure(few=1, many=2, count=5, size=32, chunk=4, repeats=1)
    assert row.at_most


def test_the_synthetic_pictures_are_kept() -> None:
    """Memory is measured with the largest pseudo-annotated set only when the filter drops none."""
    assert all(verdict.kept for verdict in judge(["x"], blobs(1, 96, 0), 16, 2.5))


@pytest.mark.slow
def test_memory() -> None:
    whole, own = memory.measure(few=2, many=4, size=32, sites=1, chunk=2)
    assert whole.goal == memory.GOAL
    assert own.goal is None


def test_the_study_of_a_round_can_be_read(tmp_path: Path) -> None:
    transferal = write_pictures(tmp_path / "transferal", 2, 32)
    study = synthetic_study(tmp_path, sites=4, pictures=transferal, image_size=32)
    assert load_study(tmp_path / "study.toml") == study
    names = [site.teacher.checkpoint.name for site in study.site if site.teacher.checkpoint]
    assert names == [f"teacher-{k}.safetensors" for k in (0, 1, 2, 0)]


@pytest.mark.slow
def test_the_plain_round(tmp_path: Path) -> None:
    study = round.prepare(tmp_path, round.TINY, sites=2, pictures=2, size=32, cores=1)
    assert round.plain(study, cores=1) > 0


@pytest.mark.slow
def test_training_without_ray() -> None:
    assert len(training.measure(pictures=16, size=32, epochs=1, repeats=1, threads=1, ray=False)) == 2


@pytest.mark.slow
def test_round_through_flower() -> None:
    [row] = round.measure(round.TINY, sites=2, pictures=4, size=32, repeats=1)
    assert row.goal == round.GOAL


@pytest.mark.slow
def test_training_through_ray() -> None:
    rows = training.measure(pictures=16, size=32, epochs=1, repeats=1, threads=1)
    assert [row.goal for row in rows] == [training.GOAL, None, training.RAY_GOAL]


def test_a_link_carries_everything_at_its_rate_and_late() -> None:
    """250,000 bytes are 0.1 s at 20 Mbit/s, and arrive 0.05 s later; a new connection waits for one round trip of 0.1 s."""
    data = bytes(range(250)) * 1000
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = link.Link(server.getsockname()[1], delay=0.05)
        with proxy.open():
            began = time.time()
            with socket.create_connection(("127.0.0.1", proxy.port)) as near:
                threading.Thread(target=near.sendall, args=(data,)).start()
                far, _ = server.accept()
                received = bytearray()
                while len(received) < len(data):
                    received += far.recv(65536)
                took = time.time() - began
                far.close()
    assert bytes(received) == data
    assert took >= 0.1 + 0.05 + 0.1
    assert sum(size for _, size in proxy.back.carried) == len(data)
    assert not proxy.out.carried


def test_a_link_is_busy_for_the_time_that_its_bytes_take() -> None:
    """2.5 MB at 20 Mbit/s are one second of four; what left the link before or after does not count."""
    direction = link.Direction(carried=[(9.0, 10**6), (11.0, 1_250_000), (13.5, 1_250_000), (15.0, 10**6)])
    assert direction.busy(10, 14) == 0.25


def test_the_pictures_of_a_deployment_are_all_different(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "DRAWN", 2)
    assert len({picture.tobytes() for picture in deployment.pictures(6, 64)}) == 6


@pytest.mark.slow
@pytest.mark.soak
def test_deployment_beside_a_naive_app() -> None:
    [row] = deployment.measure(sites=1, count=20, size=32, repeats=1)
    assert row.goal == deployment.GOAL
