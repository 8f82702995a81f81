"""Replays: a range of one world's ``ticks.raw`` copied into a world of its own."""
