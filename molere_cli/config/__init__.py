"""From flags and files to a plan: settings by owner, read, checked and completed."""
