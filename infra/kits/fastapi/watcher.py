"""Follows the revocation feed of the service, so that offline mode sees a revocation within seconds and open connections
end with their tokens. docs/verify.md describes the feed and its delay."""

import base64
import json
import threading
import time

import httpx

from access import active

# How far the clocks of two machines may differ, in seconds.
CLOCK_DIFFERENCE = 300
# No token is valid for longer, in seconds.
LONGEST_LIFETIME = 25 * 3600
LONGEST_PAUSE = 5


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
        self._open, self._unchecked = set(), []
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
            if self._has_ended(claims, token):
                return True
            known = self._known
            if claims["iat"] > self._begun_at + CLOCK_DIFFERENCE or claims["jti"] in known:
                return False
        if self._ask(token) is None:
            return True
        with self._lock:
            # If the feed has begun again meanwhile, this dictionary is no longer in use.
            known[claims["jti"]] = claims["exp"]
        return False

    def watch(self, access, close):
        """Calls `close`, in another thread, when the token of an open connection ends.

        Returns a function that ends the watch.
        """
        connection = (access.token, json.dumps(access.claims), close)
        with self._lock:
            self._open.add(connection)
            self._unchecked.append(connection)
        return lambda: self._open.discard(connection)

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
        if self._cursor is None:
            # If this fails, the feed begins again, so that each open connection is asked about.
            self._begin()
        with self._lock:
            self._cursor, self._heard_at = page["cursor"], time.monotonic()
            for end in page["ends"]:
                self._apply(end)
            self._forget()
            ended = [one for one in self._open if self._has_ended(json.loads(one[1]), one[0])] if page["ends"] else []
            unchecked, self._unchecked = self._unchecked, []
        # The token of a new connection may have ended since its check.
        self._close(ended + [one for one in unchecked if one not in ended and self.is_revoked(json.loads(one[1]), one[0])])

    def _begin(self):
        """The feed begins, or begins again. Earlier tokens may have ended unseen."""
        with self._lock:
            self._known, self._begun_at = {}, time.time()
            connections = list(self._open)
        self._close([one for one in connections if self._ask(one[0]) is None])

    def _close(self, connections):
        for connection in connections:
            self._open.discard(connection)
            connection[2]()

    def _apply(self, end):
        now = time.monotonic()
        if end["event"] == "key_replaced":
            self._keys[end["kid"]] = now
            return
        revision = end.get("lowestRevision", float("inf"))
        former, _ = self._identities.pop(end["identity"], (0, now))
        self._identities[end["identity"]] = max(revision, former), now

    def _has_ended(self, claims, token):
        header = token.split(".")[0]
        kid = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]
        lowest, _ = self._identities.get(claims["sub"], (0, 0))
        return kid in self._keys or claims["rev"] < lowest

    def _forget(self):
        """Drops entries that are older than every valid token."""
        oldest = time.monotonic() - LONGEST_LIFETIME
        self._identities = {name: entry for name, entry in self._identities.items() if entry[1] > oldest}
        self._keys = {kid: at for kid, at in self._keys.items() if at > oldest}
        for token_id in [token_id for token_id, expiry in self._known.items() if expiry < time.time()]:
            del self._known[token_id]
