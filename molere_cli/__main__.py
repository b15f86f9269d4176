"""`python -m molere_cli`: the `molere` command."""

from __future__ import annotations

from molere_cli.commands.app import main

if __name__ == "__main__":
    main()
