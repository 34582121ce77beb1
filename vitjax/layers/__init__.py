"""Pure functions and Flax modules, one idea per file.

Letters in shape annotations and comments, here and everywhere:

    B  examples in the batch      H, W    height, width of an image or feature map, in pixels
    C  channels                   Ph, Pw  height, width of a patch, in pixels
    N  patch tokens               Gh, Gw  height, width of the grid of patches (N = Gh * Gw)
    P  prefix tokens (class, registers)
    T  all tokens (T = P + N); in attention to another sequence, T is its queries and S its keys
    D  width of the model         M       width of the MLP's hidden layer
    h  attention heads            d       width of one head (D = h * d)
    L  layers (blocks)            K       classes
"""
