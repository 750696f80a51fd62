"""Neo4j community as an embedded service, from Maven jars. The password is set once, when the data is made."""

from __future__ import annotations

from vision_app.stack.files import write_atomically
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.jars import classpath
from vision_app.stack.java import LOCALE, Java
from vision_app.stack.ports import LOOPBACK
from vision_app.stack.services import Progress, Service, exchange
from vision_app.stack.set_up import run_once
from vision_app.texts import say

USER = "neo4j"
DEFAULT_PASSWORD = "changeme"  # noqa: S105 - of a server that listens on the loopback interface only
OPTIONS = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
)
BOLT_HANDSHAKE = bytes.fromhex("6060B017") + bytes.fromhex("00000405") + bytes(12)  # "Bolt 5.4, please"


class Neo4j(Service):
    """Bolt only: no browser, no HTTP, no usage reports."""

    name = "neo4j"
    start_seconds = 90
    stop_seconds = 30

    def __init__(self, home: Home, instance: Instance, password: str = DEFAULT_PASSWORD) -> None:
        super().__init__(home, instance)
        self.password = password
        self.java = Java("neo4j", [], self.data)

    def prepare(self, progress: Progress) -> None:
        super().prepare(progress)
        self.java = Java("neo4j", classpath("neo4j", progress), self.data)
        write_atomically(self.data / "conf" / "neo4j.conf", self._configuration())
        if not (self.data / "data" / "dbms").exists():
            progress(say("setting the password"))
            admin = Java("neo4j", self.java.classpath)
            command = admin.command("org.neo4j.cli.AdminTool", "dbms", "set-initial-password", "--", self.password)
            folders = {**LOCALE, "NEO4J_HOME": str(self.data), "NEO4J_CONF": str(self.data / "conf")}
            run_once(command, say("setting Neo4j's password"), env=folders)

    def command(self) -> list[str]:
        folders = (f"--home-dir={self.data}", f"--config-dir={self.data / 'conf'}", "--console-mode")
        return self.java.command("org.neo4j.server.CommunityEntryPoint", *folders, options=OPTIONS)

    def environment(self) -> dict[str, str]:
        return dict(LOCALE)

    def ended(self) -> None:
        self.java.keep_archive()

    async def waiting_for(self) -> str | None:
        version = await exchange(self.port, BOLT_HANDSHAKE, 4)
        return None if any(version) else say("the Bolt port to open")

    @property
    def url(self) -> str:
        return f"bolt://{LOOPBACK}:{self.port}"

    def variables(self) -> dict[str, str]:
        return {"NEO4J_URI": self.url, "NEO4J_USER": USER, "NEO4J_PASSWORD": self.password}

    def _configuration(self) -> str:
        lines = {
            "server.default_listen_address": LOOPBACK,
            "server.bolt.listen_address": f"{LOOPBACK}:{self.port}",
            "server.bolt.advertised_address": f"{LOOPBACK}:{self.port}",
            "server.http.enabled": "false",
            "server.https.enabled": "false",
            "dbms.usage_report.enabled": "false",
            "server.memory.pagecache.size": "64m",
            "db.tx_log.rotation.retention_policy": "1 files",
            # The databases are closed before these waits begin; with the defaults every stop takes 10 s.
            "internal.dbms.bolt.netty_server_shutdown_quiet_period": 0,
            "internal.server.bolt.thread_pool_shutdown_wait_time": "1s",
        }
        return "".join(f"{key}={value}\n" for key, value in lines.items())
