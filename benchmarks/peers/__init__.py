"""Other stream processors at the same work."""
