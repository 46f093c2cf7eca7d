"""The installed package: all that a user has, and nothing else. Cargo, which built it, is not needed any more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import hubs
from clients import Request
from scripts import load

version = load("version")
PACKAGE = "flask-mercure-sse"
# Of glibc and of the compiler's run time, which each Linux with glibc has.
SYSTEM_LIBRARIES = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1"}


@pytest.fixture(scope="module")
def distribution() -> metadata.Distribution:
    return metadata.distribution(PACKAGE)


def run(code: str, **environment: str) -> str:
    """Runs a program with this interpreter, in which nothing is imported yet. Returns what it prints."""
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_flask_is_the_only_dependency(distribution):
    assert distribution.requires == ["flask>=3.0"]


def test_the_metadata_says_what_an_index_shows(distribution):
    data = distribution.metadata
    assert data["License-Expression"] == "MIT OR Apache-2.0"
    assert sorted(data.get_all("License-File")) == ["LICENSE-APACHE", "LICENSE-MIT"]
    assert data["Requires-Python"] == ">=3.10"
    assert data["Description-Content-Type"].startswith("text/markdown")
    assert data["Author"]
    addresses = dict(line.split(", ", 1) for line in data.get_all("Project-URL"))
    assert {"Documentation", "Source", "Changelog", "Issues"} <= addresses.keys()
    assert all(address.startswith("https://") for address in addresses.values())
    classifiers = data.get_all("Classifier")
    assert {"Framework :: Flask", "Operating System :: POSIX :: Linux", "Typing :: Typed"} <= set(classifiers)
    assert f"Programming Language :: Python :: 3.{sys.version_info.minor}" in classifiers


def test_the_description_has_no_link_that_leads_nowhere_on_an_index(distribution):
    """An index has none of the files of the repository, and the tag of a version keeps them as they were."""
    description = distribution.metadata.get_payload()
    assert "# Flask-Mercure-SSE" in description
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"(?ms)^```.*?^```", "", description))
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", description)
    assert len(targets) > 20
    assert len(pictures) == 1
    assert [target for target in targets if not target.startswith("https://")] == []
    repository = "https://github.com/flask-mercure-sse/flask-mercure-sse/"
    tag = f"v{version.current()}/"
    own = [target.removeprefix(repository) for target in targets if target.startswith(repository)]
    kinds = {target.partition(tag)[0] for target in own}
    assert kinds == {"blob/", "raw/"}
    assert all((hubs.ROOT / target.partition(tag)[2].partition("#")[0]).exists() for target in own)
    assert pictures[0].startswith(repository + "raw/")


def test_flask_and_pytest_find_the_entry_points(distribution):
    assert {(point.group, point.name) for point in distribution.entry_points} == {
        ("flask.commands", "mercure"),
        ("pytest11", "flask_mercure_sse"),
    }
    for point in distribution.entry_points:
        assert point.load() is not None


def test_no_file_lies_outside_of_the_package(distribution):
    files = {str(file) for file in distribution.files}
    folders = {file.split("/")[0] for file in files}
    metadata_folder = f"flask_mercure_sse-{distribution.version}.dist-info"
    assert folders == {"flask_mercure_sse", metadata_folder}
    assert {"flask_mercure_sse/py.typed", "flask_mercure_sse/_native.pyi"} <= files
    assert {f"{metadata_folder}/licenses/{licence}" for licence in ("LICENSE-MIT", "LICENSE-APACHE")} <= files
    kinds = {Path(file).suffix for file in files if file.startswith("flask_mercure_sse/")}
    assert kinds <= {".py", ".pyc", ".pyi", ".so", ".js", ".map", ".typed", ".html"}
    assert len([file for file in files if file.endswith(".so")]) == 1


def test_the_package_and_the_binary_have_the_version_of_the_workspace(distribution):
    current = version.current()
    assert distribution.version == current.for_python()
    assert run("import flask_mercure_sse; print(flask_mercure_sse.__version__)").strip() == str(current)
    binary = subprocess.run([hubs.petasos()[0], "--version"], capture_output=True, text=True, check=True)
    assert binary.stdout.strip() == f"petasos {current}"


def test_the_import_brings_no_module_that_flask_has_not_imported():
    """Its time is that of the package's own modules. Each server, each worker and each command waits for it."""
    code = """
import sys, flask
before = set(sys.modules)
import flask_mercure_sse
print(*sorted(name for name in set(sys.modules) - before if not name.startswith("flask_mercure_sse")))
"""
    # Modules that Flask imports in some versions of Python, and not in others.
    cheap = {"gc", "fcntl", "signal", "secrets", "uuid"}
    assert set(run(code).split()) - cheap == set()


def test_the_import_brings_nothing_that_only_some_applications_need():
    code = "import flask, flask_mercure_sse, sys; print(*sys.modules)"
    imported = set(run(code).split())
    of_some = ("doctor", "testing", "pytest_plugin", "server", "shape_documents")
    at_first_use = ("shapes", "models", "changes", "rows", "turbo", "datastar", "rendering")
    for name in (*of_some, *at_first_use):
        assert f"flask_mercure_sse.{name}" not in imported


def test_the_import_starts_no_thread():
    code = "import flask_mercure_sse, os; print(len(os.listdir('/proc/self/task')))"
    assert run(code).strip() == "1"


def test_the_compiled_module_needs_the_libraries_of_the_system_only():
    native = run("import flask_mercure_sse._native as native; print(native.__file__)").strip()
    listed = subprocess.run(["ldd", native], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"^\s(\S+) => ", listed, re.MULTILINE)) - {"linux-vdso.so.1"}
    assert needed <= SYSTEM_LIBRARIES


def test_the_server_runs_where_there_is_no_compiler(tmp_path):
    only_python = {"PATH": str(tmp_path), "CARGO_HOME": str(tmp_path), "HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "flask_mercure_sse.server", "--port", "0"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("CARGO")} | only_python,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if match := re.search(r"http://[\w.]+:\d+", line):
                break
        else:
            pytest.fail(f"the server does not say where it is: {''.join(lines)}")
        assert Request("GET", f"{match[0]}/healthz").status == 200
    finally:
        process.kill()
        process.communicate()
