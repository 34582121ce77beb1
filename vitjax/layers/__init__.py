"""Pure functions and Flax modules, one idea a file, in the order of the story.

Letters in shape comments, here and everywhere:

    B  examples in the batch      H, W    height, width of an image or feature map, in pixels
    C  channels                   Ph, Pw  height, width of a patch, in pixels
    N  patch tokens               Gh, Gw  height, width of the grid of patches (N = Gh * Gw)
    P  prefix tokens (class, registers)
    T  tokens in all (T = P + N); S source, T target where a query looks at another sequence
    D  width of the model         M       width of the MLP's hidden layer
    h  attention heads            d       width of one head (D = h * d)
    L  layers (blocks)            K       classes
"""
