"""Credentials at rest: each row under a data key of its own, the data key under one of ours.

A sealed value says under which key it lies, so keys change while the engine runs: put the new key
first, rewrap row by row, take the old one out. Rewrapping touches the data key only. A value is
bound to its place; copied to another tenant, table, column or row, it does not open.
"""

import base64
import binascii
import re
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cerniq_stock.errors import CerniqError

_VERSION = 1
_NONCE, _KEY, _TAG = 12, 32, 16
_HEAD = 2  # version, length of the key's name
_WRAPPED = _NONCE + _KEY + _TAG
_KID = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_HOW = (
    "no key for secrets is configured; make one with `cerniq-stock erp new-key`"
    " and set it as CERNIQ_SECRET_KEYS"
)
_SET = "CERNIQ_SECRET_KEYS"


class SecretsError(CerniqError):
    """A secret cannot be sealed or opened; the sentence says why and shows nothing of it."""

    code = "SECRETS"


class NoKeysError(SecretsError):
    """There is no key at all; where nothing is stored yet, a new one helps."""


class LostKeysError(SecretsError):
    """There is no key, but something is stored that a new one would not open."""

    def __init__(self) -> None:
        super().__init__(
            "no key for secrets is configured, but credentials are stored already:"
            " set CERNIQ_SECRET_KEYS to the key they were stored with"
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value lies; it opens nowhere else."""

    tenant: str
    table: str
    column: str
    row: str

    def bind(self, *more: str) -> bytes:
        """Return the place and `more` as associated data, unambiguous as no part holds a `|`."""
        parts = (self.tenant, self.table, self.column, self.row, *more)
        if any("|" in part or not part for part in parts):
            raise SecretsError("a part of a secret's place is empty or has a '|' in it")
        return "|".join(parts).encode()


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys by name; the first one encrypts, all of them decrypt."""

    first: str
    by_kid: dict[str, bytes] = field(repr=False)


def read_keys(text: str | None, file: Path | None = None) -> Keys:
    """Return the keys of `text`, or of `file`: `kid:base64`, between commas or on lines."""
    if text and file:
        raise SecretsError("set CERNIQ_SECRET_KEYS or CERNIQ_SECRET_KEYS_FILE, not both")
    if file:
        try:
            text = file.read_text(encoding="ascii")
        except (OSError, ValueError):
            raise SecretsError("the file of CERNIQ_SECRET_KEYS_FILE cannot be read") from None
    entries = [entry for entry in re.split(r"[,\s]+", text or "") if entry]
    if not entries:
        raise NoKeysError(_HOW)
    by_kid: dict[str, bytes] = {}
    for number, entry in enumerate(entries, 1):
        kid, _, encoded = entry.partition(":")
        if not _KID.fullmatch(kid) or kid in by_kid:
            raise SecretsError(
                f"{_SET}: key {number} needs a name of its own before the ':', as erp new-key"
                " --name makes it"
            )
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != _KEY:
            raise SecretsError(f"{_SET}: key {number} is not {_KEY} bytes in base64")
        by_kid[kid] = key
    return Keys(next(iter(by_kid)), by_kid)


def new_key(kid: str) -> str:
    """Return a fresh key as CERNIQ_SECRET_KEYS wants it."""
    if not _KID.fullmatch(kid):
        raise SecretsError("a key's name is up to 32 letters, digits, '_', '.' or '-'")
    return f"{kid}:{base64.b64encode(secrets.token_bytes(_KEY)).decode()}"


def seal(keys: Keys, place: Place, plaintext: bytes) -> bytes:
    """Encrypt `plaintext` for `place` under the first key."""
    data_key, nonce = secrets.token_bytes(_KEY), secrets.token_bytes(_NONCE)
    body = AESGCM(data_key).encrypt(nonce, plaintext, place.bind("data"))
    return _wrap(keys, place, data_key) + nonce + body


def unseal(keys: Keys, place: Place, blob: bytes) -> bytes:
    """Decrypt what `seal` returned for the same place."""
    _, data_key, rest = _unwrap(keys, place, blob)
    return _open(data_key, rest, place.bind("data"))


def rewrap(keys: Keys, place: Place, blob: bytes) -> bytes | None:
    """Return `blob` under the first key; None if it is already. A damaged one is refused."""
    kid, data_key, rest = _unwrap(keys, place, blob)
    _open(data_key, rest, place.bind("data"))
    return None if kid == keys.first else _wrap(keys, place, data_key) + rest


def _wrap(keys: Keys, place: Place, data_key: bytes) -> bytes:
    """Return version, name of the key, and the data key under it."""
    kid, nonce = keys.first, secrets.token_bytes(_NONCE)
    wrapped = AESGCM(keys.by_kid[kid]).encrypt(nonce, data_key, place.bind("key", kid))
    return bytes([_VERSION, len(kid)]) + kid.encode() + nonce + wrapped


def _unwrap(keys: Keys, place: Place, blob: bytes) -> tuple[str, bytes, bytes]:
    """Return the key's name, the data key and what lies under it."""
    if len(blob) < _HEAD or blob[0] != _VERSION:
        raise SecretsError("this is no sealed secret, or one of another version")
    end = _HEAD + blob[1]
    kid = blob[_HEAD:end].decode("ascii", "replace")
    if len(blob) < end + _WRAPPED + _NONCE + _TAG or not _KID.fullmatch(kid):
        raise SecretsError("the sealed secret is damaged")
    if kid not in keys.by_kid:
        raise SecretsError(
            f"the secret is sealed under key {kid!r}, which is not configured; add it to {_SET}"
        )
    wrapped, rest = blob[end : end + _WRAPPED], blob[end + _WRAPPED :]
    return kid, _open(keys.by_kid[kid], wrapped, place.bind("key", kid)), rest


def _open(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], bound)
    except InvalidTag:
        raise SecretsError(
            "the secret does not open: damaged, sealed for another place, or under another key"
        ) from None


if __name__ == "__main__":
    sys.stdout.write(new_key(sys.argv[1] if len(sys.argv) > 1 else "k1") + "\n")
