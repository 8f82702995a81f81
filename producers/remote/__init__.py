"""A terminal on another machine: a small agent beside it, and a client that stands for the terminal here."""
