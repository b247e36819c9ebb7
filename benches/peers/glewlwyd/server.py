"""Glewlwyd over SQLite, for one client whose tokens are signed with RS256. The argument is a folder for its state."""

import http.cookiejar
import json
import os
import pathlib
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request

SCHEMA = pathlib.Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")
STATE = pathlib.Path(sys.argv[1])
CONFIGURATION = """
port={port}
external_url="http://localhost:{port}/"
login_url="login.html"
api_prefix="api"
log_mode="file"
log_level="ERROR"
log_file="{state}/log"
session_key="SESSION"
session_expiration=2419200
admin_scope="g_admin"
profile_scope="g_profile"
user_module_path="/usr/lib/glewlwyd/user"
client_module_path="/usr/lib/glewlwyd/client"
user_auth_scheme_module_path="/usr/lib/glewlwyd/scheme"
plugin_module_path="/usr/lib/glewlwyd/plugin"
hash_algorithm="SHA512"
database = {{ type = "sqlite3"; path = "{state}/db.sqlite3"; }};
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until_it_answers(port):
    while True:
        try:
            return socket.create_connection(("localhost", port)).close()
        except OSError:
            time.sleep(0.05)


def key_pair():
    """Returns a private and a public RSA key in PEM."""
    private = subprocess.run(("openssl", "genrsa", "2048"), check=True, capture_output=True).stdout
    public = subprocess.run(("openssl", "rsa", "-pubout"), input=private, check=True, capture_output=True).stdout
    return private.decode(), public.decode()


def add_plugin_and_client(port):
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def post(path, body):
        request = urllib.request.Request(
            f"http://localhost:{port}/api/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            opener.open(request).close()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error} {error.read().decode()}") from error

    post("auth/", {"username": "admin", "password": "password"})
    private, public = key_pair()
    parameters = {
        "iss": f"http://localhost:{port}/",
        "jwt-type": "rsa",
        "jwt-key-size": "256",
        "key": private,
        "cert": public,
        "access-token-duration": 86_400,
        "refresh-token-duration": 86_400,
        "code-duration": 600,
        "refresh-token-rolling": False,
        "allow-non-oidc": True,
        "auth-type-client-enabled": True,
        "introspection-revocation-allowed": True,
        "introspection-revocation-allow-target-client": True,
    }
    post("mod/plugin/", {"module": "oidc", "name": "oidc", "display_name": "oidc", "parameters": parameters})
    post("scope/", {"name": "chat", "display_name": "chat", "password_required": False, "scheme": {}})
    client = {
        "client_id": "bench",
        "client_name": "bench",
        "client_secret": os.environ["CLIENT_SECRET"],
        "confidential": True,
        "enabled": True,
        "authorization_type": ["client_credentials"],
        "scope": ["chat"],
        "redirect_uri": [],
        "token_endpoint_auth_method": ["client_secret_basic"],
    }
    post("client/", client)


def main():
    port = free_port()
    with sqlite3.connect(STATE / "db.sqlite3") as database:
        database.executescript(SCHEMA.read_text(encoding="utf-8"))
    configuration = STATE / "configuration"
    configuration.write_text(CONFIGURATION.format(port=port, state=STATE), encoding="utf-8")
    command = ("glewlwyd", "--config-file", str(configuration))
    with subprocess.Popen(command) as first:
        until_it_answers(port)
        add_plugin_and_client(port)
        first.terminate()
    endpoint = f"http://localhost:{port}/api/oidc"
    addresses = {"token": f"{endpoint}/token", "introspect": f"{endpoint}/introspect", "revoke": f"{endpoint}/revoke"}
    print(json.dumps(addresses), flush=True)
    # The measured process is this one.
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
