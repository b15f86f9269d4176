"""One run: built, trained, checkpointed, selected, evaluated, written."""
