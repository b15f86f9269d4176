"""A run on disk: its folder, its files, its tables. No torch."""
