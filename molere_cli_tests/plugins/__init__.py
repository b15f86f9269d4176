"""What first-party plugins offer, and what third parties' may get wrong."""
