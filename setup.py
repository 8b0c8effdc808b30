"""Which directories are which packages; everything else about the build is in pyproject.toml."""

from setuptools import setup

setup(
    packages=["rnam", "rnam.blocked", "rnam.explain", "rnam.kernels", "rnam.plot"],
    package_dir={"rnam": "rnam", "rnam.kernels": "kernels"},
    package_data={"rnam": ["py.typed"]},
)
