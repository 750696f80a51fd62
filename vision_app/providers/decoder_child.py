"""The process in which untrusted bytes are decoded: `decoder_child PARENT_PID MEMORY_BYTES CPU_SECONDS`.

It limits itself before it reads anything: memory, processor time per picture, no core dumps. Once its imports are done,
it can open no further file, socket or pipe. It ends when its standard input ends or its parent dies in any way.
`decoders.py` starts it, sets the deadline and replaces it.

A request and a reply each consist of a header (two numbers: the lengths of the rest), a JSON object, and bytes. Neither
side unpickles anything.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import resource
import signal
import struct
import sys
import warnings
from typing import Any, BinaryIO

HEADER = struct.Struct(">II")
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


def main(arguments: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is sent to the terminal's group; the worker decides when we end
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent, memory_bytes, cpu_seconds = map(int, arguments)
    _end_with_parent(parent)
    os.chdir("/")
    _first_to_go()
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    decode = _prepared()
    refused = _limit(memory_bytes)
    _send(replies, {"ready": True, "not_limited": refused}, b"")
    while (request := _receive(requests)) is not None:
        _renew_cpu_seconds(cpu_seconds)
        _send(replies, *decode(*request))


def _end_with_parent(parent: int) -> None:
    if sys.platform != "linux":
        return  # there only the end of standard input ends us
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the worker is gone")


def _first_to_go() -> None:
    """If memory runs out, the kernel should end this process and not the worker."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")


def _prepared() -> Any:
    """Import all that decoding needs while files can still be opened. Returns the function that decodes."""
    import encodings.cp437
    import encodings.cp1251
    import encodings.utf_8_sig  # noqa: F401 - loaded before the limits take effect

    from PIL import Image

    from vision_app.providers import decoding

    Image.init()
    Image.MAX_IMAGE_PIXELS = decoding.MAX_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)

    def decode(asked: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        try:
            wish = decoding.DecodeRequest(max_dim=asked["max_dim"], jpeg_quality=asked["jpeg_quality"])
            picture = decoding.decode(content, asked["mime_type"], wish)
        except decoding.UnusablePicture as fault:
            return {"reason": fault.reason, "details": fault.details}, b""
        except MemoryError:
            return {"reason": "decoding_memory", "details": {}}, b""
        except Exception as fault:  # noqa: BLE001 - any error is caused by this picture, and the worker is told
            return {"reason": "undecodable", "details": {"error": decoding.told(fault)}}, b""
        said = {"mime_type": picture.mime_type, "width": picture.width, "height": picture.height}
        same = picture.content is content
        return {**said, "same": same}, b"" if same else picture.content

    for sample in _samples():  # so that libraries import and read now what they load at first use
        for max_dim in (8, None):
            decode({"mime_type": "", "max_dim": max_dim, "jpeg_quality": 75}, sample)
    return decode


def _samples() -> list[bytes]:
    """A picture of every accepted format, a TIFF of every colour mode, and bytes of no format."""
    from PIL import Image

    from vision_app.providers.decoding import COLOURS, DECODERS

    samples = [b"\0"]
    for form, mode in [*((form, "RGB") for form in DECODERS), *(("TIFF", mode) for mode in COLOURS)]:
        out = io.BytesIO()
        Image.new(mode, (16, 16)).save(out, form)
        samples.append(out.getvalue())
    return samples


def _limit(memory_bytes: int) -> list[str]:
    """Set the permanent limits. Returns the names of those that the system refuses."""
    wanted = {
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NOFILE": 3,  # open files stay open; no further one can be opened
    }
    refused = []
    for name, bound in wanted.items():
        try:
            resource.setrlimit(getattr(resource, name), (bound, bound))
        except (ValueError, OSError):
            refused.append(name)
    return refused


def _renew_cpu_seconds(seconds: int) -> None:
    """Renew the limit, which counts from the process' start. The kernel sends SIGXCPU when a picture used it up."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, resource.RLIM_INFINITY))


def _receive(requests: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    header = requests.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    said, length = HEADER.unpack(header)
    asked = json.loads(requests.read(said))
    content = requests.read(length)
    return (asked, content) if len(content) == length else None


def _send(replies: BinaryIO, said: dict[str, Any], content: bytes) -> None:
    encoded = json.dumps(said, default=str).encode()
    replies.write(HEADER.pack(len(encoded), len(content)) + encoded)
    replies.write(content)
    replies.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
