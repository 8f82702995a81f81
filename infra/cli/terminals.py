"""Commands that serve a terminal to producers elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("terminal-agent", rich_help_panel="Components")(terminal_agent)
    app.command(rich_help_panel="Components")(simulate)


def terminal_agent() -> None:
    """Serve the MetaTrader 5 terminal of this machine to a producer on another.

    It listens on 127.0.0.1:18812 unless ARBITREX_AGENT__HOST and ARBITREX_AGENT__PORT say otherwise; other machines
    are served with ARBITREX_AGENT__CERT_FILE, ARBITREX_AGENT__KEY_FILE and ARBITREX_AGENT__TOKEN only. It offers
    quotes and history, nothing that trades. The producer has ARBITREX_PRODUCER__SOURCE=remote and
    ARBITREX_PRODUCER__REMOTE__ADDRESS, __TOKEN and __CA_FILE.
    """
    _serve(simulated=False)


def simulate(
    fault: Annotated[
        list[str] | None,
        typer.Option(help="KIND[=VALUE][@START+SECONDS], START being a time or everySECONDS.", show_default=False),
    ] = None,
    ticks: Annotated[
        Path | None,
        typer.Option(help="Play the ticks of a file, or of all in a folder, over and over.", show_default=False),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another market.", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(help="Where to listen; 0: anywhere.", show_default=False)] = None,
) -> None:
    """Run a simulated MetaTrader 5 terminal that a producer connects to, with the faults of real ones.

    Examples:
    arbitrex simulate --fault late=0.01 --fault pipe@every60+2

    arbitrex simulate --fault cold=30 --fault hang@2026-11-24T14:00:00Z+5

    arbitrex simulate --ticks EURUSD_202611.csv

    ARBITREX_PRODUCER__SOURCE=remote arbitrex producer

    Files are those that arbitrex import reads. A moment has the ticks that stand whole spans of the files before or
    behind it: their time of day stays, and with ARBITREX_SIMULATOR__START at the files' own time they are as they are.

    Kinds: account cold drop fail flood forget hang lag late memory offline pipe refused slow timeout zone.
    """
    _serve(simulated=True, fault=fault, ticks=ticks, seed=seed, port=port)


def _serve(
    *,
    simulated: bool,
    fault: list[str] | None = None,
    ticks: Path | None = None,
    seed: int | None = None,
    port: int | None = None,
) -> None:
    from infra.process import Process
    from infra.settings import load
    from producers.remote.agent import run

    settings = load()
    given = {"faults": tuple(fault) if fault else None, "ticks": ticks, "seed": seed}
    simulator = settings.simulator.model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    agent = settings.agent if port is None else settings.agent.model_copy(update={"port": port})
    settings = settings.model_copy(update={"simulator": simulator, "agent": agent})
    with Process(settings, "simulate" if simulated else "terminal-agent") as process:
        run(settings, process, simulated=simulated)
