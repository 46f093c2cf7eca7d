"""The files that an installation of the hub has, and the archives that hold them: a tarball, a .deb and an .rpm.

Compiles nothing: ``tools/dist.py`` gives it a binary. The manual page and the completions come from the binary itself,
so they name each setting that it has. The same files always make the same archive, with the time of the last commit."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cache
from hashlib import md5
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
LICENCES = ("LICENSE-MIT", "LICENSE-APACHE")
MAINTAINER = "flask-mercure-sse <flask-mercure-sse@users.noreply.github.com>"
SITE = "https://github.com/flask-mercure-sse/flask-mercure-sse"
GLIBC_MIN = "2.28"
"""Debian 10, Ubuntu 20.04 and Red Hat 8 have it."""

PREFIXES = {
    "deb": {"zsh": "usr/share/zsh/vendor-completions/_petasos"},
    "rpm": {"zsh": "usr/share/zsh/site-functions/_petasos"},
}
"""Where the places of files differ between the two kinds of packages."""


@dataclass(frozen=True)
class Texts:
    """What the binary says about itself."""

    manual: str
    completions: dict[str, str]
    """By the name of the shell."""

    @classmethod
    def ask(cls, binary: Path) -> Texts:
        """``binary`` runs on this machine. The one that is packed may be for another processor."""

        def run(*arguments: str) -> str:
            return subprocess.run([binary, *arguments], capture_output=True, text=True, check=True).stdout

        return cls(run("man"), {shell: run("completions", shell) for shell in ("bash", "zsh", "fish")})


@dataclass(frozen=True)
class Hub:
    """A binary for one target, and the texts that go with it."""

    version: str
    """The version of the workspace, as Cargo writes it."""
    target: str
    """A Rust triple."""
    binary: Path
    texts: Texts
    notices: str = ""
    """The licences of the crates that are compiled in."""


def check_glibc(binary: Path) -> Path:
    """Looks for the versions of glibc that a binary asks for. The packages say that ``GLIBC_MIN`` is enough.

    Raises:
        SystemExit: it asks for a later one."""
    named = re.findall(rb"\0GLIBC_(\d+)\.(\d+)", binary.read_bytes())
    later = [version for version in named if [*map(int, version)] > [*map(int, GLIBC_MIN.split("."))]]
    if later:
        found = ", ".join(sorted({b".".join(version).decode() for version in later}))
        raise SystemExit(f"{binary.name} asks for glibc {found}: its packages say that {GLIBC_MIN} is enough")
    return binary


def package_version(cargo_version: str) -> str:
    """``1.0.0-rc.1`` as dpkg and rpm sort it before ``1.0.0``."""
    return cargo_version.replace("-", "~", 1)


@cache
def epoch() -> str:
    """The time of the last commit, in seconds; where there is no repository, that of the changelog."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return given
    log = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    return log.stdout.strip() or str(int((ROOT / "CHANGELOG.md").stat().st_mtime))


def tarball(hub: Hub, out: Path) -> Path:
    """One folder that needs no installation: the binary is in it, and the rest lies beside."""
    name = f"petasos-{hub.version}-{hub.target}"
    files = {
        "petasos": hub.binary.read_bytes(),
        "README.md": (ROOT / "python" / "PYPI.md").read_bytes(),
        "petasos.toml": (DEPLOY / "petasos.toml").read_bytes(),
        "petasos.service": (DEPLOY / "petasos.service").read_bytes(),
        "petasos.socket": (DEPLOY / "petasos.socket").read_bytes(),
        "petasos.1": hub.texts.manual.encode(),
        "completions/petasos.bash": hub.texts.completions["bash"].encode(),
        "completions/_petasos": hub.texts.completions["zsh"].encode(),
        "completions/petasos.fish": hub.texts.completions["fish"].encode(),
        "THIRD-PARTY-LICENSES.txt": hub.notices.encode(),
    } | {licence: (ROOT / licence).read_bytes() for licence in LICENCES}
    path = out / f"{name}.tar.gz"
    folder = out / f".{name}"
    write(folder / name, files, executable=("petasos",))

    def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = int(epoch())
        return entry

    try:
        with (
            path.open("wb") as raw,
            gzip.GzipFile("", "wb", 9, raw, mtime=int(epoch())) as compressed,
            tarfile.open(fileobj=compressed, mode="w", format=tarfile.GNU_FORMAT) as archive,
        ):
            archive.add(folder / name, name, filter=owned_by_root)
    finally:
        shutil.rmtree(folder)
    return path


def installed(hub: Hub, kind: str) -> dict[str, bytes]:
    """The files of a package, by their paths below the root of a system. ``kind``: ``deb`` or ``rpm``."""
    documents = "usr/share/doc/petasos"
    files = {
        "usr/bin/petasos": hub.binary.read_bytes(),
        "etc/petasos/petasos.toml": (DEPLOY / "petasos.toml").read_bytes(),
        "usr/lib/systemd/system/petasos.service": service().encode(),
        "usr/lib/systemd/system/petasos.socket": (DEPLOY / "petasos.socket").read_bytes(),
        "usr/lib/sysusers.d/petasos.conf": (DEPLOY / "petasos.sysusers").read_bytes(),
        "usr/share/man/man1/petasos.1.gz": compress(hub.texts.manual.encode()),
        "usr/share/bash-completion/completions/petasos": hub.texts.completions["bash"].encode(),
        PREFIXES[kind]["zsh"]: hub.texts.completions["zsh"].encode(),
        "usr/share/fish/vendor_completions.d/petasos.fish": hub.texts.completions["fish"].encode(),
        f"{documents}/third-party-licenses.gz": compress(hub.notices.encode()),
    }
    if kind == "deb":
        files[f"{documents}/copyright"] = copyright_file().encode()
        files[f"{documents}/changelog.gz"] = compress((ROOT / "CHANGELOG.md").read_bytes())
        files[f"{documents}/changelog.Debian.gz"] = compress(debian_changelog(hub.version).encode())
    else:
        files |= {f"{documents}/{licence}": (ROOT / licence).read_bytes() for licence in LICENCES}
        files[f"{documents}/CHANGELOG.md"] = (ROOT / "CHANGELOG.md").read_bytes()
    return files


def service() -> str:
    """The unit, with the path of the binary in a package.

    It also works under systemd before 253, where a reload is a signal and ``systemctl reload`` does not wait for it."""
    text = (DEPLOY / "petasos.service").read_text(encoding="utf-8")
    # What it begins with says how to install it by hand.
    text = text[text.index("[Unit]") :]
    for former, new in (
        ("/usr/local/bin/petasos", "/usr/bin/petasos"),
        ("Type=notify-reload\n", "Type=notify\nExecReload=/bin/kill -HUP $MAINPID\n"),
    ):
        assert text.count(former) == 1, f"deploy/petasos.service has no {former!r}, or two"
        text = text.replace(former, new)
    return text


def deb(hub: Hub, out: Path, compression: str = "xz") -> Path:
    """Builds a package for dpkg. ``compression``: xz, or none."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[hub.target.split("-")[0]]
    debian_version = f"{package_version(hub.version)}-1"
    path = out / f"petasos_{debian_version}_{architecture}.deb"
    folder = out / f".{path.name}"
    files = installed(hub, "deb")
    libc = f"libc6 (>= {GLIBC_MIN}), " if hub.target.endswith("-gnu") else ""
    control = {
        "Package": "petasos",
        "Version": debian_version,
        "Architecture": architecture,
        "Maintainer": MAINTAINER,
        "Installed-Size": str(sum(len(content) // 1024 + 1 for content in files.values())),
        "Depends": libc + "systemd | systemd-standalone-sysusers | systemd-sysusers",
        "Recommends": "ca-certificates",
        "Section": "httpd",
        "Priority": "optional",
        "Homepage": SITE,
        "Description": "hub compatible with the Mercure protocol\n"
        " petasos pushes updates to browsers over Server-Sent Events. It is compatible\n"
        " with the Mercure protocol, keeps a history for subscribers that reconnect,\n"
        " and keeps its log in memory, in a file, or in Redis, NATS or PostgreSQL for\n"
        " several nodes.",
    }
    scripts = {name: (DEPLOY / "debian" / name).read_bytes() for name in ("postinst", "prerm", "postrm")}
    try:
        write(folder, files, executable=("usr/bin/petasos",))
        write(
            folder / "DEBIAN",
            scripts
            | {
                "control": "".join(f"{name}: {value}\n" for name, value in control.items()).encode(),
                "conffiles": b"/etc/petasos/petasos.toml\n",
                "md5sums": md5sums(files),
            },
            executable=tuple(scripts),
        )
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", folder, path],
            env={**os.environ, "SOURCE_DATE_EPOCH": epoch()},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return path


def rpm(hub: Hub, out: Path) -> Path:
    """Builds a package for rpm with ``rpmbuild``, which Debian has, too."""
    architecture = hub.target.split("-")[0]
    path = out / f"petasos-{package_version(hub.version)}-1.{architecture}.rpm"
    folder = out / f".{path.name}"
    try:
        write(folder / "files", installed(hub, "rpm"), executable=("usr/bin/petasos",))
        definitions = {
            "petasos_version": package_version(hub.version),
            "petasos_files": str(folder / "files"),
            "_topdir": str(folder / "build"),
            "_rpmdir": str(out),
            "_rpmfilename": path.name,
        }
        defined = [word for name, value in definitions.items() for word in ("--define", f"{name} {value}")]
        options = ["--quiet", "--nodeps", "--target", f"{architecture}-linux"]
        subprocess.run(
            ["rpmbuild", "-bb", *options, *defined, DEPLOY / "rpm" / "petasos.spec"],
            env={**os.environ, "SOURCE_DATE_EPOCH": epoch()},
            check=True,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return path


def write(folder: Path, files: dict[str, bytes], executable: tuple[str, ...] = ()) -> None:
    """Writes files with the modes that they shall have, whatever the umask."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if name in executable else 0o644)
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (int(epoch()), int(epoch())))
        if path.is_dir():
            path.chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)


def compress(content: bytes) -> bytes:
    return gzip.compress(content, 9, mtime=0)


def md5sums(files: dict[str, bytes]) -> bytes:
    """What ``dpkg --verify`` compares with. Settings are not in it: they may change."""
    lines = (
        f"{md5(content, usedforsecurity=False).hexdigest()}  {name}\n"
        for name, content in sorted(files.items())
        if not name.startswith("etc/")
    )
    return "".join(lines).encode()


def copyright_file() -> str:
    """The licences as Debian's tools read them."""
    mit = (ROOT / "LICENSE-MIT").read_text(encoding="utf-8").strip().splitlines()
    holders = next(line for line in mit if line.startswith("Copyright"))
    text = "\n".join(f" {line}" if line else " ." for line in mit)
    return (
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        f"Upstream-Name: petasos\nSource: {SITE}\n"
        "Comment: third-party-licenses.gz has the licences of the libraries that are compiled in.\n\n"
        f"Files: *\nCopyright: {holders.removeprefix('Copyright ').removeprefix('(c) ')}\n"
        "License: Expat or Apache-2.0\n\n"
        f"License: Expat\n{text}\n\n"
        "License: Apache-2.0\n On Debian systems, the text is in /usr/share/common-licenses/Apache-2.0.\n"
    )


def debian_changelog(cargo_version: str) -> str:
    date = subprocess.run(
        ["date", "--utc", "--rfc-email", f"--date=@{epoch()}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return (
        f"petasos ({package_version(cargo_version)}-1) unstable; urgency=medium\n\n"
        f"  * Version {cargo_version}: see changelog.gz.\n\n -- {MAINTAINER}  {date}\n"
    )
