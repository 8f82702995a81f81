"""The agent beside a terminal: each client has a process of its own that holds it; one that hangs is killed."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import multiprocessing
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final

from infra import logs
from infra.process import Process
from infra.settings import AgentSettings, Settings
from producers import sources
from producers.remote.wire import CALLS, LONGEST_REQUEST, BrokenFrameError, answer, pack, receive, unpack
from producers.terminal import Terminal
from schemas.errors import SettingsError

_ACCEPT_SECONDS: Final = 0.2
_TOKEN_SECONDS: Final = 10.0
_START_SECONDS: Final = 60.0
_MOST_CLIENTS: Final = 8

log = logs.logger(__name__)


def run(settings: Settings, process: Process, *, simulated: bool) -> None:
    """Serve the terminal of this machine, or a simulated one, until asked to stop. Raises SettingsError."""
    make: Callable[[], Terminal] = sources.metatrader
    if simulated:
        make = partial(sources.simulated_terminal, settings.simulator, sources.simulated_clock(settings.simulator))
    make()  # says now what could not be said to a client
    Agent(settings.agent, make, settings.producer.call_seconds).serve(process)


class Agent:
    """Listens, and gives each client that knows the token a terminal made by ``make`` in another process."""

    def __init__(self, settings: AgentSettings, make: Callable[[], Terminal], call_seconds: float) -> None:
        self._settings, self._make, self._seconds = settings, make, call_seconds
        self._security = _security(settings)
        self._room = threading.Semaphore(_MOST_CLIENTS)
        self._spares = threading.Lock()

    def serve(self, process: Process) -> None:
        """Accept clients until asked to stop. Raises SettingsError when the port is taken."""
        settings = self._settings
        try:
            listener = socket.create_server((settings.host, settings.port))
        except OSError as error:
            raise SettingsError(
                f"ARBITREX_AGENT__PORT={settings.port}: {settings.host} cannot be listened on ({error.strerror}); "
                "choose another port"
            ) from error
        with listener:
            listener.settimeout(_ACCEPT_SECONDS)
            host, port = listener.getsockname()[:2]
            self._spare = self._start()
            process.ready(address=f"{host}:{port}", encrypted=self._security is not None)
            while not process.stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    client, address = listener.accept()
                    threading.Thread(
                        target=self._client, args=(client, f"{address[0]}:{address[1]}"), name="client", daemon=True
                    ).start()

    def _client(self, plain: socket.socket, who: str) -> None:
        if not self._room.acquire(blocking=False):
            plain.close()
            log.warning("too many clients", client=who)
            return
        try:
            plain.settimeout(_TOKEN_SECONDS)
            with plain if self._security is None else self._security.wrap_socket(plain, server_side=True) as client:
                if self._knows_token(client):
                    client.settimeout(None)
                    log.info("connected", client=who)
                    self._relay(client)
                else:
                    log.warning("refused: wrong token", client=who)
        except (OSError, BrokenFrameError) as error:
            log.info("disconnected", client=who, reason=str(error))
        finally:
            plain.close()
            self._room.release()

    def _knows_token(self, client: socket.socket) -> bool:
        given, _ = unpack(receive(client, LONGEST_REQUEST))
        token = self._settings.token
        right = token is None or hmac.compare_digest(str(given.get("token")), token.get_secret_value())
        if not right:
            client.sendall(pack({"value": False, "error": [1, "Success"]}))
        return right

    def _take_spare(self) -> tuple[BaseProcess, Connection]:
        """A process that has been started ahead of its client, as starting takes seconds; another for the next one."""
        with self._spares:
            taken, self._spare = self._spare, self._start()
        return taken

    def _start(self) -> tuple[BaseProcess, Connection]:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        worker = spawn.Process(target=_work, args=(theirs, self._make), daemon=True)
        worker.start()
        theirs.close()
        return worker, ours

    def _relay(self, client: socket.socket) -> None:
        """Pass requests to a process that has the terminal, and its answers back, until either side is gone."""
        worker, ours = self._take_spare()
        try:
            if not ours.poll(_START_SECONDS):
                log.warning("the terminal's process does not start", seconds=_START_SECONDS)
                return
            client.sendall(ours.recv_bytes())
            while True:
                ours.send_bytes(receive(client, LONGEST_REQUEST))
                if not ours.poll(self._seconds):
                    log.warning("the terminal hangs: its process is killed", seconds=self._seconds)
                    return
                client.sendall(ours.recv_bytes())
        except EOFError:
            log.warning("the terminal's process has ended")
        finally:
            worker.kill()
            worker.join()
            ours.close()


def _work(requests: Connection, make: Callable[[], Terminal]) -> None:
    """Answer requests with the terminal of this process."""
    terminal = make()
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        requests.send_bytes(pack({"value": True, "error": [1, "Success"]}))
        while True:
            head, _ = unpack(requests.recv_bytes())
            name = head.get("call")
            if name in CALLS:
                requests.send_bytes(answer(getattr(terminal, str(name)), terminal.last_error, head))
            else:
                requests.send_bytes(pack({"value": None, "error": [-2, "Invalid arguments"]}))


def _security(settings: AgentSettings) -> ssl.SSLContext | None:
    """Encryption, which is a must where others can listen. Raises SettingsError."""
    if settings.cert_file is None:
        if not _is_loopback(settings.host):
            raise SettingsError(
                f"ARBITREX_AGENT__HOST={settings.host}: other machines are served encrypted only: set "
                "ARBITREX_AGENT__CERT_FILE, ARBITREX_AGENT__KEY_FILE and ARBITREX_AGENT__TOKEN, or leave 127.0.0.1"
            )
        return None
    if settings.token is None:
        raise SettingsError("ARBITREX_AGENT__TOKEN: with a certificate a token is needed: set it to a long secret")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"ARBITREX_AGENT__CERT_FILE={settings.cert_file}: cannot be used with its key ({error}); give PEM files"
        ) from error
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
