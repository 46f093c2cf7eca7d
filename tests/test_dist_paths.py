"""Files of a release name no path of the machine that built them, and lists of crates are the same each time."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from scripts import load

paths: ModuleType = load("paths")
BILL = {
    "serialNumber": "urn:uuid:one",
    "metadata": {"timestamp": "2026-01-01T00:00:00Z", "component": {"bom-ref": "path+file://{}/crates/hub#1.0.0"}},
    "components": [{"purl": "pkg:cargo/hub@1.0.0?download_url=file://{}"}],
}


def bill(**changed: str) -> str:
    return json.dumps(BILL | changed).replace("{}", str(paths.ROOT))


def write_wheel(path: Path, list_of_crates: str) -> Path:
    folder = "hub-1.0.0.dist-info"
    files = {
        "hub/__init__.py": "",
        f"{folder}/WHEEL": "Wheel-Version: 1.0\nGenerator: a\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{folder}/METADATA": "Metadata-Version: 2.4\nName: hub\nVersion: 1.0.0\n",
        f"{folder}/sboms/hub.cyclonedx.json": list_of_crates,
    }
    record = "".join(f"{name},sha256=0,0\n" for name in files) + f"{folder}/RECORD,,\n"
    with zipfile.ZipFile(path / "hub-1.0.0-py3-none-any.whl", "w") as wheel:
        for name, content in (files | {f"{folder}/RECORD": record}).items():
            wheel.writestr(zipfile.ZipInfo(name), content)
    return path / "hub-1.0.0-py3-none-any.whl"


@pytest.mark.parametrize("folder", ["repository", "cargo", "rustup"])
def test_a_file_with_a_path_of_this_machine_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RUSTUP_HOME", "/somewhere/rustup")
    monkeypatch.setenv("CARGO_HOME", "/somewhere/cargo")
    path = {"repository": f"{paths.ROOT}/crates/hub/src/lib.rs", "cargo": "/somewhere/cargo/registry/src/a/lib.rs"}
    named = path.get(folder, "/somewhere/rustup/toolchains/core.rs")
    (tmp_path / "petasos").write_bytes(b"\0\x7f" + named.encode() + b"\0/usr/lib/a\0")
    with pytest.raises(SystemExit, match="petasos has 1 paths of this machine in it") as refused:
        paths.check(tmp_path / "petasos")
    assert str(refused.value).endswith(named)


def test_a_file_without_one_is_taken(tmp_path):
    (tmp_path / "petasos").write_bytes(b"petasos/crates/hub/src/lib.rs\0crates/tokio/src/lib.rs\0/etc/petasos\0")
    assert paths.check(tmp_path / "petasos") == tmp_path / "petasos"


def test_the_compiler_is_told_to_name_no_folder_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("RUSTFLAGS", "-C target-cpu=x86-64-v2")
    assert paths.flags().startswith("-C target-cpu=x86-64-v2 --remap-path-prefix=")
    source = tmp_path / "main.rs"
    source.write_text('fn main() { println!("{}", file!()); }')
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.delenv("RUSTFLAGS")
    subprocess.run(["rustc", *paths.flags().split(), source, "-o", tmp_path / "main"], check=True)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
    assert printed == "petasos/main.rs\n"


def test_the_list_of_crates_in_a_wheel_has_no_path_and_is_the_same_each_time(tmp_path):
    built = []
    for number in ("one", "two"):
        (tmp_path / number).mkdir()
        wheel = write_wheel(tmp_path / number, bill(serialNumber=f"urn:uuid:{number}"))
        with pytest.raises(SystemExit, match=r"sboms/hub\.cyclonedx\.json"):
            paths.check(wheel)
        paths.clean_wheel(wheel)
        built.append(paths.check(wheel).read_bytes())
    assert built[0] == built[1]
    with zipfile.ZipFile(wheel) as archive:
        cleaned = json.loads(archive.read("hub-1.0.0.dist-info/sboms/hub.cyclonedx.json"))
    assert cleaned["metadata"] == {"component": {"bom-ref": "path+file:///crates/hub#1.0.0"}}


def test_a_cleaned_wheel_is_one_that_pip_installs(tmp_path):
    """Its RECORD has the sum of the list that was changed."""
    wheel = write_wheel(tmp_path, bill())
    paths.clean_wheel(wheel)
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read("hub-1.0.0.dist-info/sboms/hub.cyclonedx.json")
        record = archive.read("hub-1.0.0.dist-info/RECORD").decode()
    line = next(line for line in record.splitlines() if "sboms" in line)
    assert line.endswith(f",{len(content)}")
    assert "sha256=0," not in line
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", tmp_path / "to"]
    subprocess.run([*pip, wheel], check=True)
    assert (tmp_path / "to/hub-1.0.0.dist-info/sboms/hub.cyclonedx.json").read_bytes() == content
