"""Tools for work on the kernels. None of them is installed with the package."""
