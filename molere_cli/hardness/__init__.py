"""How hard each example is, and the target set chosen from that."""
