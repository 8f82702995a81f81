"""The supervisor's rules, and its stack with small children that do what components do."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.settings import KafkaSettings, Settings, SimulatorSettings
from infra.supervisor import report, runfile
from infra.supervisor.assembly import assemble, broker_kind
from infra.supervisor.child import Child, Command, State
from infra.supervisor.policy import FIRST_DELAY, LONGEST_DELAY, RAN_WELL, Restarts
from infra.supervisor.stack import BROKER, COMPONENTS, REGISTRY, Lost, Stack
from schemas.errors import ComponentError, SettingsError, UsageError
from tests.support import eventually

SAY_READY = "import json, signal, sys, time; print(json.dumps({'ready': 1}), flush=True)\n"
OBEDIENT = SAY_READY + "sys.stdin.read()"
DEAF = "import signal; signal.signal(signal.SIGTERM, lambda *_: None)\n" + SAY_READY + "while True: time.sleep(1)"
FAILING = """import sys; sys.exit('{"event": "cannot go on", "reason": "no luck"}')"""
MISCONFIGURED = "import sys; print('arbitrex: ARBITREX_X=1: wrong', file=sys.stderr); sys.exit(2)"


class TestRestarts:
    def test_delays_double_up_to_a_limit(self) -> None:
        record, delays = Restarts(), []
        for _ in range(10):
            record = record.after_exit(ran=1)
            delays.append(record.delay(chance=1.0))
        assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]
        assert record.total == 10

    def test_a_child_that_ran_well_begins_anew(self) -> None:
        record = Restarts(total=9, in_a_row=9).after_exit(ran=RAN_WELL)
        assert (record.total, record.in_a_row) == (10, 1)

    @given(st.integers(1, 10_000), st.floats(0, 1))
    def test_a_delay_is_never_short_nor_long(self, failures: int, chance: float) -> None:
        delay = Restarts(failures, failures).delay(chance)
        assert FIRST_DELAY / 2 <= delay <= LONGEST_DELAY


def child(folder: Path, name: str, program: str, tier: int = COMPONENTS, grace: float = 5) -> Child:
    folder.mkdir(exist_ok=True)
    return Child(Command(name, tier, [sys.executable, "-c", program], grace=grace), folder)


@contextmanager
def running(children: list[Child], **options: object) -> Iterator[tuple[Stack, list[str], threading.Event]]:
    """The stack in a thread, once all of its children are ready."""
    lines: list[str] = []
    stopping, ready = threading.Event(), threading.Event()
    stack = Stack(children, lines.append, **{"before": {}, **options})  # type: ignore[arg-type]
    thread = threading.Thread(target=stack.run, args=(stopping, ready.set))
    thread.start()
    try:
        assert ready.wait(20), lines
        yield stack, lines, stopping
    finally:
        stopping.set()
        thread.join(20)
        assert not thread.is_alive()


def pid_of(child: Child) -> int:
    pid = child.snapshot()["pid"]
    assert isinstance(pid, int)
    return pid


HANGING = SAY_READY + "time.sleep(60)"
BEATING = SAY_READY + "while True: print('{\"alive\": 1}', flush=True); time.sleep(0.1)"


class TestShards:
    """Children that must be heard, and that do not disturb the others."""

    def watched(self, folder: Path, name: str, program: str) -> Child:
        folder.mkdir(exist_ok=True)
        return Child(
            Command(name, COMPONENTS, [sys.executable, "-c", program], silence=0.6, alone=True, grace=0.5), folder
        )

    def test_one_that_is_silent_for_too_long_is_killed_and_started_again(self, tmp_path: Path) -> None:
        hung, other = self.watched(tmp_path, "hung", HANGING), self.watched(tmp_path, "other", BEATING)
        with running([hung, other]) as (_, lines, _):
            eventually(lambda: hung.restarts.total >= 1)
            assert any("hangs: no word for 0.6 s; it is killed" in line for line in lines)
            assert other.restarts.total == 0

    def test_one_that_cannot_run_leaves_the_others_alone(self, tmp_path: Path) -> None:
        wrong, failing = self.watched(tmp_path, "wrong", MISCONFIGURED), self.watched(tmp_path, "failing", FAILING)
        other = self.watched(tmp_path, "other", BEATING)
        with running([wrong, failing, other]) as (_, lines, _):
            eventually(lambda: wrong.state is State.OFF and failing.restarts.total >= 1)
            assert any("stays off until it is started anew: ARBITREX_X=1: wrong" in line for line in lines)
            assert other.state is State.READY
            assert other.restarts.total == 0


class TestStack:
    def test_tiers_become_ready_in_order_and_stop_in_reverse(self, tmp_path: Path) -> None:
        noting = OBEDIENT + "\nwith open(sys.argv[1], 'a') as f: f.write(sys.argv[2] + ' ')"
        note = tmp_path / "stopped"
        tiers = {"broker": BROKER, "registry": REGISTRY, "gateway": COMPONENTS}
        children = [
            Child(Command(name, tier, [sys.executable, "-c", noting, str(note), name]), tmp_path)
            for name, tier in tiers.items()
        ]
        order: list[str] = []
        with running(children, before={REGISTRY: lambda: order.append("topics")}) as (_, lines, _):
            assert lines[0].startswith("broker")
            assert sorted(line.split()[0] for line in lines[1:]) == ["gateway", "registry"]
            assert order == ["topics"]
        assert note.read_text() == "gateway registry broker "
        assert {c.state for c in children} == {State.STOPPED}

    def test_a_killed_child_comes_back(self, tmp_path: Path) -> None:
        victim, other = child(tmp_path, "victim", OBEDIENT), child(tmp_path, "other", OBEDIENT)
        with running([victim, other]) as (_, lines, _):
            first, bystander = pid_of(victim), pid_of(other)
            psutil.Process(first).kill()
            eventually(lambda: victim.state is State.READY and pid_of(victim) != first)
            assert pid_of(other) == bystander
            assert victim.restarts.total == 1
            assert any("victim" in line and "starts again" in line for line in lines)

    def test_a_failing_child_is_tried_again_and_its_last_words_are_shown(self, tmp_path: Path) -> None:
        lines: list[str] = []
        stack = Stack([child(tmp_path, "poor", FAILING)], lines.append, before={})
        stopping = threading.Event()
        thread = threading.Thread(target=stack.run, args=(stopping, lambda: None))
        thread.start()
        eventually(lambda: stack.children[0].restarts.total >= 2)
        stopping.set()
        thread.join(10)
        assert "ended (exit code 1)" in lines[0]
        assert "cannot go on no luck" in lines[0]

    def test_a_child_that_refuses_its_settings_ends_the_start(self, tmp_path: Path) -> None:
        good = child(tmp_path, "good", OBEDIENT, BROKER)
        stack = Stack([good, child(tmp_path, "bad", MISCONFIGURED)], lambda _: None, before={})
        with pytest.raises(ComponentError, match="bad cannot run: ARBITREX_X=1: wrong"):
            stack.run(threading.Event(), lambda: None)
        assert not good.alive

    def test_the_end_of_a_fatal_child_ends_all(self, tmp_path: Path) -> None:
        broker, other = child(tmp_path, "broker", OBEDIENT, BROKER), child(tmp_path, "other", OBEDIENT)
        stack = Stack([broker, other], lambda _: None, before={}, fatal=frozenset({"broker"}))
        with pytest.raises(Lost, match="broker ended"):
            stack.run(threading.Event(), lambda: psutil.Process(pid_of(broker)).kill())
        assert not other.alive

    def test_a_deaf_child_is_killed(self, tmp_path: Path) -> None:
        deaf = child(tmp_path, "deaf", DEAF, grace=0.2)
        with running([deaf]):
            pid = pid_of(deaf)
        assert not psutil.pid_exists(pid)

    def test_a_child_that_is_off_is_not_waited_for(self, tmp_path: Path) -> None:
        off, on = child(tmp_path, "off", FAILING), child(tmp_path, "on", OBEDIENT)
        off.state = State.OFF
        with running([off, on]) as (stack, _, _):
            assert [each["state"] for each in stack.snapshot()] == ["off", "ready"]


class TestLock:
    def test_one_stack_a_home(self, tmp_path: Path) -> None:
        with runfile.Lock(tmp_path) as lock:
            assert runfile.is_running(tmp_path)
            lock.publish(runfile.Run(1, "main", "http://c", "t", "k:1", True, "http://r", "http://page/"))
            with (
                pytest.raises(UsageError, match=r"already runs .*http://page/; stop it with: arbitrex down"),
                runfile.Lock(tmp_path),
            ):
                pass
        assert not runfile.is_running(tmp_path)
        assert runfile.read(tmp_path) is None
        with runfile.Lock(tmp_path):
            pass

    def test_commands_find_the_running_stack_unless_told_where_to_look(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path)
        with runfile.Lock(tmp_path) as lock:
            lock.publish(runfile.Run(1, "main", "http://c", "t", "127.0.0.1:5", True, "http://r", "http://page/"))
            found = runfile.attached(settings)
            assert (found.kafka.bootstrap_servers, found.kafka.embedded) == ("127.0.0.1:5", True)
            assert found.registry.url == "http://r"
            told = Settings(home=tmp_path, kafka=KafkaSettings(bootstrap_servers="k:1"))
            assert runfile.attached(told) is told
        assert runfile.attached(settings) is settings

    def test_a_status_shows_no_secret(self) -> None:
        run = runfile.Run(1, "main", "http://c", "t-secret", "k:1", False, "https://me:p-secret@r:8081", "http://page/")
        shown = report.complete({"components": []}, run)
        assert shown["registry"] == "https://r:8081"
        assert "secret" not in str(shown)


class TestAssembly:
    @pytest.mark.parametrize(
        ("servers", "asked", "kind"),
        [
            ("127.0.0.1:9092", None, "embedded"),
            ("localhost:0", None, "embedded"),
            ("k1:9092,k2:9092", None, "k1:9092,k2:9092"),
            ("k1:9092", "embedded", "embedded"),
            ("127.0.0.1:9092", "kafka", "kafka"),
            ("127.0.0.1:9092", "127.0.0.1:9092", "127.0.0.1:9092"),
        ],
    )
    def test_which_broker(self, servers: str, asked: str | None, kind: str) -> None:
        assert broker_kind(Settings(kafka=KafkaSettings(bootstrap_servers=servers)), asked) == kind

    def test_a_broker_that_is_no_address_is_refused(self) -> None:
        with pytest.raises(UsageError, match="--broker redpanda: give embedded, kafka, or an address"):
            broker_kind(Settings(), "redpanda")

    def test_a_busy_port_names_setting_and_remedy(self, tmp_path: Path) -> None:
        import socket

        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            settings = Settings(home=tmp_path, kafka=KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}"))
            with pytest.raises(
                SettingsError, match=f"BOOTSTRAP_SERVERS: cannot listen on 127.0.0.1:{port} .* or 0 for any"
            ):
                assemble(settings, None)

    def test_a_simulated_past_needs_a_world_of_its_own(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path, simulator=SimulatorSettings(start="2026-01-05T00:00:00Z"))
        with pytest.raises(UsageError, match=r"ARBITREX_SIMULATOR__START=2026-01-05T00:00:00Z .*--world NAME"):
            assemble(settings, None)
