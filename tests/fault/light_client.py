"""A client without torch: sends marked updates over real HTTP and remembers every acknowledgement."""

import threading
import time
from dataclasses import dataclass, field

import httpx2
import numpy as np

from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.messages import PROTOCOL_HEADER, SAFETENSORS
from fed_compute.protocol.updates import encode_update


@dataclass
class LightClient:
    """Takes tasks and answers each with small numbers of its own, through any outage."""

    url: str
    name: str
    value: float
    num_parameters: int
    stop: threading.Event = field(default_factory=threading.Event)
    acknowledged: dict[int, str] = field(default_factory=dict)
    """Update id → digest, for every 2xx that arrived."""
    unexpected: list[str] = field(default_factory=list)
    """Answers that no outage explains."""
    _key: str = ""

    def run(self) -> None:
        """Work until `stop` is set."""
        with httpx2.Client(base_url=self.url, timeout=10.0, headers={PROTOCOL_HEADER: "1"}) as http:
            while not self.stop.is_set():
                try:
                    self._work(http)
                except httpx2.TransportError:
                    time.sleep(0.05)

    def _work(self, http: httpx2.Client) -> None:
        if not self._key:
            answer = http.post("/client/register", json={"client_name": self.name})
            if answer.status_code == 409:  # the first answer was lost: this name's key is gone, take another name
                self.name += "x"
                return
            self._key = answer.raise_for_status().json()["api_key"]
        bearer = {"Authorization": f"Bearer {self._key}"}
        task = http.get(f"/task/{self.name}", params={"wait": 1}, headers=bearer)
        if task.status_code == 200:
            self._do(http, task.json(), bearer)
        elif task.status_code not in (204, 503):
            self.unexpected.append(f"GET /task: {task.status_code} {task.text}")

    def _do(self, http: httpx2.Client, task: dict, bearer: dict[str, str]) -> None:
        path = f"/tasks/{task['task_id']}"
        if task["task"] == "evaluate":
            http.post(f"{path}/evaluation", json={"num_samples": 10, "loss": 1.0, "accuracy": 0.5}, headers=bearer)
            return
        body = self._body(task)
        digest = sha256_hex(body)
        headers = {**bearer, "Content-Type": SAFETENSORS, "Content-Digest": format_content_digest(digest)}
        while not self.stop.is_set():
            try:
                answer = http.put(f"{path}/update", content=body, headers=headers)
            except httpx2.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code in (200, 201):
                self.acknowledged[answer.json()["update_id"]] = digest
            elif answer.status_code == 503:
                continue
            elif answer.status_code != 410:
                self.unexpected.append(f"PUT update: {answer.status_code} {answer.text}")
            return

    def _body(self, task: dict) -> bytes:
        delta = np.full(self.num_parameters, self.value, dtype=np.float32)
        return encode_update(
            delta,
            encoding="f32",
            compression="none",
            topk_fraction=1.0,
            schema_digest=task["recipe"]["schema_digest"],
            num_samples=10,
            loss=1.0,
            train_seconds=None,
            rng=np.random.default_rng(0),
        )
