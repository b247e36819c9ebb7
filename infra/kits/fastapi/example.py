"""The server of the README. It prints its address."""

import os
import socket

import uvicorn
from fastapi import Depends, FastAPI

from access import active, offline, requires

endpoint = os.environ["COMMUNICATION_SERVICES_ENDPOINT"]
if os.environ["MODE"] == "offline":
    revoked = os.environ.get("REVOKED", "").split()
    issuer, resource_id = os.environ["ISSUER"], os.environ["RESOURCE_ID"]
    check = offline(endpoint, issuer, resource_id, lambda claims: claims["jti"] in revoked)
else:
    check = active(endpoint, os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"])

app = FastAPI()


def answer(access):
    return {"identity": access.identity, "capabilitiesByRoomRole": access.capabilities_by_room_role}


@app.post("/threads")
def create_thread(access=Depends(requires(check, "chat.create_thread"))):
    return answer(access)


@app.post("/messages")
def send_message(access=Depends(requires(check, "chat.send_message"))):
    return answer(access)


@app.post("/room-calls")
def act_in_room_call(access=Depends(requires(check, "voip.act_in_room_call"))):
    return answer(access)


listener = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])
