"""Architectures: a batch in, Features out. One paper a file; none of them knows a loss."""
