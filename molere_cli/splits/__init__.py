"""The split between training and validation: how it is chosen, kept and checked."""
