"""Which directories are which packages; everything else about the build is in pyproject.toml."""

from setuptools import find_packages, setup
from setuptools.command.editable_wheel import editable_wheel


class EditableWheel(editable_wheel):
    """`pip install -e` puts the checkout on the path, where `rnam/__init__.py` finds `kernels/` beside itself.

    Two mapped directories would be found by an import hook instead. Python asks it last: in the folder above a checkout
    that is called rnam, `import rnam` would find that folder first.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        self.distribution.packages = PACKAGE
        self.distribution.package_dir = {"": "."}
        self.package_dir = self.distribution.package_dir


PACKAGE = ["rnam", *(f"rnam.{name}" for name in find_packages("rnam"))]
KERNELS = ["rnam.kernels", *(f"rnam.kernels.{name}" for name in find_packages("kernels"))]

setup(
    packages=PACKAGE + KERNELS,
    package_dir={"rnam": "rnam", "rnam.kernels": "kernels"},
    package_data={"rnam": ["py.typed"], "rnam.report": ["page.html", "page.css", "charts.js", "page.js"]},
    cmdclass={"editable_wheel": EditableWheel},
)
