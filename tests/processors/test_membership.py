"""A worker's name in its group is its own while it runs, and its successor's afterwards."""

from contextlib import ExitStack
from pathlib import Path

from infra.settings import Settings
from processors.membership import Seat


def test_a_successor_takes_the_name_and_nobody_else_has_it(tmp_path: Path) -> None:
    with ExitStack() as open_files:

        def taken(home: str, world: str) -> Seat:
            seat = Seat.take(Settings(home=tmp_path / home, world=world))
            open_files.callback(seat.lock.close)
            return seat

        first, *others = taken("one", "main"), taken("one", "main"), taken("two", "main"), taken("one", "other")
        assert len({first.name, *(seat.name for seat in others)}) == 4
        first.lock.close()
        assert taken("one", "main").name == first.name
