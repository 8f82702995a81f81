from __future__ import annotations

import io
import os
import sys
import threading

import pytest

from infra.cli import keys


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals that Python can open")
def test_a_key_is_heard_at_once_and_the_terminal_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import pty
    import termios

    ours, theirs = pty.openpty()
    heard = threading.Event()
    with os.fdopen(theirs, "r") as terminal, os.fdopen(ours, "wb", buffering=0) as keyboard:
        monkeypatch.setattr(sys, "stdin", terminal)
        before = termios.tcgetattr(theirs)
        with keys.pressed({" ": heard.set}):
            keyboard.write(b"x ")
            assert heard.wait(10)
        assert termios.tcgetattr(theirs) == before


def test_without_a_terminal_no_key_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(" "))
    assert not keys.available()
    threads = threading.active_count()
    with keys.pressed({" ": pytest.fail}):
        assert threading.active_count() == threads
