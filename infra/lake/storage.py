"""Where a lake stands, as pyarrow's file systems reach it: a folder, or S3 and what speaks its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pyarrow.fs as filesystems
from pydantic import SecretStr

from schemas.errors import SettingsError

StorageOptions = Mapping[str, SecretStr]

_S3: Final = {
    "access_key_id": "access_key",
    "secret_access_key": "secret_key",
    "session_token": "session_token",
    "region": "region",
    "default_region": "region",
    "endpoint_url": "endpoint_override",
    "endpoint": "endpoint_override",
}
"""deltalake's options for S3 (in either case, ``AWS_`` before them or not), and pyarrow's."""
_TRIES: Final = 10
"""Of a request that S3 refuses, as deltalake's client has it; with pyarrow's three readers saw what soon passes."""


def revealed(options: StorageOptions | None) -> dict[str, str]:
    """Storage options as deltalake takes them: it wants to be told once more that an address ``http://…`` is meant."""
    found = {name: value.get_secret_value() for name, value in (options or {}).items()}
    plain = any("endpoint" in name.lower() and value.startswith("http://") for name, value in found.items())
    return ({"AWS_ALLOW_HTTP": "true"} if plain else {}) | found


def local_folder(uri: str) -> Path | None:
    """The folder that an address names; None for an object store."""
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    return None if "://" in uri else Path(uri)


def filesystem(uri: str, options: StorageOptions | None) -> filesystems.SubTreeFileSystem:
    """The files below an address. Raises SettingsError for a store of another kind."""
    if folder := local_folder(uri):
        return filesystems.SubTreeFileSystem(str(folder), filesystems.LocalFileSystem())
    parts = urlsplit(uri)
    if parts.scheme not in {"s3", "s3a"}:
        raise SettingsError(f"ARBITREX_LAKE__URI={uri}: this needs a folder or s3://…")
    given = {name.lower().removeprefix("aws_"): value for name, value in revealed(options).items()}
    found: dict[str, Any] = {_S3[name]: value for name, value in given.items() if name in _S3}
    if endpoint := found.get("endpoint_override"):
        found["scheme"] = urlsplit(endpoint).scheme or "https"
    found["retry_strategy"] = filesystems.AwsStandardS3RetryStrategy(max_attempts=_TRIES)
    return filesystems.SubTreeFileSystem(f"{parts.netloc}{parts.path}", filesystems.S3FileSystem(**found))
