"""The types of the compiled module are those that its stub says."""

import subprocess
import sys


def test_the_stub_and_the_compiled_module_agree(tmp_path):
    command = [sys.executable, "-m", "mypy.stubtest", "flask_mercure_sse._native"]
    # In a directory of its own: beside the sources, the checker would find the package twice.
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout
