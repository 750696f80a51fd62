"""Runs docker-compose.yml and docker-compose.cluster.yml together, with the worker in its image.

Called by image_check.sh as image_check.py is: `cluster_check.py CONFIG.json IMAGE`, in a network and a mount namespace
of its own. Proves that the certificates, users and settings fit together, that nobody gets in without them, and that
posts are analyzed while one of three brokers is away.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from cluster_services import Cluster
from image_check import PICTURE, Check, expect
from image_services import Container, Failed, output, wait

PUBLISH = """
import asyncio, os, redis.asyncio as redis
from worker.event_bus import EventPublisher
from worker.events.schemas import MediaFile, VisionUploadedEventV1
async def main():
    media = MediaFile(sha256={sha!r}, s3_key={key!r}, mime_type="image/jpeg", size_bytes={size})
    event = VisionUploadedEventV1(post_id={post!r}, tenant_id="default", trace_id={post!r}, media_files=[media])
    client = redis.from_url(os.environ["REDIS_URL"], ssl_ca_certs=os.environ["REDIS_CA_FILE"])
    await EventPublisher(client).publish_event("posts.vision.uploaded", event)
    await client.aclose()
asyncio.run(main())
"""
USERS = {"kafka": 1000, "kafka-2": 1000, "kafka-3": 1000, "redis": 999, "postgres": 70}


def check_doors(run: Check, cluster: Cluster) -> None:
    trusted = ssl.create_default_context(cafile=str(cluster.certificates / "ca.pem"))
    with run.check("each key belongs to its service's user, who alone reads it"):
        for name, user in USERS.items():
            status = (cluster.certificates / name / "key.pem").stat()
            expect((status.st_uid, status.st_mode & 0o777) == (user, 0o400), f"{name}: {status}")
    with run.check("made again, the certificates stay"):
        expect("made" not in cluster.make_certificates(), "new ones were made")
    with run.check("Redis and Postgres, and every listener of every broker but the health check's: TLS only"):
        ports = [("redis", 6379), *((name, port) for name in cluster.brokers for port in (9092, 9093, 9094))]
        for host, port in ports:
            with socket.create_connection((host, port), 10) as raw, trusted.wrap_socket(raw, server_hostname=host):
                pass
        url = "postgresql://vision:changeme@postgres:5432/vision"
        expect(asyncio.run(_connects(f"{url}?sslmode=verify-full&sslrootcert={cluster.certificates}/ca.pem")), url)
        expect(not asyncio.run(_connects(f"{url}?sslmode=disable")), "Postgres accepts a connection without TLS")
    with run.check("a client without a certificate is no broker"):
        for port in (9093, 9094):
            expect(not _may_speak("kafka", port, trusted), f"port {port} takes anybody")
    with run.check("a wrong password is refused, the right one is not; twice made, the user stays"):
        expect(asyncio.run(_signs_in("changeme", trusted)), "the right password is refused")
        expect(not asyncio.run(_signs_in("wrong", trusted)), "any password will do")
        cluster.make_kafka_users()
        expect(asyncio.run(_signs_in("changeme", trusted)), "the right password is refused")


async def _connects(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url)
    except asyncpg.InvalidAuthorizationSpecificationError:
        return False
    await connection.close()
    return True


def _may_speak(host: str, port: int, trusted: ssl.SSLContext) -> bool:
    """Whether anything is answered to a client that shows no certificate."""
    try:
        with socket.create_connection((host, port), 10) as raw, trusted.wrap_socket(raw, server_hostname=host) as talk:
            talk.sendall(bytes((0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 255, 255, 0, 0, 0, 0)))
            return bool(talk.recv(4))
    except (ssl.SSLError, ConnectionError):
        return False


def _admin(password: str, trusted: ssl.SSLContext) -> AIOKafkaAdminClient:
    return AIOKafkaAdminClient(
        bootstrap_servers="kafka:9092,kafka-2:9092,kafka-3:9092",
        security_protocol="SASL_SSL",
        ssl_context=trusted,
        sasl_mechanism="SCRAM-SHA-512",
        sasl_plain_username="vision",
        sasl_plain_password=password,
    )


async def _signs_in(password: str, trusted: ssl.SSLContext) -> bool:
    admin = _admin(password, trusted)
    try:
        await admin.start()
    except KafkaError:
        return False
    finally:
        await admin.close()
    return True


async def _topics(trusted: ssl.SSLContext) -> tuple[dict[str, int], dict[str, str]]:
    """Of the worker's topics: the fewest copies in step of any partition; min.insync.replicas."""
    admin = _admin("changeme", trusted)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if name.startswith("vision")]
        told = await admin.describe_topics(names)
        copies = {topic["topic"]: min(len(p["isr"]) for p in topic["partitions"]) for topic in told}
        wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        settings: dict[str, str] = {}
        for answer in await admin.describe_configs(wanted):
            for resource in answer.resources:
                found = {entry[0]: entry[1] for entry in resource[4]}
                settings[resource[3]] = found["min.insync.replicas"]
        return copies, settings
    finally:
        await admin.close()


def check_posts(run: Check, cluster: Cluster, worker: Container) -> None:
    trusted = ssl.create_default_context(cafile=str(cluster.certificates / "ca.pem"))
    with run.check("every topic of the worker has three copies, two of which a write needs"):
        copies, settings = asyncio.run(_topics(trusted))
        expect(len(copies) > 5 and set(copies.values()) == {3}, str(copies))
        expect(set(settings.values()) == {"2"}, str(settings))
    with run.check("vision doctor, with the worker's settings: everything can be used"):
        told = worker.run("vision", "doctor")
        expect(told.returncode == 0, (told.stdout + told.stderr)[-1500:])
    with run.check("a picture is analyzed"):
        _analyze(cluster, worker, "three-brokers")
    with run.check("one of three brokers fails: a picture is analyzed"):
        cluster.stop_broker("kafka-3")
        _analyze(cluster, worker, "two-brokers")
        expect(not cluster.is_healthy("kafka-3"), "a broker that is away counts as healthy")
    with run.check("it comes back: healthy, and every copy in step"):
        cluster.start_broker_again("kafka-3")
        wait("every copy", lambda: set(asyncio.run(_topics(trusted))[0].values()) == {3})


def _analyze(cluster: Cluster, worker: Container, post: str) -> None:
    sha = output("sha256sum", str(PICTURE)).split()[0]
    key = f"media/default/{sha[:2]}/{sha}.jpg"
    cluster.call("rclone", "copyto", str(PICTURE), f"self:vision/{key}", environment=cluster.of["s3"]["environment"])
    program = PUBLISH.format(sha=sha, key=key, size=PICTURE.stat().st_size, post=post)
    ended = worker.run("python3", "-c", program)
    expect(ended.returncode == 0, ended.stderr[-800:])
    ask = ("curl", "-fsS", f"http://localhost:8000/api/v1/vision/posts/{post}")
    wait(
        "the analysis",
        lambda: '"provider": "gigachat"' in subprocess.run(ask, capture_output=True, text=True, check=False).stdout,
    )


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every started process is ended
    config, image = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
    folder = Path(tempfile.mkdtemp(prefix="cluster-check-"))
    folder.chmod(0o755)  # Postgres runs as a user without rights
    cluster = Cluster(config, image, folder)
    run = Check(cluster)
    try:
        with cluster.cleanup:
            cluster.start()
            check_doors(run, cluster)
            cluster.start_in_image("gigachat")
            worker, _ = cluster.start_in_image("worker")
            check_posts(run, cluster, worker)
    except Failed as fault:
        run.failures.append(str(fault))
        print(f"FAILED  {fault}")
    if run.failures:
        print(f"{len(run.failures)} failed; logs are in {folder}")
        return 1
    print(f"{run.count} checks passed")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
