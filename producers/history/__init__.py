"""What a terminal still has of the past: ticks into a world of their own, and the terminal's own bars."""
