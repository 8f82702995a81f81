"""What the registry refuses, with the codes that Confluent's clients know.

Source: https://docs.confluent.io/platform/current/schema-registry/develop/api.html#errors
"""

from __future__ import annotations

from schemas.errors import RegistryError


class RefusedError(RegistryError):
    """A refusal: an HTTP status, Confluent's code, a text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = code if code < 1_000 else code // 100  # noqa: PLR2004 - 40401 is a kind of 404
        self.message = message


def no_subject(subject: str) -> RefusedError:
    return RefusedError(40401, f"Subject '{subject}' not found.")


def no_version(version: int | str) -> RefusedError:
    return RefusedError(40402, f"Version {version} not found.")


def no_schema() -> RefusedError:
    return RefusedError(40403, "Schema not found")


def subject_soft_deleted(subject: str) -> RefusedError:
    return RefusedError(40404, f"Subject '{subject}' was soft deleted. Set permanent=true to delete permanently")


def subject_not_soft_deleted(subject: str) -> RefusedError:
    return RefusedError(40405, f"Subject '{subject}' was not deleted first before being permanently deleted")


def version_soft_deleted(subject: str, version: int) -> RefusedError:
    return RefusedError(
        40406, f"Subject '{subject}' Version {version} was soft deleted. Set permanent=true to delete permanently"
    )


def version_not_soft_deleted(subject: str, version: int) -> RefusedError:
    return RefusedError(
        40407, f"Subject '{subject}' Version {version} was not deleted first before being permanently deleted"
    )


def no_own_level(subject: str) -> RefusedError:
    return RefusedError(40408, f"Subject '{subject}' does not have subject-level compatibility configured")


def no_own_mode(subject: str) -> RefusedError:
    return RefusedError(40409, f"Subject '{subject}' does not have subject-level mode configured")


def incompatible(subject: str, why: list[str]) -> RefusedError:
    return RefusedError(
        409,
        f"Schema being registered is incompatible with an earlier schema for subject '{subject}', details: {why}",
    )


def invalid_schema(why: str) -> RefusedError:
    return RefusedError(42201, f"Invalid schema: {why}")


def invalid_version(version: str) -> RefusedError:
    return RefusedError(
        42202,
        f"The specified version '{version}' is not a valid version id. "
        'Allowed values are between [1, 2^31-1] and the string "latest"',
    )


def invalid_level(level: object) -> RefusedError:
    return RefusedError(
        42203,
        f"Invalid compatibility level {level!r}. Valid values are none, backward, forward, full, "
        "backward_transitive, forward_transitive, and full_transitive",
    )


def invalid_mode(mode: object) -> RefusedError:
    return RefusedError(42204, f"Invalid mode {mode!r}. Valid values are READWRITE and READONLY")


def read_only(subject: str) -> RefusedError:
    return RefusedError(42205, f"Subject '{subject}' is in read-only mode")


def store_failed(why: str) -> RefusedError:
    return RefusedError(50001, f"Error in the backend data store: {why}")
