"""Who may do what: keys with roles, kept as hashes in a file that is read anew when it changes."""

import hashlib
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tailwise.errors import ConfigError, DataError

__all__ = ["ROLES", "ApiKey", "KeyStore"]

ROLES = ("recommend", "write-events", "monitor", "admin")
_FORM = re.compile(r"tw_([0-9a-f]{12})_([0-9a-f]{64})")
_FORMAT = 1
_NO_HASH = "0" * 64


@dataclass(frozen=True)
class ApiKey:
    """A key, without its secret.

    Attributes:
        id: 12 hexadecimal digits; what logs and ``revoke`` call it.
        name: What a person calls it.
        roles: Some of :data:`ROLES`; ``admin`` may do everything.
        sha256: Of the secret, whose 256 random bits need no slow hash.
        created_at: Unix seconds.
        rate_limit: Such as ``100/second``; None: the service's.
        revoked_at: Unix seconds; None while it is good.
    """

    id: str
    name: str
    roles: tuple[str, ...]
    sha256: str
    created_at: float
    rate_limit: str | None = None
    revoked_at: float | None = None

    def may(self, role: str) -> bool:
        """Say whether the key has a role."""
        return role in self.roles or "admin" in self.roles


class KeyStore:
    """The keys of a file; it is read again whenever it has changed, so that revoking needs no restart.

    Args:
        file: JSON; need not exist. It is written readable for its owner alone.
        clock: Unix seconds.
    """

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.file = file
        self._clock = clock
        self._stamp: tuple[int, int, int] | None = None
        self._keys: dict[str, ApiKey] = {}
        self._were_keys = False

    def are_required(self) -> bool:
        """True once a key was ever made: a list of keys that are all revoked lets nobody in.

        Raises:
            DataError: the file is damaged.
        """
        self._refresh()
        return self._were_keys

    def find(self, token: str) -> ApiKey | None:
        """Return the good key that a client holds, or None; the time taken does not tell how close it was.

        Raises:
            DataError: the file is damaged.
        """
        self._refresh()
        match = _FORM.fullmatch(token)
        if match is None:
            return None
        key = self._keys.get(match.group(1))
        found = hashlib.sha256(match.group(2).encode()).hexdigest()
        is_equal = hmac.compare_digest(found, _NO_HASH if key is None else key.sha256)
        return key if is_equal and key is not None and key.revoked_at is None else None

    def all_keys(self) -> list[ApiKey]:
        """Return every key that was made, oldest first.

        Raises:
            DataError: the file is damaged.
        """
        self._refresh()
        return sorted(self._keys.values(), key=lambda key: key.created_at)

    def create(self, name: str, roles: Iterable[str], *, rate_limit: str | None = None) -> tuple[ApiKey, str]:
        """Make a key; its text is returned here and never again.

        Raises:
            ConfigError: a role is unknown, there is none, or the name or the limit is no such thing.
            DataError: the file is damaged.
        """
        given = tuple(dict.fromkeys(roles))
        for role in given or ("",):
            if role not in ROLES:
                raise ConfigError(f"--role must be one of {', '.join(ROLES)}; got {role or 'none'!r}.")
        if not 1 <= len(name) <= 100 or not name.isprintable():
            raise ConfigError(f"--name must be 1 to 100 printable characters; got {name[:100]!r}.")
        if rate_limit is not None:
            from tailwise.serving._http_limits import parse_rate

            parse_rate("--rate-limit", rate_limit)
        secret = secrets.token_hex(32)
        with self._changing() as keys:
            key = ApiKey(
                id=secrets.token_hex(6),
                name=name,
                roles=given,
                sha256=hashlib.sha256(secret.encode()).hexdigest(),
                created_at=self._clock(),
                rate_limit=rate_limit,
            )
            keys[key.id] = key
        return key, f"tw_{key.id}_{secret}"

    def revoke(self, key_id: str) -> ApiKey:
        """Take a key out of use, from the next request on.

        Raises:
            ConfigError: no key has this id.
            DataError: the file is damaged.
        """
        with self._changing() as keys:
            if key_id not in keys:
                raise ConfigError(f"key must be the id of one in {str(self.file)!r}; got {key_id!r}.")
            if keys[key_id].revoked_at is None:
                keys[key_id] = replace(keys[key_id], revoked_at=self._clock())
            return keys[key_id]

    def _changing(self) -> "_Change":
        return _Change(self)

    def _refresh(self) -> None:
        try:
            state = self.file.stat()
        except FileNotFoundError:
            self._keys, self._stamp = {}, None  # whoever removes the file locks everybody out
            return
        except OSError as error:
            raise DataError(f"keys must be readable; got {error.strerror} for {str(self.file)!r}.") from None
        stamp = (state.st_mtime_ns, state.st_size, state.st_ino)
        if stamp != self._stamp:
            self._keys = _read(self.file)
            self._stamp = stamp
            self._were_keys = self._were_keys or bool(self._keys)


class _Change:
    """Holds the file against other processes while its keys are changed, and writes them at the end."""

    def __init__(self, store: KeyStore) -> None:
        from filelock import FileLock

        store.file.parent.mkdir(parents=True, exist_ok=True)
        self._store = store
        self._lock = FileLock(store.file.with_name(f"{store.file.name}.lock"), timeout=10)

    def __enter__(self) -> dict[str, ApiKey]:
        self._lock.acquire()
        try:
            self._keys = _read(self._store.file) if self._store.file.exists() else {}
        except BaseException:
            self._lock.release()
            raise
        return self._keys

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                _write(self._store.file, self._keys)
        finally:
            self._lock.release()


def _read(file: Path) -> dict[str, ApiKey]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']}")
        keys = [ApiKey(**{**entry, "roles": tuple(entry["roles"])}) for entry in content["keys"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"keys must be a file that `tailwise keys create` wrote; got {type(error).__name__} in "
            f"{str(file)!r}.\n  Bring back a copy. Until then everybody is refused."
        ) from None
    return {key.id: key for key in keys}


def _write(file: Path, keys: dict[str, ApiKey]) -> None:
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump({"format": _FORMAT, "keys": [asdict(key) for key in keys.values()]}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
