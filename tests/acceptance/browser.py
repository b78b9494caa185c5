"""A browser as far as a server sees it."""

import re

import httpx2

from tests.acceptance.conftest import TLS, Served


class Browser:
    """Keeps cookies, takes HTML, sends forms, and runs no script."""

    def __init__(self, served: Served) -> None:
        self.http = httpx2.Client(base_url=served.url, headers={"Accept": "text/html"}, timeout=40.0, verify=TLS)

    def get(self, path: str) -> httpx2.Response:
        """Ask for a page."""
        return self.http.get(path)

    def send(self, path: str, *, fields: dict[str, str], origin: str | None = None) -> httpx2.Response:
        """Send a form as it is."""
        headers = {} if origin is None else {"Origin": origin}
        return self.http.post(path, data=fields, headers=headers)

    def act(self, path: str, **fields: str) -> httpx2.Response:
        """Send a form of a page of this session."""
        return self.send(path, fields={"form_secret": self.secret(), **fields})

    def log_in(self, key: str) -> httpx2.Response:
        """Exchange a key for a session."""
        return self.send("/ui/login", fields={"key": key})

    def secret(self, path: str = "/") -> str:
        """Return the secret that the forms of this session carry."""
        found = re.search(r'name="form_secret" value="([0-9a-f]+)"', self.get(path).text)
        assert found is not None
        return found[1]
