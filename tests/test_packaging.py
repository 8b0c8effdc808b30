"""What is installed: the wheel and its metadata."""

import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]


SOURCES = ["rnam", "kernels", "tools", "licenses", "setup.py", "pyproject.toml", "README.md", "LICENSE"]


def copy_sources(to: Path) -> None:
    """A copy, since setuptools writes beside the sources that it builds."""
    to.mkdir()
    for name in SOURCES:
        subprocess.run(["cp", "-R", str(ROOT / name), str(to)], check=True)


def test_the_wheel_holds_the_package_and_its_kernels(tmp_path: Path) -> None:
    """`rnam.kernels` and no top-level `kernels`, a name that is taken; no tools; the marker of types; the licences."""
    source = tmp_path / "source"
    copy_sources(source)
    build = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in files}
    assert {name for name in top if not name.endswith(".dist-info")} == {"rnam"}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "rnam").rglob("*.py")}
    kernels = {f"rnam/{path.relative_to(ROOT)}" for path in (ROOT / "kernels").rglob("*.py")}
    pages = {f"rnam/report/{name}" for name in ("page.html", "page.css", "charts.js", "page.js")}
    assert {"rnam/py.typed"} | pages | sources | kernels <= set(files)
    licences = {Path(name).name for name in files if "/licenses/" in name and name.endswith(".txt")}
    assert licences == {path.name for path in (ROOT / "licenses").iterdir()}


def test_an_editable_install_works_in_the_folder_above(tmp_path: Path) -> None:
    """There a checkout called rnam is a folder of the package's name, which Python finds before an import hook."""
    copy_sources(tmp_path / "rnam")
    venv.create(tmp_path / "environment")
    python = tmp_path / "environment" / "bin" / "python"
    paths = {"base": str(tmp_path / "environment"), "platbase": str(tmp_path / "environment")}
    packages = Path(sysconfig.get_path("purelib", vars=paths))
    # torch and setuptools are those of this environment, without its own .pth files
    (packages / "these.pth").write_text(sysconfig.get_path("purelib"))
    install = ["-m", "pip", "--python", str(python), "install", "--no-build-isolation", "--no-deps", "-e", "rnam"]
    subprocess.run([sys.executable, *install], cwd=tmp_path, check=True, capture_output=True)
    program = "import rnam, rnam.kernels; rnam.minGRU; print(rnam.__file__); print(rnam.kernels.__file__)"
    out = subprocess.run([python, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    checkout = tmp_path / "rnam"
    assert out.stdout.split() == [str(checkout / "rnam" / "__init__.py"), str(checkout / "kernels" / "__init__.py")]


def test_triton_is_required_where_it_exists() -> None:
    (triton,) = [r for r in metadata.requires("rnam") or [] if r.startswith("triton")]
    assert 'sys_platform == "linux"' in triton
    assert 'platform_machine == "x86_64"' in triton
    assert 'platform_machine == "aarch64"' in triton


def test_the_kernels_import_nothing_of_the_package() -> None:
    for path in (ROOT / "kernels").rglob("*.py"):
        for line in path.read_text().splitlines():
            assert not line.startswith(("import rnam", "from rnam")), f"{path.name}: {line}"


def test_the_tools_import_nothing_of_the_project() -> None:
    project = re.compile(r"\s*(from|import) (rnam|benchmarks|examples|tests)\b")
    for path in (ROOT / "tools" / "ptx").rglob("*.py"):
        for line in path.read_text().splitlines():
            assert not project.match(line), f"{path.name}: {line}"
