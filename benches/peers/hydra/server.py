"""Ory Hydra over SQLite, for one client whose tokens are JWTs. The arguments are a folder for its state and the program."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

STATE = pathlib.Path(sys.argv[1])
PROGRAM = sys.argv[2]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until_it_is_ready(endpoint):
    while True:
        try:
            return urllib.request.urlopen(f"{endpoint}/health/ready").close()
        except OSError:
            time.sleep(0.1)


def add_client(admin):
    client = {
        "client_id": "bench",
        "client_secret": os.environ["CLIENT_SECRET"],
        "grant_types": ["client_credentials"],
        "scope": "chat voip",
        "token_endpoint_auth_method": "client_secret_basic",
    }
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{admin}/admin/clients", json.dumps(client).encode(), headers)).close()


def main():
    public_port, admin_port = free_port(), free_port()
    public, admin = f"http://localhost:{public_port}", f"http://localhost:{admin_port}"
    os.environ.update({
        "DSN": f"sqlite://{STATE.resolve()}/db.sqlite3?_fk=true",
        "SECRETS_SYSTEM": os.environ["CLIENT_SECRET"],
        "URLS_SELF_ISSUER": public,
        "STRATEGIES_ACCESS_TOKEN": "jwt",
        "TTL_ACCESS_TOKEN": "24h",
        "SERVE_PUBLIC_PORT": str(public_port),
        "SERVE_PUBLIC_HOST": "localhost",
        "SERVE_ADMIN_PORT": str(admin_port),
        "SERVE_ADMIN_HOST": "localhost",
        # The secret of the client is random, so its hash needs no work factor. The default would take most of the time.
        "OAUTH2_HASHERS_ALGORITHM": "pbkdf2",
        "OAUTH2_HASHERS_PBKDF2_ITERATIONS": "1",
        "LOG_LEVEL": "error",
        "SQA_OPT_OUT": "true",
    })
    subprocess.run((PROGRAM, "migrate", "sql", "up", "--read-from-env", "--yes"), check=True, stdout=subprocess.DEVNULL)
    command = (PROGRAM, "serve", "all", "--dev")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as first:
        until_it_is_ready(admin)
        add_client(admin)
        first.terminate()
    addresses = {
        "token": f"{public}/oauth2/token",
        "introspect": f"{admin}/admin/oauth2/introspect",
        "revoke": f"{public}/oauth2/revoke",
    }
    print(json.dumps(addresses), flush=True)
    # The measured process is this one.
    os.execv(PROGRAM, command)


if __name__ == "__main__":
    main()
