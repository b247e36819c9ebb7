#!/usr/bin/env python3
"""A function that returns its event. It replaces the real functions in tests of the routes to them."""

import json
import os
import urllib.request

RUNTIME = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation"
SETTINGS = (
    "ACCEPTED_HOSTS ACCESS_KEYS_SECRET ASSIGNMENTS_TABLE_NAME ENTRA_AUTHORITY ENTRA_SERVICE_PRINCIPALS ENTRA_TENANTS ISSUER "
    "RESOURCE_ID RESOURCE_LOCATION RESOURCE_REGION ROUTE_RULES_FILE SIGNING_ALGORITHM SIGNING_KEYS_SECRET TABLE_NAME "
    "AWS_ENDPOINT_URL"
)


def main():
    while True:
        with urllib.request.urlopen(f"{RUNTIME}/next") as response:
            request_id = response.headers["Lambda-Runtime-Aws-Request-Id"]
            event = json.load(response)
        print(json.dumps({"event": event}), flush=True)
        answer = json.dumps(reply(event)).encode()
        urllib.request.urlopen(f"{RUNTIME}/{request_id}/response", data=answer).close()


def reply(event):
    told = {
        "function": os.environ["AWS_LAMBDA_FUNCTION_NAME"],
        "settings": {name: os.environ[name] for name in SETTINGS.split() if name in os.environ},
        "event": event,
    }
    if "requestContext" not in event:
        return told
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(told)}


if __name__ == "__main__":
    main()
