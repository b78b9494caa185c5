"""Signing in: with a given key, with the stored credential, or by registering."""

import secrets

from fed_compute.client.api import CoordinatorApi
from fed_compute.client.config import ClientSettings
from fed_compute.client.disclosure import tell_machine
from fed_compute.client.machine import capabilities
from fed_compute.client.outbox import Outbox
from fed_compute.client.security import Credential, CredentialStore
from fed_compute.errors import ClientMustAct, SettingInvalid
from fed_compute.protocol.messages import RegisterAnswer, RegisterRequest

_NAMES_TO_TRY = 5


class Account:
    """Who this client is at its coordinator."""

    def __init__(self, settings: ClientSettings, store: CredentialStore, api: CoordinatorApi, outbox: Outbox) -> None:
        self._settings = settings
        self._store = store
        self._api = api
        self._outbox = outbox
        self._made_up_name = _made_up_name()

    def sign_in(self) -> str:
        """Give the API object its key and return the client id. May be repeated after `NotNow`.

        A given key wins; else the stored credential is used; else the client registers and the new
        credential is stored before it is used, so that a restarted client is the same one.

        Raises:
            SettingInvalid: if a key is given without CLIENT_NAME.
            CredentialUnsafe: if the credential file cannot be used.
            ClientMustAct, CallRefused: if the coordinator refuses the registration.
            NotNow: if the coordinator cannot answer now.
        """
        if self._settings.client_api_key is not None:
            return self._sign_in_with_given_key(self._settings.client_api_key.get_secret_value())
        self._store.release()
        file = self._store.claim(self._settings.coordinator_url, self._settings.client_name)
        credential = self._store.load(file)
        if credential is None:
            answer = self._register()
            credential = Credential(self._settings.coordinator_url, answer.client_id, answer.api_key)
            self._store.save(file, credential)
        self._api.authenticate(credential.api_key)
        return credential.client_id

    def sign_out(self) -> None:
        """Let go of the credential file; it stays for the next start."""
        self._store.release()

    def _sign_in_with_given_key(self, api_key: str) -> str:
        if self._settings.client_name is None:
            raise SettingInvalid(
                "CLIENT_API_KEY is set and CLIENT_NAME is not; set it to the name the key was given to"
            )
        self._api.authenticate(api_key)
        return self._settings.client_name

    def _register(self) -> RegisterAnswer:
        if self._settings.client_name is not None:
            return self._register_as(self._settings.client_name)
        for _ in range(_NAMES_TO_TRY - 1):
            try:
                return self._register_as(self._made_up_name)
            except ClientMustAct as error:
                if error.details["answered"] != "client_name_taken":
                    raise
                self._made_up_name = _made_up_name()
        return self._register_as(self._made_up_name)

    def _register_as(self, name: str) -> RegisterAnswer:
        invite = self._settings.client_invite
        return self._outbox.register(
            RegisterRequest(
                client_name=name,
                invite=None if invite is None else invite.get_secret_value(),
                capabilities=tell_machine(capabilities(), self._settings.client_share_machine),
            )
        )


def _made_up_name() -> str:
    return f"client-{secrets.token_hex(4)}"
