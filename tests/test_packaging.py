"""The wheel holds what the checkout holds, and works away from it."""

from __future__ import annotations

import configparser
import os
import pathlib
import shutil
import site
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(*command: str | os.PathLike[str], cwd: pathlib.Path) -> str:
    """Runs a command without Python's own variables; its output, or an assertion with it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    result = subprocess.run(
        [os.fspath(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{command}:\n{result.stdout}"
    return result.stdout


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files that git tracks, or would after `git add --all`."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so there is no list of tracked files to compare with")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    return [name for name in listed if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The wheel, built from a copy: setuptools leaves old modules in a checkout's build folder."""
    source = tmp_path_factory.mktemp("source")
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    run(sys.executable, *build, cwd=source)
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_every_tracked_file_of_the_packages_and_no_other(
    tracked: list[str], wheel: pathlib.Path
) -> None:
    # Modules, and what they read: a subpackage or a suite missing in setup.cfg works in the checkout only.
    folders = {"duelenv": "duelenv"} | {name: f"duelenv/{name}" for name in ("oracles", "agents", "experiments")}
    expected = set()
    for name in tracked:
        top, _, rest = name.partition("/")
        if top in folders:
            expected.add(f"{folders[top]}/{rest}")
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert files == expected


def test_the_wheel_works_in_another_environment_and_folder(wheel: pathlib.Path, tmp_path: pathlib.Path) -> None:
    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    # Only now the parent's packages: pip would take its duelenv for the one asked for. A path named in
    # a .pth file has its own .pth files ignored, so the parent's editable install stays out of sight.
    own_packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path)
    (pathlib.Path(own_packages.strip()) / "parent.pth").write_text(
        "\n".join(site.getsitepackages()) + "\n", encoding="utf-8"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    output = run(python, "-I", ROOT / "tests" / "wheel_smoke.py", cwd=elsewhere)
    assert str(environment) in output
    listing = run(environment / "bin" / "duelenv", "list", cwd=elsewhere)
    assert "thompson" in listing


def test_every_installed_dependency_is_pinned_to_one_version() -> None:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, separator, version = line.partition("==")
            assert separator, line
            assert "+" not in version, f"{line}: a local version exists on one machine only"
            pins[normalised(name)] = version
    assert pins["torch"] == "2.13.0"
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = metadata["options.extras_require"]
    required = metadata["options"]["install_requires"].split() + extras["dev"].split()
    assert {normalised(requirement.partition(">=")[0]) for requirement in required} <= set(pins)


def normalised(name: str) -> str:
    """The spelling under which package indexes compare names."""
    return name.lower().replace("_", "-").replace(".", "-")
