"""One team's cipher: AES-256-GCM under a key derived from the gateway's (HKDF-SHA-256).

Apart from the vault, so that only those load the library (6 MB) who keep originals.
"""

from __future__ import annotations

import os
import zlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.recovery.vault import KEY_BYTES

_NONCE_BYTES = 12  # what AES-GCM takes


class TeamCipher:
    """Seals and opens texts. `salt` is a second secret, for names that tell nothing without it."""

    def __init__(self, key: bytes, team: str) -> None:
        about = b"terse originals\0" + team.encode("utf-8", "surrogatepass")
        derived = HKDF(SHA256(), 2 * KEY_BYTES, salt=None, info=about).derive(key)
        self._cipher = AESGCM(derived[:KEY_BYTES])
        self.salt = derived[KEY_BYTES:]

    def seal(self, text: str, bound: bytes) -> bytes:
        """The text, packed and sealed; it opens with the same `bound` only."""
        nonce = os.urandom(_NONCE_BYTES)
        data = zlib.compress(text.encode("utf-8", "surrogatepass"), 1)
        return nonce + self._cipher.encrypt(nonce, data, bound)

    def open(self, data: bytes, bound: bytes) -> str | None:
        """The text; None where this is not what `seal` gave for this team and `bound`."""
        try:
            plain = self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], bound)
            return zlib.decompress(plain).decode("utf-8", "surrogatepass")
        except (InvalidTag, ValueError, zlib.error):
            return None
