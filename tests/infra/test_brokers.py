"""The brokers of this machine: they serve, survive what they should, and leave no orphan."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake

from infra import kafka_log, provision
from infra.brokers import jars
from infra.brokers.embedded import EmbeddedBroker
from infra.brokers.kafka import KafkaCluster
from infra.lake import layout, tables
from infra.settings import KafkaSettings, LakeSettings, Settings
from infra.supervisor import continuity
from infra.worlds import World
from schemas.errors import ComponentError, SettingsError, UsageError
from tests.containers import KafkaContainer
from tests.support import ROOT, Out, eventually, produce_all

HOLDER = """
import sys, time
from pathlib import Path
from infra.brokers.embedded import EmbeddedBroker
with EmbeddedBroker(Path(sys.argv[1])) as broker:
    print(broker.pid, flush=True)
    time.sleep(600)
"""


def settings_of(broker: EmbeddedBroker | KafkaCluster, home: Path) -> Settings:
    embedded = isinstance(broker, EmbeddedBroker)
    return Settings(home=home, kafka=KafkaSettings(bootstrap_servers=broker.bootstrap_servers, embedded=embedded))


def ticks(settings: Settings, count: int) -> None:
    topic = World(settings.world).topic("ticks.raw")
    now = time.time_ns() // 1_000_000
    produce_all(settings, topic, (Out("EURUSD", b"x", now, partition=0) for _ in range(count)))


def count(settings: Settings) -> int:
    return kafka_log.ends(settings.kafka, World(settings.world).topic("ticks.raw"))[0]


class TestEmbedded:
    def test_it_keeps_its_data_over_a_restart(self, tmp_path: Path) -> None:
        with EmbeddedBroker(tmp_path) as broker:
            settings = settings_of(broker, tmp_path)
            provision.apply(settings)
            ticks(settings, 100)
        assert broker.pid is None
        with EmbeddedBroker(tmp_path) as broker:
            assert count(settings_of(broker, tmp_path)) == 100

    def test_only_loopback_and_only_kafka(self, tmp_path: Path) -> None:
        with EmbeddedBroker(tmp_path) as broker:
            assert broker.pid is not None
            listening = [c.laddr for c in psutil.Process(broker.pid).net_connections() if c.status == "LISTEN"]
            assert {address.ip for address in listening} == {"127.0.0.1"}
            assert broker.port in {address.port for address in listening}
            assert "kafka" in broker.log_file.read_text()
            assert not any(name in broker.log_file.read_text() for name in ("postgres", "redis", "mongodb"))

    @pytest.fixture
    def holder(self, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
        """A process with a broker, and the broker's pid."""
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as process:
            assert process.stdout is not None
            try:
                yield process, int(process.stdout.readline())
            finally:
                process.kill()

    def test_it_ends_when_its_parent_is_killed(self, holder: tuple[subprocess.Popen[str], int]) -> None:
        process, pid = holder
        process.kill()
        eventually(lambda: not psutil.pid_exists(pid))

    @pytest.mark.skipif(sys.platform not in {"linux", "win32"}, reason="elsewhere the next start finds it")
    def test_it_ends_when_its_guard_is_killed(self, holder: tuple[subprocess.Popen[str], int]) -> None:
        _, pid = holder
        guard = psutil.Process(pid).parent()
        assert guard is not None
        guard.kill()
        eventually(lambda: not psutil.pid_exists(pid))

    def test_one_left_behind_is_stopped_by_the_next_start(self, tmp_path: Path) -> None:
        broker = EmbeddedBroker(tmp_path)
        broker.prepare()
        unguarded = broker.command[broker.command.index("start") - 1 :]
        with subprocess.Popen(unguarded, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as orphan:
            (tmp_path / "logs" / "broker.pid").write_text(str(orphan.pid))
            eventually(broker.serves)
            with EmbeddedBroker(tmp_path) as successor:
                assert orphan.wait(5) is not None
                assert successor.pid != orphan.pid

    def test_a_pid_that_is_someone_elses_is_left_alone(self, tmp_path: Path) -> None:
        broker = EmbeddedBroker(tmp_path)
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as innocent:
            (tmp_path / "logs").mkdir()
            (tmp_path / "logs" / "broker.pid").write_text(str(innocent.pid))
            assert broker.pid is None
            assert broker.prepare() is False
            assert innocent.poll() is None
            innocent.kill()

    def test_a_busy_port_is_named(self, tmp_path: Path) -> None:
        with EmbeddedBroker(tmp_path / "a") as broker, pytest.raises(SettingsError, match=f":{broker.port} "):
            EmbeddedBroker(tmp_path / "b", broker.port)

    def test_what_it_lost_when_killed_is_seen_and_the_world_starts_afresh(self, tmp_path: Path) -> None:
        lake = tmp_path / "lake"
        with EmbeddedBroker(tmp_path) as broker:
            settings = settings_of(broker, tmp_path).model_copy(update={"lake": LakeSettings(uri=str(lake))})
            provision.apply(settings)
            topic = World("main").topic("ticks.clean")
            produce_all(settings, topic, (Out("EURUSD", b"x", time.time_ns() // 1_000_000) for _ in range(5)))
            partition, end = next((n, end) for n, end in kafka_log.ends(settings.kafka, topic).items() if end)

            def lake_has_read(position: int) -> None:
                read = Transaction(tables.app_id("main", layout.TICKS, partition), position)
                write_deltalake(
                    tables.table_uri(str(lake), layout.TICKS),
                    pa.table({"x": [1]}),
                    mode="append",
                    commit_properties=CommitProperties(app_transactions=[read]),
                )

            lake_has_read(end)
            assert continuity.ahead(settings) == []
            record = settings.csv_dir / "metadata" / "000001.json"
            record.parent.mkdir(parents=True)
            record.write_text("{torn")
            with pytest.raises(ComponentError, match=r"000001\.json is damaged"):
                continuity.ahead(settings)
            record.unlink()
            lake_has_read(end + 1)
            assert continuity.ahead(settings) == [
                f"{topic}/{partition} ends at {end}, but the lake has it up to {end + 1}"
            ]
            done = continuity.start_fresh(settings)
            assert any("set" in line and "aside" in line for line in done)
            assert provision.world_topics(settings) == []
            assert not lake.exists()
            assert list(tmp_path.glob("lake-until-*"))
            assert continuity.ahead(settings) == []


class TestKafka:
    def test_two_nodes_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="one or three"):
            KafkaCluster(tmp_path, nodes=2)

    def test_missing_java_says_how_to_get_it(self) -> None:
        with pytest.raises(ComponentError, match=r"Java 99 or newer is needed: .*apt install .* JAVA_HOME"):
            jars.java(99)

    @pytest.mark.real_kafka
    def test_an_empty_kafka_home_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
        with pytest.raises(ComponentError, match=r"KAFKA_HOME=.* holds no Kafka|Java 17"):
            KafkaCluster(tmp_path)

    @pytest.mark.real_kafka
    def test_an_id_may_begin_with_a_dash(self, tmp_path: Path) -> None:
        """One in 64 does."""
        cluster, name = KafkaCluster(tmp_path), "-8XbBvK6Q3WqGZ0yYpVn1A"
        folder = tmp_path / "kafka"
        folder.mkdir(exist_ok=True)
        (folder / "cluster.id").write_text(name, "ascii")
        cluster.configure()
        assert f"cluster.id={name}" in (folder / "node-1" / "data" / "meta.properties").read_text().splitlines()

    def test_missing_maven_says_how_to_get_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path)
        monkeypatch.delenv("KAFKA_HOME", raising=False)
        with pytest.raises(ComponentError, match=r"install Maven .* or download Kafka .* KAFKA_HOME"):
            jars.kafka_classpath()


def test_a_kafka_in_a_container_serves(tmp_path: Path) -> None:
    try:
        broker = KafkaContainer(tmp_path)
    except ComponentError as error:
        pytest.skip(str(error))
    with broker:
        settings = Settings(home=tmp_path, kafka=KafkaSettings(bootstrap_servers=broker.bootstrap_servers))
        provision.apply(settings)
        ticks(settings, 50)
        assert count(settings) == 50
