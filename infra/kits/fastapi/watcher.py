"""Follows the revocation feed of the service, so that offline mode sees a revocation within seconds and open connections
end with their tokens. docs/verify.md describes the feed and its delay."""

import base64
import dataclasses
import json
import threading
import time
from collections.abc import Callable

import httpx

from access import Access, active

# How far the clocks of two machines may differ, in seconds.
CLOCK_DIFFERENCE = 300
# No token is valid for longer, in seconds.
LONGEST_LIFETIME = 25 * 3600
LONGEST_PAUSE = 5


@dataclasses.dataclass(eq=False)
class Connection:
    """An open connection."""

    access: Access
    kid: str
    close: Callable
    is_checked: bool = False


class Watcher:
    """Follows the feed in a thread.

    The endpoint has its slash at the end. The credential is that of this resource server. If the last answer is older than
    `longest_silence` seconds, there is no decision (503).
    """

    def __init__(self, endpoint, client_id, client_secret, longest_silence=10):
        self._ask = active(endpoint, client_id, client_secret)
        self._client = httpx.Client(auth=httpx.BasicAuth(client_id, client_secret), timeout=25)
        self._url = endpoint + "revocations"
        self._longest_silence = longest_silence
        self._lock = threading.Lock()
        self._cursor = None
        self._begun_at = self._heard_at = None
        # The lowest revision of a good token by identity, and the replaced keys, each with the time of the entry.
        self._identities, self._keys = {}, {}
        # Ids of tokens that the service has called active since the feed began, with their expiry.
        self._known = {}
        self._open = set()
        self._stopped = threading.Event()

    def start(self):
        threading.Thread(target=self._follow, daemon=True).start()

    def stop(self):
        self._stopped.set()

    def is_revoked(self, claims, token):
        """The option `is_revoked` of `offline`.

        A token from before the feed began may have ended unseen, so the service is asked about it once.
        """
        with self._lock:
            if self._heard_at is None or time.monotonic() - self._heard_at > self._longest_silence:
                raise RuntimeError("the revocation feed is silent")
            if self._has_ended(claims, key_of(token)):
                return True
            known = self._known
            if claims["iat"] > self._begun_at + CLOCK_DIFFERENCE or claims["jti"] in known:
                return False
        if self._ask(token) is None:
            return True
        with self._lock:
            # After another beginning of the feed, this dictionary is no longer in use.
            known[claims["jti"]] = claims["exp"]
        return False

    def watch(self, access, close):
        """Calls `close`, in another thread, when the token of an open connection ends.

        Returns a function that ends the watch.
        """
        # The token may have ended since its check, so the next page checks it again.
        connection = Connection(access, key_of(access.token), close)
        with self._lock:
            self._open.add(connection)
        return lambda: self._forget_connection(connection)

    def _follow(self):
        pause = 0.1
        while not self._stopped.is_set():
            try:
                self._read()
                pause = 0.1
            except Exception:
                # `is_revoked` refuses to decide when the silence gets too long.
                self._stopped.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _read(self):
        query = {"after": self._cursor, "wait": 20} if self._cursor else {}
        answer = self._client.get(self._url, params=query)
        if answer.status_code == 410:
            self._cursor = None
            return
        answer.raise_for_status()
        page = answer.json()
        with self._lock:
            if self._cursor is None:
                self._begin()
            self._cursor, self._heard_at = page["cursor"], time.monotonic()
            for end in page["ends"]:
                self._apply(end)
            self._forget()
        self._close_ended()

    def _begin(self):
        """The feed begins, or begins again. Earlier tokens may have ended unseen."""
        self._known, self._begun_at = {}, time.time()
        for connection in self._open:
            connection.is_checked = False

    def _close_ended(self):
        """Closes the connections whose token has ended. If the service cannot be asked, the next page tries again."""
        with self._lock:
            ended = [one for one in self._open if self._has_ended(one.access.claims, one.kid)]
            unchecked = [one for one in self._open if not one.is_checked and one not in ended]
        for connection in ended:
            self._close(connection)
        for connection in unchecked:
            if self.is_revoked(connection.access.claims, connection.access.token):
                self._close(connection)
            connection.is_checked = True

    def _close(self, connection):
        self._forget_connection(connection)
        connection.close()

    def _forget_connection(self, connection):
        with self._lock:
            self._open.discard(connection)

    def _apply(self, end):
        now = time.monotonic()
        if end["event"] == "key_replaced":
            self._keys[end["kid"]] = now
            return
        revision = end.get("lowestRevision", float("inf"))
        former, _ = self._identities.pop(end["identity"], (0, now))
        self._identities[end["identity"]] = max(revision, former), now

    def _has_ended(self, claims, kid):
        lowest, _ = self._identities.get(claims["sub"], (0, 0))
        return kid in self._keys or claims["rev"] < lowest

    def _forget(self):
        """Drops entries that are older than every valid token."""
        oldest = time.monotonic() - LONGEST_LIFETIME
        self._identities = {name: entry for name, entry in self._identities.items() if entry[1] > oldest}
        self._keys = {kid: at for kid, at in self._keys.items() if at > oldest}
        for token_id in [token_id for token_id, expiry in self._known.items() if expiry < time.time()]:
            del self._known[token_id]


def key_of(token):
    """Returns the key id in the header of a token."""
    header = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]
