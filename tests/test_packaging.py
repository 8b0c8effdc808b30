"""What is installed: the wheel and its metadata."""

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_the_package_and_its_kernels(tmp_path: Path) -> None:
    """`rnam.kernels` and no top-level `kernels`, a name that is taken; the marker of types; the licences."""
    source = tmp_path / "source"
    names = ["rnam", "kernels", "licenses", "setup.py", "pyproject.toml", "README.md", "LICENSE"]
    source.mkdir()
    for name in names:  # a copy, since setuptools writes beside what it builds
        subprocess.run(["cp", "-R", str(ROOT / name), str(source)], check=True)
    build = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in files}
    assert {name for name in top if not name.endswith(".dist-info")} == {"rnam"}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "rnam").rglob("*.py") if "kernels" not in path.parts}
    assert {"rnam/py.typed", "rnam/kernels/min_gru_fwd.py"} | sources <= set(files)
    licences = {Path(name).name for name in files if "/licenses/" in name and name.endswith(".txt")}
    assert licences == {path.name for path in (ROOT / "licenses").iterdir()}


def test_triton_is_required_where_it_exists() -> None:
    (triton,) = [r for r in metadata.requires("rnam") or [] if r.startswith("triton")]
    assert 'sys_platform == "linux"' in triton
    assert 'platform_machine == "x86_64"' in triton
    assert 'platform_machine == "aarch64"' in triton


def test_the_kernels_import_nothing_of_the_package() -> None:
    for path in (ROOT / "kernels").glob("*.py"):
        for line in path.read_text().splitlines():
            assert not line.startswith(("import rnam", "from rnam")), f"{path.name}: {line}"


def test_make_runs_every_test_of_the_interpreter_in_it() -> None:
    """A file that is missing from the list would be skipped in both processes."""
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (listed,) = (line.split("=")[1].split() for line in makefile.splitlines() if line.startswith("INTERPRETED"))
    marked = [
        path.relative_to(ROOT)
        for path in (ROOT / "tests").rglob("test_*.py")
        if "mark." + "interpreter" in path.read_text()
    ]
    assert len(marked) > 10
    run = [ROOT / name for name in listed]
    assert not [str(path) for path in marked if not any((ROOT / path).is_relative_to(name) for name in run)]
