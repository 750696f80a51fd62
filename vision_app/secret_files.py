"""Secrets from files: instead of a secret in a variable, `VARIABLE_FILE` names a file that holds it.

That is how Docker and Kubernetes mount secrets. A line break at the end of the file is not part of the secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from vision_app.texts import say

SUFFIX = "_FILE"
MAX_BYTES = 64 * 1024


class SecretFileError(ValueError):
    """A secret's file cannot be used. The message begins with its variable and says what to correct."""


def secrets_from_files(given: Mapping[str, str | None], variables: Iterable[str]) -> dict[str, str]:
    """The secrets whose files `given` names: variable in lower case → secret.

    `given`: variables and their values, from the environment or from one `.env` file; `variables`: the names of the
    secrets, in lower case. Raises SecretFileError.
    """
    named = {name.lower(): value for name, value in given.items() if value}
    found: dict[str, str] = {}
    for variable in variables:
        path = named.get(f"{variable}{SUFFIX.lower()}")
        if path:
            if variable in named:
                raise SecretFileError(
                    say(
                        "{variable}{suffix}: {variable} is set as well; remove one of them",
                        variable=variable.upper(),
                        suffix=SUFFIX,
                    )
                )
            found[variable] = _secret(f"{variable.upper()}{SUFFIX}", Path(path))
    return found


def _secret(variable: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode()
    except OSError as fault:
        raise SecretFileError(
            say(
                "{variable}: {path} cannot be read ({strerror}); check the path, the mount and its permissions",
                variable=variable,
                path=path,
                strerror=fault.strerror,
            )
        ) from None
    except UnicodeDecodeError:
        raise SecretFileError(
            say(
                "{variable}: {path} is not a text file in UTF-8; write only the secret into it",
                variable=variable,
                path=path,
            )
        ) from None
    if len(content) > MAX_BYTES:
        raise SecretFileError(
            say(
                "{variable}: {path} is larger than {max_bytes} kB; it must hold only the secret",
                variable=variable,
                path=path,
                max_bytes=MAX_BYTES // 1024,
            )
        )
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise SecretFileError(
            say("{variable}: {path} is empty; write the secret into it", variable=variable, path=path)
        )
    return secret
