"""What computes a call: the Triton kernels ("triton"), blocks of plain PyTorch that stay in a CPU's cache ("torch"), or
the formulas as they stand ("reference").

choice      which of them takes a call, and why
calls       the records that travel from `rnam.functional` to a launcher
cells       one row a recurrent cell: its gates and slopes on each of the three
flags       masks and resets as one byte a step
operator    `torch.ops.rnam.*` and its derivative rules, once for every operator
min_gru, linear, feed_forward, block, projected, scan
            one operator a file, and the function that `rnam.functional` calls
blocks/     the launchers for a CPU; those for a GPU are `rnam.kernels`
"""
