from __future__ import annotations

from producers.watermarks import STEP_MS, UNCALIBRATED_MS, Watermarks

NOW = 1_700_000_000_000


def test_while_ticks_come_it_follows_the_highest_seen_before_the_poll() -> None:
    marks = Watermarks(margin_ms=200, quiet_ms=2_000)
    marks.arrived(NOW - 50, NOW)
    assert marks.polled(NOW, NOW - 50) == NOW - 250
    marks.arrived(NOW + 1_500, NOW + 1_550)
    assert marks.polled(NOW + 1_600, NOW + 1_500) == NOW + 1_300


def test_in_a_quiet_market_it_follows_the_clock_less_the_age_of_live_ticks() -> None:
    marks = Watermarks(margin_ms=200, quiet_ms=2_000)
    marks.arrived(NOW - 3_000, NOW)  # the server is three seconds behind
    marks.polled(NOW, NOW - 3_000)
    assert marks.polled(NOW + 60_000, NOW - 3_000) == NOW + 60_000 - 3_000 - 2_000


def test_a_clock_that_is_behind_the_servers_is_corrected() -> None:
    marks = Watermarks(margin_ms=0, quiet_ms=2_000)
    marks.arrived(NOW + 5_000, NOW)
    marks.polled(NOW, NOW)
    assert marks.polled(NOW + 10_000, NOW + 5_000) == NOW + 10_000 + 5_000 - 2_000


def test_it_never_goes_back_and_moves_in_steps() -> None:
    marks = Watermarks(margin_ms=0, quiet_ms=2_000, last=NOW)
    marks.arrived(NOW, NOW)
    assert marks.polled(NOW, NOW - 1) is None
    assert marks.polled(NOW, NOW + STEP_MS - 1) is None
    assert marks.polled(NOW, NOW + STEP_MS) == NOW + STEP_MS
    assert marks.last == NOW + STEP_MS


def test_before_a_live_tick_has_told_how_far_the_clocks_are_apart_it_stays_far_behind() -> None:
    marks = Watermarks(margin_ms=200, quiet_ms=2_000)
    assert marks.polled(NOW, NOW - 8_000) == NOW - 8_200  # this machine's clock is eight seconds ahead
    assert Watermarks(margin_ms=200, quiet_ms=2_000).polled(NOW, -1) == NOW - UNCALIBRATED_MS - 2_000
