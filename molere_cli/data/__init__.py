"""Datasets as the engine sees them: positions in, normalised batches out."""
