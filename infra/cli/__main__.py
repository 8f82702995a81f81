"""``python -m infra.cli``: the ``arbitrex`` command without its script."""

from infra.cli.main import main

main()
