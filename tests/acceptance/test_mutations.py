"""Some thousand damaged records; `python -m tests.acceptance.mutations` takes a million."""

from __future__ import annotations

import pytest

from tests.acceptance import mutations


@pytest.mark.parametrize("seed", [1, 2])
def test_no_damaged_record_crashes_anything_or_goes_uncounted(seed: int) -> None:
    with mutations.quiet_panics():
        account, mutator = mutations.run(6_000, seed)
    assert not account.wrong, account.wrong[0]
    assert account.fates.total() == account.records
    assert min(mutator.done.values()) > 300
    assert account.compared > 3
    for fate in ("clean", "repeat", "control applied", "dead letter: decode", "dead letter: unknown_schema"):
        assert account.fates[fate] > 10
