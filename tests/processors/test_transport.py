"""What the transport does when aiokafka says nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers import aiokafka as driver

from processors.transport import BatchThread
from schemas.errors import BrokerError


async def test_a_fetcher_that_ended_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: Any, **__: Any) -> dict[Any, Any]:
        return {}

    async def broken() -> None:
        raise AttributeError

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_fetch_records", nothing)
    task = asyncio.create_task(broken())
    places = SimpleNamespace(assigned_partitions=set, is_assigned=lambda _: False)
    fetcher = SimpleNamespace(_fetch_task=task)
    consumer = SimpleNamespace(_subscription=places, _fetcher=fetcher, _closed=False)
    thread: Any = object.__new__(BatchThread)
    assert await thread._fetch_records(consumer, set()) == (0, {})
    await asyncio.wait([task])
    with pytest.raises(BrokerError, match="no longer fetches"):
        await thread._fetch_records(consumer, set())
    consumer._closed = True  # the worker itself has closed it
    assert await thread._fetch_records(consumer, set()) == (0, {})
    assert isinstance(task.exception(), AttributeError)
