"""The whole flow with a client that was generated from openapi.yaml and obscura.proto, against the relay
at RELAY_URL: accounts, keys, bundles, messages, the gateway, blobs, and errors. Stops at the first answer
that is not what it should be."""

import json
import os
import subprocess
import sys
import uuid
from io import BytesIO
from urllib.parse import quote

import obscura_pb2 as frames
from websockets.sync.client import connect

from obscura_client import AuthenticatedClient, Client
from obscura_client.api.accounts import (
    create_session, create_user, delete_account, delete_session, get_account, refresh_session)
from obscura_client.api.blobs import (
    download_attachment, download_backup, head_backup, upload_attachment, upload_backup)
from obscura_client.api.contract import get_contract_json, get_frames
from obscura_client.api.devices import (
    create_device, get_key_inventory, get_pre_key_bundles, list_devices, update_device, upload_keys)
from obscura_client.api.gateway import create_gateway_ticket
from obscura_client.api.messages import send_messages
from obscura_client.api.push import delete_push_token, get_vapid_key, set_push_token
from obscura_client.models import (
    Credentials, DeleteAccount, DeviceUpdate, ErrorBody, KeyUpload, LogIn, NewDevice, PushToken, RefreshTokenBody)
from obscura_client.types import UNSET, File

RELAY = os.environ["RELAY_URL"]
PASSWORD = "a long password in Python"


def check(condition, what):
    if not condition:
        sys.exit(f"flow.py: {what}")


def succeeded(response, status=200):
    check(response.status_code == status, f"status {response.status_code} instead of {status}: {response.content!r}")
    return response.parsed


def refused(response, status, code):
    check(response.status_code == status and isinstance(response.parsed, ErrorBody) and response.parsed.code == code,
          f"status {response.status_code} instead of {status} {code}: {response.content!r}")


def new_keys():
    """Real keys, from the program that the README uses."""
    return json.loads(subprocess.run([os.environ["TRY"], "keys"], check=True, capture_output=True).stdout)


def acting(token):
    return AuthenticatedClient(base_url=RELAY, token=token)


class Person:
    def __init__(self):
        self.name = "python_" + uuid.uuid4().hex[:12]
        self.user = succeeded(create_user.sync_detailed(
            client=Client(base_url=RELAY), body=Credentials(username=self.name, password=PASSWORD)), 201)
        self.id = succeeded(get_account.sync_detailed(client=acting(self.user.token))).user_id

    def new_device(self, change=lambda keys: None):
        keys = new_keys()
        change(keys)
        made = succeeded(create_device.sync_detailed(
            client=acting(self.user.token), body=NewDevice.from_dict(keys)), 201)
        return acting(made.token), made, keys


def one_classical_key(keys):
    keys["oneTimePreKeys"] = keys["oneTimePreKeys"][:1]
    del keys["kyberPreKeys"], keys["lastResortKyberPreKey"]


def bundles_of(caller, person):
    return succeeded(get_pre_key_bundles.sync_detailed(person.id, client=caller))


def optional_members(alice, bob):
    """Members that may be null are None, and not a crash."""
    caller, _, _ = alice.new_device()
    full, full_made, _ = bob.new_device()
    _, bare_made, _ = bob.new_device(one_classical_key)
    first = {b.device_id: b for b in bundles_of(caller, bob)}
    check(first[full_made.device_id].kyber_pre_key.key_id > 1, "a bundle with a Kyber key has one")
    check(first[bare_made.device_id].kyber_pre_key is None, "a bundle without a Kyber key has None")
    check(first[bare_made.device_id].one_time_pre_key.key_id >= 1, "the first bundle has a one-time key")
    second = {b.device_id: b for b in bundles_of(caller, bob)}
    check(second[bare_made.device_id].one_time_pre_key is None, "an exhausted bundle has None")
    devices = succeeded(get_account.sync_detailed(client=full)).devices
    check(len(devices) == 2 and all(d.backup is None and d.push_token is None for d in devices),
          "an account without backup and push token has None")


def messages_and_gateway(alice, bob):
    sender, _, _ = alice.new_device()
    recipient, made, _ = bob.new_device()
    submission = frames.Submission(submission_id=uuid.uuid4().bytes, device_id=made.device_id.bytes, message=b"hello from Python")
    body = frames.SendMessageRequest(messages=[submission]).SerializeToString()
    key = str(uuid.uuid4())
    for _ in range(2):  # the repetition stores nothing
        response = send_messages.sync_detailed(client=sender, body=File(payload=BytesIO(body)), idempotency_key=key)
        check(response.status_code == 200 and not frames.SendMessageResponse.FromString(response.content).failed_submissions,
              f"a message is refused: {response.status_code}")
    ticket = succeeded(create_gateway_ticket.sync_detailed(client=recipient), 201).ticket
    with connect(RELAY.replace("http", "ws", 1) + "/v1/gateway?ticket=" + quote(ticket), open_timeout=10) as socket:
        envelopes = []
        while True:
            frame = frames.WebSocketFrame.FromString(socket.recv(timeout=10))
            if frame.WhichOneof("payload") == "drained":
                break
            envelopes += frame.envelope_batch.envelopes
        check([e.message for e in envelopes] == [b"hello from Python"], f"{len(envelopes)} envelopes")
        ack = frames.AckMessage(message_ids=[e.id for e in envelopes])
        socket.send(frames.WebSocketFrame(ack=ack).SerializeToString())
    # The identifier of nobody is refused in the answer, not by a status.
    submission.device_id = uuid.uuid4().bytes
    body = frames.SendMessageRequest(messages=[submission]).SerializeToString()
    response = send_messages.sync_detailed(client=sender, body=File(payload=BytesIO(body)), idempotency_key=str(uuid.uuid4()))
    failed = frames.SendMessageResponse.FromString(response.content).failed_submissions
    check([f.error_code for f in failed] == [frames.ERROR_CODE_INVALID_DEVICE], f"{failed}")


def keys(alice):
    device, made, uploaded = alice.new_device()
    inventory = succeeded(get_key_inventory.sync_detailed(client=device))
    check(inventory.one_time_pre_key_count == 20 and inventory.kyber_pre_key_count == 20, f"{inventory}")
    succeeded(upload_keys.sync_detailed(client=device, body=KeyUpload.from_dict(
        {"signedPreKey": uploaded["signedPreKey"], "oneTimePreKeys": uploaded["oneTimePreKeys"]})))  # as a client repeats it
    check(succeeded(get_key_inventory.sync_detailed(client=device)).digest == inventory.digest, "a repeated upload changes something")
    succeeded(update_device.sync_detailed(made.device_id, client=device, body=DeviceUpdate(name="snake")))
    check("snake" in [d.name for d in succeeded(list_devices.sync_detailed(client=device)).devices], "the name is not kept")


def blobs(alice):
    device, _, _ = alice.new_device()
    content = os.urandom(100_000)
    stored = succeeded(upload_attachment.sync_detailed(client=device, body=File(payload=BytesIO(content))), 201)
    check(succeeded(download_attachment.sync_detailed(stored.id, client=device)).payload.read() == content, "the attachment differs")
    first = upload_backup.sync_detailed(client=device, body=File(payload=BytesIO(content)), if_none_match="*")
    succeeded(first)
    etag = first.headers["ETag"]
    succeeded(upload_backup.sync_detailed(client=device, body=File(payload=BytesIO(content[:50])), if_match=etag))
    refused(upload_backup.sync_detailed(client=device, body=File(payload=BytesIO(content)), if_match=etag), 412, "precondition_failed")
    check(head_backup.sync_detailed(client=device).headers["Content-Length"] == "50", "HEAD says another size")
    check(succeeded(download_backup.sync_detailed(client=device)).payload.read() == content[:50], "the backup differs")


def push(alice):
    device, made, _ = alice.new_device()
    check(len(succeeded(get_vapid_key.sync_detailed(client=device)).public_key) == 87, "the VAPID key")
    succeeded(set_push_token.sync_detailed(client=device, body=PushToken(token="a token of an app")))
    account = succeeded(get_account.sync_detailed(client=device))
    own = next(d for d in account.devices if d.device.device_id == made.device_id)
    check(own.push_token.woken_at is None, "a token that was never used says when")
    refused(set_push_token.sync_detailed(client=device, body=PushToken()), 400, "invalid_request")
    succeeded(delete_push_token.sync_detailed(client=device))


def sessions(alice):
    device, made, _ = alice.new_device()
    everyone = Client(base_url=RELAY)
    scoped = succeeded(create_session.sync_detailed(
        client=everyone, body=LogIn(username=alice.name, password=PASSWORD, device_id=made.device_id)))
    check(scoped.device_id == made.device_id, "the token is not of the device")
    plain = succeeded(create_session.sync_detailed(client=everyone, body=LogIn(username=alice.name.upper(), password=PASSWORD)))
    check(plain.device_id is UNSET, "a user-scoped token names a device")
    refused(create_session.sync_detailed(client=everyone, body=LogIn(username=alice.name, password="wrong")), 401, "wrong_credentials")
    fresh = succeeded(refresh_session.sync_detailed(client=everyone, body=RefreshTokenBody(refresh_token=scoped.refresh_token)))
    succeeded(delete_session.sync_detailed(
        client=acting(fresh.token), body=RefreshTokenBody(refresh_token=fresh.refresh_token)))
    refused(get_account.sync_detailed(client=acting(fresh.token)), 401, "unauthorized")


def documents():
    everyone = Client(base_url=RELAY)
    check(succeeded(get_contract_json.sync_detailed(client=everyone))["openapi"].startswith("3."), "the contract")
    check("message WebSocketFrame" in succeeded(get_frames.sync_detailed(client=everyone)), "the frames")


def main():
    alice, bob = Person(), Person()
    optional_members(alice, bob)
    messages_and_gateway(alice, bob)
    for step in keys, blobs, push, sessions:
        step(alice)
    documents()
    refused(create_user.sync_detailed(
        client=Client(base_url=RELAY), body=Credentials(username=alice.name, password=PASSWORD)), 409, "username_taken")
    succeeded(delete_account.sync_detailed(client=acting(bob.user.token), body=DeleteAccount(password=PASSWORD)))
    refused(get_account.sync_detailed(client=acting(bob.user.token)), 401, "unauthorized")
    print("the Python client went through the whole flow")


main()
