"""Models made smaller: quantised, pruned, with modules replaced. One paper a file; none of them knows a loss."""
