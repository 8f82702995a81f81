"""The proof: bars derived once more from the ticks, by code of its own, and compared with what stands in the log."""
