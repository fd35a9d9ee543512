"""The certificate that a server may ask for, and its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from schemas.events import ErrorCode
from worker.errors import SettingError
from worker.redaction import HIDDEN
from worker.secret_files import shown_path

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

CERTIFICATE_VARIABLE: Final = "TRAINMASTER_CLIENT_CERTIFICATE_FILE"
KEY_VARIABLE: Final = "TRAINMASTER_CLIENT_KEY_FILE"


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """Files by which we tell a server who we are.

    Attributes:
        file: The certificate, and those between it and the authority, in PEM format.
        key_file: Its key; None where it stands in the same file.
    """

    file: Path
    key_file: Path | None = None

    def show_in(self, context: ssl.SSLContext) -> None:
        """Has a context show it to servers that ask for one.

        Raises:
            SettingError: A file can't be read, or they don't belong together.
        """
        for variable, file in ((CERTIFICATE_VARIABLE, self.file), (KEY_VARIABLE, self.key_file)):
            try:
                if file is not None:
                    file.open("rb").close()
            except OSError as exc:
                # Who puts the key itself there must not read it in a log, nor in the error's cause.
                raise _wrong(variable, f"{_shown(file)} can't be read ({exc.strerror})") from None
        try:
            # Or OpenSSL asks whoever sits at the terminal.
            context.load_cert_chain(self.file, self.key_file, password=_refuse)
        except _SealedError as exc:
            told = (
                f"{self.key_file or self.file} is encrypted; a key without a passphrase is needed"
            )
            variable = CERTIFICATE_VARIABLE if self.key_file is None else KEY_VARIABLE
            raise _wrong(variable, told) from exc
        except OSError as exc:  # TLS' errors are some, too
            key = "its key" if self.key_file is None else f"the key in {self.key_file}"
            told = f"{self.file} holds no certificate in PEM format with {key}"
            raise _wrong(CERTIFICATE_VARIABLE, told) from exc


def _shown(file: object) -> str:
    shown = shown_path(str(file))
    return "what it names" if shown == HIDDEN else shown


class _SealedError(Exception):
    """A key asks for its passphrase."""


def _refuse() -> NoReturn:
    raise _SealedError


def _wrong(name: str, message: str) -> SettingError:
    return SettingError(f"{name}: {message}", code=ErrorCode.INVALID_SETTING)
