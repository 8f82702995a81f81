"""The one settings tree: defaults, then ``.env``, then ``ARBITREX_…`` with ``__`` between levels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SourceError

from infra import settings_check as check
from infra.paths import encoded
from schemas.errors import SettingsError

Port = Annotated[int, Field(ge=0, le=65535)]
WorldName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")]


def _words(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
"""A list written as ``M1,M5`` or ``M1 M5``."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Security(_Section):
    """How clients reach the brokers; one setting for librdkafka and aiokafka alike."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None


class KafkaSettings(_Section):
    bootstrap_servers: str = "127.0.0.1:9092"
    partitions: int | None = Field(None, ge=1, le=1000)
    """Partitions of a new world; none: 12 on a cluster, 4 on one node."""
    replication: int | None = Field(None, ge=1, le=9)
    """Replicas of a new world; none: 3 on a cluster of three or more, else 1."""
    embedded: bool = False
    """The broker is the embedded development broker: idle consumers pace themselves, ticks are kept three hours."""
    security: Security = Security()


class RegistrySettings(_Section):
    url: str = "http://127.0.0.1:8081"
    username: str | None = None
    password: SecretStr | None = None
    host: str = "127.0.0.1"
    """Where the embedded registry listens."""
    port: Port = 8081


class StatusSettings(_Section):
    """Health and metrics of every component but the gateway, which serves its own."""

    host: str = "127.0.0.1"
    port: Port = 0
    """0: any free port, shown by ``arbitrex status``."""


class TerminalSettings(_Section):
    """The MetaTrader 5 terminal of source mt5, and what its account must be."""

    path: str | None = None
    """Its terminal64.exe, or the folder; none: the one that runs, or the one installed last."""
    portable: bool = False
    """It keeps its data in its own folder: needed for several on one machine."""
    login: int | None = Field(None, ge=1)
    password: SecretStr | None = None
    """None: the one that the terminal has stored."""
    server: str | None = None
    timeout_seconds: int = Field(60, ge=1, le=600)
    """How long connecting may take."""


class RemoteSettings(_Section):
    """The agent beside a terminal, for source remote: ``arbitrex terminal-agent`` or ``arbitrex simulate``."""

    address: str = "127.0.0.1:18812"
    token: SecretStr | None = None
    ca_file: Path | None = None
    """The certificate that the agent's must be signed with, PEM; given, the connection is encrypted."""


class AgentSettings(_Section):
    """``arbitrex terminal-agent`` and ``simulate``: where they listen, and to whom they answer."""

    host: str = "127.0.0.1"
    port: Port = 18_812
    token: SecretStr | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    """PEM; needed wherever others than this machine can connect."""


class ProducerSettings(_Section):
    source: Literal["simulated", "mt5", "remote", "none"] = "simulated"
    feed: str = "sim"
    shard: str = "a"
    symbols: Words = ()
    """None: all the terminal has."""
    zone: str = "New_York+7"
    """The broker server's clock, for source mt5; the simulated one's is in the simulator's settings."""
    crossed: Literal["reject", "keep"] = "reject"
    """What becomes of ticks whose bid is above their ask."""
    poll_ms: int = Field(100, ge=1, le=60_000)
    watermark_margin_ms: int = Field(200, ge=0)
    quiet_margin_ms: int = Field(2_000, ge=0)
    shards_file: Path | None = None
    """YAML: several terminals; see `infra.shards`."""
    call_seconds: float = Field(120.0, ge=1, le=3_600)
    """A terminal's call that takes longer hangs: the shard's process is killed and started again."""
    patience_seconds: float = Field(120.0, ge=0)
    """How long a terminal gets to bring the history that is missing before a gap is said to be one."""
    reread_minutes: float = Field(10.0, ge=0, le=1_440)
    """The last minutes of each series are read again for ticks that came late; 0: never."""
    reread_seconds: float = Field(60.0, ge=1)
    """How often."""
    spool: Literal["never", "always"] = "never"
    """always: ticks go through this machine's disk, and wait there while Kafka is away; never: in the terminal."""
    spool_megabytes: int = Field(1_024, ge=16, le=1_048_576)
    """A spool that has so much, or ticks of so many hours ago, takes no more: then polling stops."""
    spool_hours: float = Field(24.0, gt=0, le=8_760)
    terminal: TerminalSettings = TerminalSettings()
    remote: RemoteSettings = RemoteSettings()


class SimulatorSettings(_Section):
    """The simulated market: a function of seed, symbol and time."""

    seed: int = 7
    zone: str = "New_York+7"
    start: str | None = None
    """ISO 8601 UTC; a start in the past needs a world of its own. None: the last full hour half an hour ago."""
    speed: float = Field(1.0, gt=0, le=10_000)
    rate: float = Field(1.0, gt=0, le=1_000)
    """Ticks compared with a usual market's."""
    copies: int = Field(1, ge=1, le=100)
    """Each symbol so many times: EURUSD, EURUSD.2 and so on."""
    ticks: Path | None = None
    """A tick file, or a folder of them, whose ticks it plays over and over instead of made-up ones."""
    faults: Words = ()
    """What goes wrong, and when: see `producers.simulated.faults`."""


class BarSettings(_Section):
    timeframes: Words = ("M1", "M5", "M15", "M30", "H1", "H4", "D1", "W1", "MN1")
    """MetaTrader's names, and tick, volume and value bars such as ``T:1000``, ``V:500`` and ``N:1000000``."""


class ProcessorSettings(_Section):
    dead_letter_limit: int = Field(100, ge=0)
    """Dead letters in 100,000 records of a partition that stop the worker."""
    accept_loss: bool = False
    """Go on when records were lost to retention before they were processed."""
    future_tolerance_ms: int = Field(60_000, ge=0)
    session_timeout_ms: int = Field(6_000, ge=1_000)


class SinkSettings(_Section):
    topics: Words = ()
    """None: all that the sink can keep."""
    symbols: Words = ()
    """Patterns such as ``XAU*``; none: all. What is left out is passed over for good."""
    rotate_rows: int = Field(200_000, ge=1)
    rotate_megabytes: int = Field(256, ge=1)
    rotate_seconds: float = Field(15.0, gt=0)
    accept_loss: bool = False
    """Go on when records were lost to retention before the sink read them."""
    session_timeout_ms: int = Field(6_000, ge=1_000)


class LakeSettings(SinkSettings):
    uri: str | None = None
    """A folder or ``s3://…``; none: ``lake`` in the home folder."""
    storage_options: dict[str, SecretStr] = Field(default_factory=dict)


class CsvSettings(SinkSettings):
    dir: Path | None = None
    """None: ``raw`` in the home folder. Worlds other than ``main`` go into ``worlds/NAME`` below it."""
    rotate_seconds: float = Field(60.0, gt=0)


class JsonlSettings(SinkSettings):
    dir: Path | None = None
    """None: lines to standard output. Worlds other than ``main`` go into ``worlds/NAME`` below it."""
    rotate_seconds: float = Field(1.0, gt=0)


class RedisSettings(SinkSettings):
    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    longest: int = Field(1_000_000, ge=1)
    """Entries that a stream keeps, about."""
    rotate_rows: int = Field(5_000, ge=1, le=20_000)
    rotate_seconds: float = Field(0.5, gt=0)


class GatewaySettings(_Section):
    host: str = "127.0.0.1"
    port: Port = 8080
    origins: Words = ()
    """Foreign origins whose pages may connect; the gateway's own always may."""
    tokens_file: Path | None = None
    """Who may see what, written by ``arbitrex token``; none: ``tokens.json`` in the home folder."""
    token: SecretStr | None = None
    """What ``arbitrex watch`` shows to a gateway that asks for one."""
    open: bool = False
    """Let anybody in without a token, from other machines, too."""
    tls_certificate: Path | None = None
    """PEM, with the chain; needs `tls_key`."""
    tls_key: Path | None = None
    max_connections: int = Field(1_000, ge=1)
    max_connections_per_address: int = Field(100, ge=1)
    """Of one other machine."""
    max_subscriptions: int = Field(1_000, ge=1)
    max_replays: int = Field(16, ge=1)
    """Of all clients, on sockets and over HTTP; each holds some 30,000 rows, and up to 50,000 that came meanwhile."""
    max_message_bytes: int = Field(65_536, ge=1_024)
    max_messages_per_second: int = Field(50, ge=1)
    queue_messages: int = Field(10_000, ge=10)
    """What may wait for one client before it counts as slow."""
    queue_bytes: int = Field(4_194_304, ge=65_536)
    heartbeat_seconds: float = Field(5.0, gt=0)


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"
    """auto: console on a terminal, else JSON."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="ARBITREX_",
        env_nested_delimiter="__",
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
    )

    world: WorldName = "main"
    home: Path = Field(default_factory=lambda: platformdirs.user_data_path("arbitrex", appauthor=False))
    """Where the local stack keeps broker data, lake, CSV, logs and its run file."""
    symbols_file: Path | None = None
    """YAML: hours, library calendars and holidays by symbol or pattern; see `infra.symbols`."""
    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    status: StatusSettings = StatusSettings()
    producer: ProducerSettings = ProducerSettings()
    agent: AgentSettings = AgentSettings()
    simulator: SimulatorSettings = SimulatorSettings()
    bars: BarSettings = BarSettings()
    processor: ProcessorSettings = ProcessorSettings()
    lake: LakeSettings = LakeSettings()
    csv: CsvSettings = CsvSettings()
    jsonl: JsonlSettings = JsonlSettings()
    redis: RedisSettings = RedisSettings()
    gateway: GatewaySettings = GatewaySettings()
    log: LogSettings = LogSettings()

    @property
    def lake_uri(self) -> str:
        """Where the lake's tables stand, as deltalake takes it."""
        return self.lake.uri or str(self.home / "lake")

    @property
    def tokens_file(self) -> Path:
        """Who may see what of the gateway."""
        return self.gateway.tokens_file or self.home / "tokens.json"

    @property
    def csv_dir(self) -> Path:
        """The folder that holds this world's ``ticks``, ``ohlcv`` and ``metadata``."""
        return self.below(self.csv.dir or self.home / "raw")

    @property
    def spool_dir(self) -> Path:
        """Where this world's producers of this machine keep what Kafka does not have yet."""
        return self.home / "spool" / encoded(self.world)

    def below(self, root: Path) -> Path:
        """This world's folder in one that all worlds share."""
        return root if self.world == "main" else root / "worlds" / encoded(self.world)


def load(**overrides: object) -> Settings:
    """The settings of this process.

    Raises SettingsError with one line for each setting that is wrong, naming it, its value and the remedy.
    """
    file = Settings.model_config.get("env_file")
    found = check.given(os.environ, Path(str(file)) if file else None)
    known = check.known_names(Settings)
    problems = list(check.problems_of_text(found, known))
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        told = {line.split("=")[0].split(":")[0] for line in problems}
        values = check.problems_of_values(error, found, known, overrides)
        problems += [line for line in values if line.split("=")[0] not in told]
    except SourceError as error:  # a value that should be JSON and is not
        problems = problems or [f"{error}: it must be JSON"]
    else:
        problems += check.problems_of_meaning(settings)
        if not problems:
            return settings
    raise SettingsError("\n".join(problems))
