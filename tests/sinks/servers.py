"""A real Redis server and an S3-compatible one on loopback, one each for a test run, started when first asked for."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis

from infra.ports import answers, free_port
from tests.support import eventually

BUCKET = "lake"


def redis_url(name: str) -> str:
    """A database of a Redis for each ``name`` of a test; skips the test where there is no server."""
    base = _redis()
    index = _index(name)
    if index not in _used:
        with contextlib.closing(redis.Redis.from_url(f"{base}/{index}")) as client:
            client.flushdb()
        _used.add(index)
    return f"{base}/{index}"


def s3_lake(name: str) -> dict[str, Any]:
    """Settings of a lake of its own for each ``name``."""
    options = {
        "AWS_ENDPOINT_URL": _s3(),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    return {"uri": f"s3://{BUCKET}/{name}", "storage_options": options}


_used: set[int] = set()
_names: dict[str, int] = {}


def _index(name: str) -> int:
    return _names.setdefault(name, len(_names) % 1_000)


@cache
def _redis() -> str:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server; Debian's package of that name has it")
    port, folder = free_port(), tempfile.mkdtemp(prefix="arbitrex-redis-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    where = ("--port", str(port), "--bind", "127.0.0.1", "--dir", folder)
    _start(["redis-server", *where, "--databases", "1000", "--appendonly", "no", "--save", ""], port)
    return f"redis://127.0.0.1:{port}"


@cache
def _s3() -> str:
    import boto3  # moto brings it

    port = free_port()
    _start([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port)
    url = f"http://127.0.0.1:{port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, **keys)
    client.create_bucket(Bucket=BUCKET)
    client.close()
    return url


def _start(command: list[str], port: int) -> None:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path(tempfile.gettempdir())
    )
    atexit.register(process.kill)
    eventually(lambda: answers("127.0.0.1", port), 30)
