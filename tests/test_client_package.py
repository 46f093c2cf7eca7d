"""The npm package in client/: its own tests, what it is built to, and what a package of it holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

import client_package
import npm


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    try:
        with client_package.held() as node:
            yield node
    except npm.Missing as missing:
        pytest.skip(str(missing))


def test_types_and_sizes_are_right_and_the_committed_files_are_those_that_it_builds(node):
    done = client_package.run(node, "build.mjs", "--check")
    assert done.returncode == 0, done.stdout


def test_its_own_tests_pass(node):
    assert client_package.run(node, "build.mjs", "--tests").returncode == 0
    files = sorted(str(file) for file in (client_package.FOLDER / "dist" / "test").glob("*.test.js"))
    assert len(files) >= 4
    done = client_package.run(node, "--test", *files)
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"# pass (\d+)", done.stdout)[0]) > 20


def test_a_package_holds_what_its_exports_name_and_nothing_else(node):
    done = client_package.run("npm", "pack", "--dry-run", "--json", "--loglevel=error")
    assert done.returncode == 0, done.stdout
    listed = json.loads(done.stdout[re.search(r"^[\[{]$", done.stdout, re.MULTILINE).start() :])
    package = listed[0] if isinstance(listed, list) else next(iter(listed.values()))
    found = {file["path"] for file in package["files"]}
    names = [path.name for path in (client_package.ROOT / "python" / "flask_mercure_sse" / "client").glob("*.js")]
    adapters = [name.removesuffix(".js") for name in names if name != "petasos-client.js"]
    expected = {f"dist/{name}" for name in names} | {f"dist/types/adapters/{name}.d.ts" for name in adapters}
    assert expected | {"package.json", "README.md", "LICENSE-MIT", "LICENSE-APACHE", "dist/types/index.d.ts"} <= found
    assert all(re.fullmatch(r"dist/[\w-]+\.js|dist/types/.*\.d\.ts|[\w-]+(\.md|\.json)?", path) for path in found), (
        found
    )


def test_a_program_imports_the_package_with_its_types(node, tmp_path):
    assert client_package.run(node, "build.mjs", "--dist").returncode == 0
    modules = tmp_path / "node_modules"
    modules.mkdir()
    (modules / "petasos-client").symlink_to(client_package.FOLDER)
    (tmp_path / "program.mts").write_text(
        'import { subscribe } from "petasos-client";\n'
        'import { MercureEventSource } from "petasos-client/event-source";\n'
        "const signal = AbortSignal.abort();\n"
        'const news = subscribe<{ paid: { total: number } }>("https://hub.example/", "/news", { signal });\n'
        'news.on("paid", (event) => event.json().total.toFixed());\n'
        "console.log(news.state, typeof MercureEventSource, news.topics.length);\n"
    )
    compiler = str(client_package.FOLDER / "node_modules" / ".bin" / "tsc")
    options = [
        "--ignoreConfig",
        "--strict",
        "--target",
        "es2022",
        "--module",
        "nodenext",
        "--lib",
        "es2022,dom,dom.iterable",
    ]
    compiled = client_package.run(compiler, *options, "--types", "", str(tmp_path / "program.mts"))
    assert compiled.returncode == 0, compiled.stdout
    done = client_package.run(node, str(tmp_path / "program.mjs"))
    assert done.stdout == "closed function 1\n"


def test_the_lock_file_names_no_registry():
    text = (client_package.ROOT / "client" / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert "http" not in re.sub(r'"(url|funding)": "[^"]*"', "", text)


def test_its_version_is_that_of_the_rest():
    version = json.loads((client_package.ROOT / "client" / "package.json").read_text())["version"]
    assert f'\nversion = "{version}"\n' in (client_package.ROOT / "Cargo.toml").read_text()
