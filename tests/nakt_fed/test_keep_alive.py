"""Programs that are kept alive: what is said when one dies."""

import sys
import time
from pathlib import Path

import pytest

from nakt_fed.keep_alive import Kept, kept_alive

FAILS = "print('loading'); print('error: folder x is not there; check the path'); raise SystemExit(1)"
DIES = "print('error: of long ago'); print('well again'); raise SystemExit(3)"


@pytest.mark.parametrize(("program", "reason"), [(FAILS, ["error: folder x is not there; check the path"]), (DIES, [])])
def test_the_error_with_which_it_ended_is_said(tmp_path: Path, program: str, reason: list[str]) -> None:
    said: list[str] = []
    log = tmp_path / "program.log"
    kept = Kept("teacher service", [sys.executable, "-c", program], log, {}, tmp_path, pause=60)
    with kept_alive([kept], said.append) as look_after:
        until = time.monotonic() + 10
        while not said and time.monotonic() < until:
            look_after()
            time.sleep(0.02)
    assert f"its log: {log}" in said[0]
    assert said[1:] == reason
