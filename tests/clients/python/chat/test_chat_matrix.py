"""Tests the permissions of each chat scope and of revoked tokens, through the unmodified chat clients.

The environment names the identity service and the chat service under test.
"""

import base64
import functools
import inspect
import json
import os

import pytest
from azure.communication import chat
from azure.communication.chat import ChatParticipant, CommunicationUserIdentifier, aio
from azure.communication.identity import CommunicationIdentityClient
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

CHAT_ENDPOINT = os.environ["CHAT_ENDPOINT"]
REFUSED_TOKEN_STATUS = int(os.environ["CHAT_REFUSED_TOKEN_STATUS"])

THREAD_ID = "19:thread@thread.v2"
MESSAGE_ID = "1742040000000"
FRIEND = CommunicationUserIdentifier("8:acs:friend")
FRIENDS = [ChatParticipant(identifier=FRIEND)]
Y, N = True, False

# For each operation: whether chat, chat.join and chat.join.limited permit it, and the call.
OPERATIONS = {
    # operation         chat join limited
    "create a thread":      (Y, N, N, lambda chat, thread: chat.create_chat_thread("Lunch")),
    "update a thread":      (Y, N, N, lambda chat, thread: thread.update_topic("Dinner")),
    "delete a thread":      (Y, N, N, lambda chat, thread: chat.delete_chat_thread(THREAD_ID)),
    "add a participant":    (Y, Y, N, lambda chat, thread: thread.add_participants(FRIENDS)),
    "remove a participant": (Y, Y, N, lambda chat, thread: thread.remove_participant(FRIEND)),
    "list threads":         (Y, Y, Y, lambda chat, thread: chat.list_chat_threads()),
    "get a thread":         (Y, Y, Y, lambda chat, thread: thread.get_properties()),
    "list read receipts":   (Y, Y, Y, lambda chat, thread: thread.list_read_receipts()),
    "send a read receipt":  (Y, Y, Y, lambda chat, thread: thread.send_read_receipt(MESSAGE_ID)),
    "send a message":       (Y, Y, Y, lambda chat, thread: thread.send_message("Hello")),
    "get a message":        (Y, Y, Y, lambda chat, thread: thread.get_message(MESSAGE_ID)),
    "list messages":        (Y, Y, Y, lambda chat, thread: thread.list_messages()),
    "update a message":     (Y, Y, Y, lambda chat, thread: thread.update_message(MESSAGE_ID, "Goodbye")),
    "delete a message":     (Y, Y, Y, lambda chat, thread: thread.delete_message(MESSAGE_ID)),
    "notify of typing":     (Y, Y, Y, lambda chat, thread: thread.send_typing_notification()),
    "list participants":    (Y, Y, Y, lambda chat, thread: thread.list_participants()),
}

SCOPE_LISTS = [("chat",), ("chat.join",), ("chat.join.limited",), ("voip",), ("chat.join.limited", "chat.join")]


def permits(scopes, operation):
    columns = dict(zip(("chat", "chat.join", "chat.join.limited"), OPERATIONS[operation]), voip=N)
    return any(columns[scope] for scope in scopes)


async def finish(result):
    """Finishes a call of either client. A list must be read, because the client sends no request before."""
    if inspect.isawaitable(result):
        return await result
    if hasattr(result, "__aiter__"):
        result = [item async for item in result]
    elif hasattr(result, "__next__"):
        result = list(result)
    else:
        return result
    assert len(result) == 1


async def assert_refused(call, status):
    with pytest.raises(HttpResponseError) as raised:
        await call
    assert raised.value.status_code == status
    assert type(raised.value) is (ClientAuthenticationError if status == 401 else HttpResponseError)


@pytest.fixture(scope="module")
def identity():
    return CommunicationIdentityClient.from_connection_string(os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"])


@functools.cache
def token_for(identity, scopes):
    return identity.create_user_and_token(list(scopes))[1].token


@pytest.fixture(params=[chat, aio], ids=["sync", "aio"])
def perform(request):
    """Performs one operation with a token, through one of the clients."""

    async def perform(token, operation="get a thread"):
        credential = request.param.CommunicationTokenCredential(token)
        client = request.param.ChatClient(CHAT_ENDPOINT, credential)
        thread = client.get_chat_thread_client(THREAD_ID)
        call = OPERATIONS[operation][-1]
        try:
            return await finish(call(client, thread))
        finally:
            await finish(client.close())
            await finish(thread.close())

    return perform


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("scopes", SCOPE_LISTS, ids=",".join)
async def test_scope_permits_its_operations(identity, perform, scopes, operation):
    call = perform(token_for(identity, scopes), operation)
    if permits(scopes, operation):
        await call
    else:
        await assert_refused(call, 403)


async def test_revoked_token_is_refused_and_new_one_accepted(identity, perform):
    user, token = identity.create_user_and_token(["chat"])
    _, of_neighbour = identity.create_user_and_token(["chat"])
    await perform(token.token)
    identity.revoke_tokens(user)
    await assert_refused(perform(token.token), REFUSED_TOKEN_STATUS)
    await perform(identity.get_token(user, ["chat"]).token)
    await assert_refused(perform(token.token), REFUSED_TOKEN_STATUS)
    await perform(of_neighbour.token)


async def test_token_of_deleted_user_is_refused_at_once(identity, perform):
    user, token = identity.create_user_and_token(["chat"])
    await perform(token.token)
    identity.delete_user(user)
    await assert_refused(perform(token.token), REFUSED_TOKEN_STATUS)


async def test_token_with_altered_scope_is_refused(identity, perform):
    token = token_for(identity, ("chat.join",))
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    altered = base64.urlsafe_b64encode(json.dumps(claims | {"acsScope": "chat"}).encode()).rstrip(b"=").decode()
    await perform(token)
    await assert_refused(perform(f"{header}.{altered}.{signature}"), REFUSED_TOKEN_STATUS)
