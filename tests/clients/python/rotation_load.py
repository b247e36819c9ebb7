"""Issues tokens without pause through both access keys, while commands of the local server replace keys.

Usage: rotation_load.py PROGRAM DATA_DIR

Prints one JSON object: every issue (slot, began, ended, token or error) and every command (name, began, ended), all on
one clock. The caller checks the promises with it.
"""

import json
import subprocess
import sys
import threading
import time

from azure.communication.identity import CommunicationIdentityClient
from azure.core.exceptions import HttpResponseError

PROGRAM, DATA_DIR = sys.argv[1:]
NAMES = {
    "primary": "COMMUNICATION_SERVICES_CONNECTION_STRING",
    "secondary": "COMMUNICATION_SERVICES_SECONDARY_CONNECTION_STRING",
}
THREADS_PER_SLOT = 2
BETWEEN_COMMANDS = 30


def connection_string(slot):
    """Returns the slot's present connection string from the env file."""
    with open(f"{DATA_DIR}/env", encoding="ascii") as env:
        values = dict(line.rstrip("\n").split("=", 1) for line in env)
    return values[NAMES[slot]].strip("'")


class Load:
    """Clients that issue tokens until `stop` is called."""

    def __init__(self):
        first = CommunicationIdentityClient.from_connection_string(connection_string("primary"))
        self.user = first.create_user()
        self.issues = []
        self.progress = threading.Condition()
        self.stopping = False
        self.strings = {slot: connection_string(slot) for slot in NAMES}
        self.threads = [threading.Thread(target=self.issue, args=(slot,)) for slot in NAMES for _ in range(THREADS_PER_SLOT)]
        for thread in self.threads:
            thread.start()

    def issue(self, slot):
        used, client = None, None
        while not self.stopping:
            if used != self.strings[slot]:
                used = self.strings[slot]
                client = CommunicationIdentityClient.from_connection_string(used)
            record = {"slot": slot, "began": time.monotonic_ns()}
            try:
                record["token"] = client.get_token(self.user, scopes=["chat"]).token
            except HttpResponseError as error:
                record["error"] = error.status_code
            record["ended"] = time.monotonic_ns()
            with self.progress:
                self.issues.append(record)
                self.progress.notify_all()

    def go_on(self):
        """Waits until BETWEEN_COMMANDS more issues have ended."""
        with self.progress:
            enough = len(self.issues) + BETWEEN_COMMANDS
            self.progress.wait_for(lambda: len(self.issues) >= enough)

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()


def main():
    load = Load()
    commands = []
    for name in ("rotate", "regenerate secondary", "rotate", "regenerate primary", "regenerate secondary"):
        load.go_on()
        command = {"name": name, "began": time.monotonic_ns()}
        subprocess.run([PROGRAM, "--data-dir", DATA_DIR, *name.split()], check=True, stdout=subprocess.DEVNULL)
        command["ended"] = time.monotonic_ns()
        commands.append(command)
        load.strings = {slot: connection_string(slot) for slot in NAMES}
        command["client_updated"] = time.monotonic_ns()
    load.go_on()
    load.stop()
    print(json.dumps({"issues": load.issues, "commands": commands}))


if __name__ == "__main__":
    main()
