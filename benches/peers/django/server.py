"""django-oauth-toolkit over SQLite, for one client, in one process with eight threads."""

import json
import os
import pathlib
import sys

import django
from django.conf import settings

DATABASE = pathlib.Path(sys.argv[1]) / "db.sqlite3"

settings.configure(
    SECRET_KEY=os.environ["CLIENT_SECRET"],
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATABASE,
            "CONN_MAX_AGE": None,
            "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL", "transaction_mode": "IMMEDIATE", "timeout": 30},
        }
    },
    # The secret of the client is random, so its hash needs no work factor. The default would take most of the time.
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    OAUTH2_PROVIDER={"SCOPES": {"chat": "", "voip": ""}, "ACCESS_TOKEN_EXPIRE_SECONDS": 86_400},
    USE_TZ=True,
)
django.setup()

import waitress
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.urls import include, path
from oauth2_provider.models import Application

urlpatterns = [path("o/", include("oauth2_provider.urls", namespace="oauth2_provider"))]

call_command("migrate", verbosity=0)
Application.objects.create(
    client_id="bench",
    client_secret=os.environ["CLIENT_SECRET"],
    client_type=Application.CLIENT_CONFIDENTIAL,
    authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
)
server = waitress.create_server(get_wsgi_application(), host="127.0.0.1", port=0, threads=8)
endpoint = f"http://localhost:{server.effective_port}/o"
addresses = {"token": f"{endpoint}/token/", "introspect": f"{endpoint}/introspect/", "revoke": f"{endpoint}/revoke_token/"}
print(json.dumps(addresses), flush=True)
server.run()
