"""Files, locks, errors, randomness, ranks, progress: nothing here knows of runs, data or methods."""
