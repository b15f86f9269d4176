"""The plugin line: what crosses it, the hooks, and the registry of what plugins offer."""
