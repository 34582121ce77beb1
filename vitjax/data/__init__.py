"""Reading data and making batches.

A source (`sources`, one module per kind) returns single examples by index. A transform (`transforms`) turns
an example into arrays of fixed shapes. `pipeline` makes batches of them with grain. `inputs` and `sentences`
put these together for a task.
"""
