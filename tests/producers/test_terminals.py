from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from threading import Event

import psutil
import pytest

from infra.settings import ProducerSettings, Settings
from producers.files.days import StoppedError
from producers.history import terminals
from producers.history.terminals import Question, TerminalProcess
from schemas.errors import SourceError
from tests.producers import hanging
from tests.support import eventually

QUESTION = Question("EURUSD", 1, 2)


@pytest.fixture(autouse=True)
def _instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "_serve", hanging.serve)


def settings(home: Path, **producer: float) -> Settings:
    return Settings(home=home, producer=ProducerSettings(**({"call_seconds": 1.0} | producer)))


def processes(home: Path) -> list[int]:
    path = home / "tries"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_call_that_hangs_is_killed_within_its_limit_and_asked_again(tmp_path: Path) -> None:
    with TerminalProcess(settings(tmp_path), Event()) as terminal:
        terminal.open()
        began = time.monotonic()
        assert len(terminal.ask(QUESTION)) == 3
        assert 1.0 <= time.monotonic() - began < 30
        first, second, third = processes(tmp_path)
        assert not psutil.pid_exists(first)
        assert not psutil.pid_exists(second)
    assert not psutil.pid_exists(third)


def test_what_does_not_answer_for_too_long_is_given_up_with_the_setting_named(tmp_path: Path) -> None:
    (tmp_path / "always").touch()
    with (
        TerminalProcess(settings(tmp_path, patience_seconds=0.0), Event()) as terminal,
        pytest.raises(SourceError, match=r"no answer in 1 s, its process was killed; gave up after 3 tries .*PATIENCE"),
    ):
        terminal.ask(QUESTION)


@pytest.mark.skipif(sys.platform == "win32", reason="no Ctrl-C can be sent to one process alone")
def test_ctrl_c_does_not_reach_the_terminals_process(tmp_path: Path) -> None:
    (tmp_path / "tries").write_text("0\n0\n")
    with TerminalProcess(settings(tmp_path, call_seconds=600.0), Event()) as terminal:
        terminal.open()
        os.kill(processes(tmp_path)[2], signal.SIGINT)
        assert len(terminal.ask(QUESTION)) == 3


def test_one_who_waits_for_an_answer_can_be_stopped(tmp_path: Path) -> None:
    stopping, told = Event(), list[BaseException]()

    def ask() -> None:
        with TerminalProcess(settings(tmp_path, call_seconds=600.0), stopping) as terminal:
            try:
                terminal.ask(QUESTION)
            except StoppedError as error:
                told.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: processes(tmp_path), 30)
    stopping.set()
    thread.join(30)
    assert told
    assert not psutil.pid_exists(processes(tmp_path)[0])
