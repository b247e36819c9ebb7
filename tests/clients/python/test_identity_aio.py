from azure.communication.chat.aio import CommunicationTokenCredential
from azure.communication.identity.aio import CommunicationIdentityClient

from identity_cases import IdentityCases


class TestAioClient(IdentityCases):
    client_class = CommunicationIdentityClient
    credential_class = CommunicationTokenCredential
