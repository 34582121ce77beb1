"""Where batches come from.

A source (`sources`, with a file for each kind) gives single examples by index, a transform
(`images`) turns one into arrays of fixed shapes, and `pipeline` makes batches of them.
"""
