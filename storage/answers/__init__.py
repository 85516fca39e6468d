"""What models said, how it spreads, what readers say of it, and how two versions compare."""
