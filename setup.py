"""Which directories are which packages; everything else about the build is in pyproject.toml."""

from setuptools import setup

setup(packages=["rnam"], package_dir={"rnam": "rnam"}, package_data={"rnam": ["py.typed"]})
