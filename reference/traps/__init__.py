"""Known ways of getting each equation wrong, with what they do and where they were seen.

One file for each paper, under the name of the file with its printed sums; each has a tuple TRAPS. A trap is found by at
least one vector, or the vectors lack one.
"""
