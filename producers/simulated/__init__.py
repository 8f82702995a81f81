"""A market that does not exist, behind the protocol of a terminal."""
