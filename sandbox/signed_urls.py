"""Links to trained weights: they need no other proof than themselves, and expire."""

from __future__ import annotations

import hashlib
import hmac
import time

from sandbox.errors import ForbiddenError

PATH = "/sandbox/weights/{training_uuid}"


class WeightsUrls:
    """Signs links and checks them."""

    def __init__(self, key: bytes, lifetime_seconds: float) -> None:
        self._key = key
        self._lifetime_seconds = lifetime_seconds

    def link(self, domain: str, training_uuid: str) -> str:
        """Returns the URL that downloads a training's weights until it expires."""
        expires = str(int((time.time() + self._lifetime_seconds) * 1000))
        path = PATH.format(training_uuid=training_uuid)
        signature = self._signature(training_uuid, expires)
        return f"{domain}{path}?expires={expires}&signature={signature}"

    def check(self, training_uuid: str, expires: str, signature: str) -> None:
        """Lets a good link pass.

        Raises:
            ForbiddenError: it has expired, or it is not one of ours.
        """
        if not hmac.compare_digest(
            self._signature(training_uuid, expires).encode(), signature.encode()
        ):
            message = "the link's signature is wrong"
            raise ForbiddenError(message)
        if int(expires) < time.time() * 1000:
            message = "the link has expired: ask for a new one"
            raise ForbiddenError(message)

    def _signature(self, training_uuid: str, expires: str) -> str:
        text = f"{training_uuid}\n{expires}".encode()
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()
