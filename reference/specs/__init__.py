"""What the kit knows of each equation: names, shapes, conventions, and the cases that tell right from wrong.

One file for each paper, under the name of the file with its printed sums; each has a tuple EQUATIONS.
"""
