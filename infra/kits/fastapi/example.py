"""The server of the README. It prints its address."""

import asyncio
import os
import socket

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

from access import active, offline, requires
from watcher import Watcher

endpoint, mode = os.environ["COMMUNICATION_SERVICES_ENDPOINT"], os.environ["MODE"]
if mode == "active":
    check = active(endpoint, os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"])
else:
    revoked = os.environ.get("REVOKED", "").split()
    is_revoked = lambda claims, token: claims["jti"] in revoked
    if mode == "watched":
        watcher = Watcher(endpoint, os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"])
        watcher.start()
        is_revoked = watcher.is_revoked
    check = offline(endpoint, os.environ["ISSUER"], os.environ["RESOURCE_ID"], is_revoked)

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


@app.post("/events")
async def events(access=Depends(requires(check, "chat.send_message"))):
    """A connection that stays open while its token is good."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    forget = watcher.watch(access, lambda: loop.call_soon_threadsafe(ended.set))

    async def lines():
        try:
            yield "open\n"
            await ended.wait()
        finally:
            forget()

    return StreamingResponse(lines())


listener = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])
