"""A Redis with the users of `deploy/redis-users.acl`, and what the server says of refusals."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

ACL_FILE: Final = Path(__file__).parents[2] / "deploy" / "redis-users.acl"


class GuardedRedis(EmbeddedRedis):
    """A server that knows the users of the file, each with a password as an operator adds it.

    Attributes:
        passwords: by user.
    """

    def __init__(self, folder: Path, server: Path | None = None) -> None:
        folder.mkdir(parents=True)
        self.passwords: dict[str, str] = {}
        lines = []
        for line in ACL_FILE.read_text().splitlines():
            user = line.split()[1]
            if user != "default":
                self.passwords[user] = secrets.token_urlsafe(24)
                lines.append(f"{line} >{self.passwords[user]}")
            else:
                lines.append(line)
        users = folder / "users.acl"
        users.write_text("\n".join(lines) + "\n")
        super().__init__(folder, server=server, config={"aclfile": str(users)})
        del self._config["requirepass"]

    @property
    def url(self) -> str:
        """Where the administrator finds it."""
        return self.url_of("admin")

    def url_of(self, user: str) -> str:
        """Where a user finds it."""
        return f"redis://{user}:{self.passwords[user]}@127.0.0.1:{self.port}/0"


def rights_of(user: str) -> list[str]:
    """Returns the commands that the file lets a user run."""
    for line in ACL_FILE.read_text().splitlines():
        words = line.split()
        if words[1] == user:
            return [word[1:] for word in words[2:] if word.startswith("+")]
    raise LookupError(user)


def refusals(admin: Redis, user: str) -> Iterator[str]:
    """Yields what the server has refused to a user since the log was reset."""
    log: list[dict[str, Any]] = admin.acl_log(count=128)
    for entry in log:
        if entry["username"] == user:
            yield entry["object"].lower()
