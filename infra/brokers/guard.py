"""Runs a foreign program that must not outlive whoever started it: a script of the standard library alone.

    python guard.py PID_FILE LOG_FILE GRACE_SECONDS PROGRAM ARGUMENT…

The program is asked to stop when the guard's standard input ends (its parent was killed), on SIGTERM and on SIGINT,
and killed when it has not ended after the grace. Should the guard itself be killed, Linux asks the program to stop (a
death signal) and Windows ends it (a job object); elsewhere the next start finds it by its pid file.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1
_JOB_KILL_ON_CLOSE: Final = 0x2000
_JOB_EXTENDED_LIMITS: Final = 9
_PROCESS_SET_QUOTA_AND_TERMINATE: Final = 0x0101


def main(pid_file: Path, log_file: Path, grace: float, command: list[str]) -> int:
    """Run ``command`` to its end and return its exit code."""
    options: dict[str, Any] = {}
    if sys.platform == "linux":
        options["preexec_fn"] = _die_with_parent  # safe: this process has one thread as yet
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
    with log_file.open("ab") as log:
        program = subprocess.Popen(  # noqa: S603 - our own command line
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
        )
    job = _end_with_this_process(program.pid) if sys.platform == "win32" else None
    pid_file.write_text(str(program.pid), "ascii")
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    threading.Thread(target=_wait_for_parent, args=(stopping,), daemon=True).start()
    threading.Thread(target=_stop, args=(program, stopping, grace), daemon=True).start()
    code = program.wait()
    del job  # held until here: closing its handle ends the program
    with contextlib.suppress(OSError):
        pid_file.unlink(missing_ok=True)
    return code if code >= 0 else 128 - code  # killed by a signal: as shells say it


def _wait_for_parent(stopping: threading.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock would be held when the interpreter ends
        pass
    stopping.set()


def _stop(program: subprocess.Popen[bytes], stopping: threading.Event, grace: float) -> None:
    stopping.wait()
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            program.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            program.terminate()
    try:
        program.wait(grace)
    except subprocess.TimeoutExpired:
        program.kill()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == 1:  # the parent was gone before the line above
        os._exit(1)


def _end_with_this_process(pid: int) -> object:
    """A Windows job object whose last handle is ours: when this process ends, so does ``pid``."""
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - there only on Windows
    kernel.CreateJobObjectW.restype = kernel.OpenProcess.restype = ctypes.c_void_p
    limits = (ctypes.c_uint64 * 18)()  # JOBOBJECT_EXTENDED_LIMIT_INFORMATION, 144 bytes on 64 bit
    limits[2] = _JOB_KILL_ON_CLOSE  # BasicLimitInformation.LimitFlags, at byte 16
    job = ctypes.c_void_p(kernel.CreateJobObjectW(None, None))
    kernel.SetInformationJobObject(job, _JOB_EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits))
    handle = ctypes.c_void_p(kernel.OpenProcess(_PROCESS_SET_QUOTA_AND_TERMINATE, 0, pid))
    kernel.AssignProcessToJobObject(job, handle)
    kernel.CloseHandle(handle)
    return job


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
