"""`scripts/install.py` and `scripts/platform_check.py`: what the two commands do before our packages are installed.

The index is a local server with a folder that has a package of a few bytes; nothing is downloaded.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import http.server
import importlib.util
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

ROOT = Path(__file__).parents[2]
NAME = "vision-test-dependency"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_wheel(folder: Path, name: str, requires: str = "") -> str:
    """A wheel with one module. Returns its SHA-256."""
    module, version = name.replace("-", "_"), "1.0"
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": "value = 1\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for path, text in files.items()
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(file, text)
    (folder / "index.html").write_text(f'<a href="{path.name}">{path.name}</a>')
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return make_clone(tmp_path)


def make_clone(tmp_path: Path) -> Path:
    """A checkout with the install script, two locks and a project that needs no external build backend."""
    root = tmp_path / "clone"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "install.py", root / "scripts")
    index = tmp_path / "index"
    backend = (
        "import pathlib, zipfile\n"
        "def build_editable(folder, config_settings=None, metadata_directory=None):\n"
        "    name = 'project-1.0-py3-none-any.whl'\n"
        "    with zipfile.ZipFile(pathlib.Path(folder) / name, 'w') as archive:\n"
        "        archive.writestr('project.py', 'value = 2\\n')\n"
        "        info, head = 'project-1.0.dist-info', 'Metadata-Version: 2.1\\nName: project\\nVersion: 1.0\\n'\n"
        "        archive.writestr(f'{info}/METADATA', head)\n"
        "        archive.writestr('project-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nTag: py3-none-any\\n')\n"
        "        archive.writestr('project-1.0.dist-info/RECORD', 'project.py,,\\n')\n"
        "    return name\n"
        "def build_wheel(*_): raise SystemExit('only a link is wanted')\n"
    )
    (root / "backend.py").write_text(backend)
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "project"\nversion = "1.0"\n'
    )
    one = make_wheel(index / NAME, NAME, "Requires-Dist: never-to-be-asked-for>=1\n")
    two = make_wheel(index / "vision-test-more", "vision-test-more")
    (root / "requirements-demo.lock").write_text(f"{NAME}==1.0 \\\n    --hash=sha256:{one}\n")
    (root / "requirements.lock").write_text(
        f"{NAME}==1.0 --hash=sha256:{one}\nvision-test-more==1.0 --hash=sha256:{two}\n"
    )
    return root


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def index(tmp_path: Path, authority: trustme.CA, clone: Path) -> Iterator[str]:
    with serve_index(tmp_path, authority) as address:
        yield address


@contextlib.contextmanager
def serve_index(tmp_path: Path, authority: trustme.CA) -> Iterator[str]:
    """The address of the index. Its certificate authority is unknown."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "index"))
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


class Installer:
    """Runs the script in the clone as a user would, with a cache of its own."""

    def __init__(self, clone: Path, index: str, tmp_path: Path) -> None:
        self.clone = clone
        unwanted = ("PIP_", "SSL_CERT", "REQUESTS_CA", "CURL_CA")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        self.environment |= {"PIP_INDEX_URL": index, "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
        self.environment |= {"PIP_CACHE_DIR": str(tmp_path / "cache"), "HOME": str(tmp_path), "NO_PROXY": "localhost"}

    def start(self, lock: str = "requirements-demo.lock", **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, "scripts/install.py", lock]
        environment = {**self.environment, **variables}
        return subprocess.Popen(
            command, cwd=self.clone, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, lock: str = "requirements-demo.lock", **variables: str) -> tuple[int, str, str]:
        process = self.start(lock, **variables)
        out, err = process.communicate(timeout=200)
        return process.returncode, out, err

    def has(self, module: str) -> bool:
        python = self.clone / ".venv" / "bin" / "python"
        return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def installer(clone: Path, index: str, tmp_path: Path, authority: trustme.CA) -> Installer:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return Installer(clone, index, tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Path:
    """A clone in which the lock of the demo is installed. Making an environment takes most of a test's time."""
    folder = tmp_path_factory.mktemp("made")
    clone = make_clone(folder)
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    with serve_index(folder, authority) as address:
        code, _, err = Installer(clone, address, folder).run(SSL_CERT_FILE=str(folder / "authority.pem"))
    assert code == 0, err
    return clone


@pytest.fixture
def installed(made: Path, installer: Installer) -> Installer:
    """The installer in a copy of that clone: it only has to add what `requirements.lock` has beyond the demo's."""
    copy = installer.clone / ".venv"
    shutil.copytree(made / ".venv", copy, symlinks=True)
    stamp = copy / ".installed"
    stamp.write_text(stamp.read_text().replace(str(made), str(installer.clone)))
    assert not installer.has("vision_test_more")
    return installer


@pytest.fixture
def trusted(tmp_path: Path) -> dict[str, str]:
    return {"SSL_CERT_FILE": str(tmp_path / "authority.pem")}


def test_each_lock_adds_its_own_and_a_second_time_nothing_is_done(
    installer: Installer, trusted: dict[str, str]
) -> None:
    code, out, err = installer.run(**trusted)
    assert code == 0, err
    assert "making .venv" in out
    assert "packages: installed 1, " in out
    assert installer.has("vision_test_dependency")
    assert installer.has("project")
    assert not installer.has("vision_test_more")
    code, out, err = installer.run("requirements.lock", **trusted)
    assert (code, "making" in out) == (0, False), err
    assert installer.has("vision_test_more")
    for lock in ("requirements-demo.lock", "requirements.lock"):
        offline = {"PIP_INDEX_URL": "https://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1"}
        assert installer.run(lock, **offline) == (0, "", "")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"])
def test_an_authority_of_the_companys_own(installed: Installer, trusted: dict[str, str], variable: str) -> None:
    code, _, err = installed.run("requirements.lock", **{variable: trusted["SSL_CERT_FILE"]})
    assert code == 0, err
    assert installed.has("vision_test_more")


def test_an_unknown_authority_names_both_variables(installed: Installer) -> None:
    code, out, err = installed.run("requirements.lock")
    assert code == 1, out
    assert "SSL_CERT_FILE=/path/ca.pem or REQUESTS_CA_BUNDLE=/path/ca.pem" in err
    assert "run the same command again" in err


def test_a_variable_that_names_no_file(installed: Installer, tmp_path: Path) -> None:
    code, _, err = installed.run("requirements.lock", SSL_CERT_FILE=str(tmp_path / "absent.pem"))
    assert code == 1
    assert "absent.pem is no file" in err


def test_an_unreachable_index_is_reported_with_what_to_check(installed: Installer) -> None:
    code, _, err = installed.run("requirements.lock", PIP_INDEX_URL="https://127.0.0.1:1")
    assert code == 1
    assert "HTTPS_PROXY, NO_PROXY" in err
    assert "PIP_INDEX_URL" in err


def test_another_file_than_the_locked_one_is_refused(installed: Installer, trusted: dict[str, str]) -> None:
    lock = installed.clone / "requirements.lock"
    lock.write_text(f"vision-test-more==1.0 --hash=sha256:{'0' * 64}\n")
    code, _, err = installed.run("requirements.lock", **trusted)
    assert code == 1
    assert "not the one this version was tested with" in err


def test_variables_that_mislead_pip_are_ignored(installed: Installer, trusted: dict[str, str], tmp_path: Path) -> None:
    astray = {"PIP_TARGET": str(tmp_path / "astray"), "PIP_USER": "1", "PYTHONPATH": "/nowhere"}
    code, _, err = installed.run("requirements.lock", **trusted, **astray)
    assert code == 0, err
    assert installed.has("vision_test_more")
    assert not (tmp_path / "astray").exists()


def test_cut_off_in_the_middle_the_next_start_begins_with_an_empty_environment(
    installer: Installer, trusted: dict[str, str]
) -> None:
    process = installer.start(**trusted)
    python = installer.clone / ".venv" / "bin" / "python"
    deadline = time.monotonic() + 60
    while not python.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Run the same command again" in err
    assert not (installer.clone / ".venv" / ".installed").exists()
    (installer.clone / ".venv" / "left-behind").touch()
    code, _, err = installer.run(**trusted)
    assert code == 0, err
    assert not (installer.clone / ".venv" / "left-behind").exists()
    assert installer.has("vision_test_dependency")


def test_two_at_once(installer: Installer, trusted: dict[str, str]) -> None:
    both = [installer.start(**trusted), installer.start(**trusted)]
    told = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sum("making .venv" in out for out, _ in told) == 1
    assert installer.has("project")


def test_a_changed_lock_is_installed(installed: Installer, trusted: dict[str, str]) -> None:
    (installed.clone / "requirements-demo.lock").write_text((installed.clone / "requirements.lock").read_text())
    assert installed.run(**trusted)[0] == 0
    assert installed.has("vision_test_more")


# --- where it cannot be installed -------------------------------------------------------------------------------------


def _no_glibc(_: str) -> str:
    raise ValueError("unrecognized configuration name")  # as musl's


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sys.platform": "win32"}, r"Windows itself is not supported\. Run it in WSL"),
        ({"sys.platform": "freebsd14"}, r"The system freebsd14 is not supported"),
        ({"sys.version_info": (3, 10, 4)}, r"Python 3\.10 is not supported, 3\.11 to 3\.14 are: .*make PYTHON="),
        ({"sys.version_info": (3, 15, 0)}, r"Python 3\.15 is not supported"),
        ({"struct.calcsize": lambda _: 4}, r"32-bit"),
        ({"platform.machine": lambda: "riscv64"}, r"riscv64 is not supported"),
        ({"platform.machine": lambda: "aarch64"}, r"linux aarch64: faust-streaming has no wheel"),
        ({"os.confstr": lambda _: "glibc 2.17"}, r"glibc 2\.17 is too old"),
        ({"os.confstr": _no_glibc}, r"no glibc \(Alpine"),
    ],
)
def test_an_unsupported_place_gets_one_sentence(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], sentence: str
) -> None:
    check = load("platform_check")
    with monkeypatch.context() as there:
        there.setattr(sys, "platform", "linux")  # patched: the machine's
        there.setattr(check.platform, "machine", lambda: "x86_64")  # patched: the machine's
        for name, value in changes.items():
            module, _, attribute = name.partition(".")
            there.setattr(getattr(check, module), attribute, value)  # patched: the machine's
        found = check.problem("requirements-demo.lock")
    assert re.search(sentence, found or ""), found
    assert "\n" not in found


def test_this_machine_is_supported() -> None:
    assert load("platform_check").problem("requirements.lock") is None


def test_the_check_is_the_first_thing_that_both_commands_do(tmp_path: Path) -> None:
    """As with a Python that is too old: one sentence at once, and nothing is created."""
    python = tmp_path / "python3"
    python.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10, 0); sys.argv = sys.argv[1:]; '
        'exec(open(sys.argv[0]).read())" "$@"\n'
    )
    python.chmod(0o755)
    for target in ("demo", "test"):
        done = subprocess.run(
            ["make", "-f", ROOT / "Makefile", "-C", ROOT, target, f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert "Python 3.10 is not supported" in done.stderr
        assert not (tmp_path / "venv").exists()
