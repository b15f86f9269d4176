"""The tri-level loop and its parts."""
