"""Readers of tick files."""
