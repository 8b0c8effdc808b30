"""The executor on hand-written PTX and on kernels that Triton compiles, and the reading of SASS."""
