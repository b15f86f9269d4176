"""The repository itself: floors, docs, benchmarks, packages."""
