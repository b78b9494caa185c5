"""The container files agree with each other and with the settings; no Docker is needed to see that."""

import re
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from fed_compute.client.config import ClientSettings
from fed_compute.coordinator.settings import CoordinatorSettings
from tests.architecture.source import REPOSITORY

SETTINGS = {"coordinator": CoordinatorSettings, "client": ClientSettings}
# What the oldest builder of Docker does not know.
NEW_SYNTAX = re.compile(r"^#\s*syntax=|^RUN\s+--|<<-?['\"]?\w+|^COPY\s+.*--(link|parents|exclude)", re.MULTILINE)
OUR_NAMES = re.compile(r"\b(?:FED_COMPUTE|CLIENT|ASYNC|INCENTIVE)_[A-Z][A-Z_]*\b")


@dataclass
class Stage:
    """One stage of a Dockerfile: its instructions in order, as (word, rest)."""

    name: str
    parent: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """Return what stands behind each instruction of one kind."""
        return [rest for found, rest in self.lines if found == word]

    def environment(self) -> dict[str, str]:
        """Return the variables that the stage sets."""
        return dict(pair.split("=", 1) for rest in self.all("ENV") for pair in rest.split())


def stages(text: str) -> dict[str, Stage]:
    """Return the stages of a Dockerfile by name."""
    found: dict[str, Stage] = {}
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    for line in filter(None, joined.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            parent, _, name = rest.partition(" AS ")
            found[name] = Stage(name, parent)
        elif found:
            list(found.values())[-1].lines.append((word, rest.strip()))
    return found


def lineage(name: str, of: dict[str, Stage]) -> list[Stage]:
    """Return a stage and all stages that it starts from or copies from."""
    stage = of[name]
    sources = [stage.parent, *re.findall(r"--from=(\S+)", " ".join(stage.all("COPY")))]
    return [stage, *(one for source in sources if source in of for one in lineage(source, of))]


def environment_names(settings: type[BaseSettings]) -> set[str]:
    """Return every environment variable that sets a field."""
    names: set[str] = set()
    for name, info in settings.model_fields.items():
        if isinstance(info.validation_alias, AliasChoices):
            names |= {choice.upper() for choice in info.validation_alias.choices if isinstance(choice, str)}
        else:
            names.add(f"{settings.model_config.get('env_prefix', '')}{name}".upper())
    return names


def loose_ends(service: dict[str, Any]) -> list[str]:
    """Return which of the locks that every container has are missing from a service."""
    wrong = []
    if service.get("read_only") is not True:
        wrong.append("read_only")
    if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
        wrong.append("cap_drop")
    if "no-new-privileges" not in service.get("security_opt", []):
        wrong.append("no-new-privileges")
    wrong += [word for word in ("privileged", "network_mode", "pid", "ipc", "devices", "user") if word in service]
    wrong += [word for word in ("pids_limit", "stop_grace_period", "restart") if word not in service]
    return wrong


def ignored(path: str, patterns: list[str]) -> bool:
    """Say whether `.dockerignore` keeps a path of the top folder from the build; its last match wins."""
    verdict = False
    for pattern in patterns:
        if fnmatch(path, pattern.removeprefix("!")):
            verdict = not pattern.startswith("!")
    return verdict


DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
STAGES = stages(DOCKERFILE)
COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))
PARTS = yaml.safe_load((REPOSITORY / "deploy" / "compose.parts.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
IMAGES = ["coordinator", "client"]
MONITORING = ["grafana", "prometheus"]


def target_of(mount: str) -> str:
    """Return where a volume is mounted."""
    return mount.split(":")[1]


def test_compose_starts_a_coordinator_and_a_client() -> None:
    started = {name: service for name, service in SERVICES.items() if "profiles" not in service}
    assert sorted(started) == ["client", "coordinator"]
    assert {name: service["build"]["target"] for name, service in started.items()} == {name: name for name in started}
    assert set(STAGES) >= set(started)


def test_monitoring_starts_only_when_asked_for_and_listens_to_this_machine_only() -> None:
    asked = {name: service for name, service in SERVICES.items() if service.get("profiles") == ["monitoring"]}
    assert sorted(asked) == MONITORING
    for service in asked.values():
        (published,) = service["ports"]
        assert published.startswith("${MONITORING_BIND:-127.0.0.1}:")
        sources = [mount.split(":")[0] for mount in service["volumes"]]
        assert [source for source in sources if source[0] == "." and not (REPOSITORY / source).exists()] == []
        assert [mount for mount in service["volumes"] if mount[0] == "." and not mount.endswith(":ro")] == []


@pytest.mark.parametrize("name", IMAGES)
def test_every_variable_that_compose_sets_is_a_setting(name: str) -> None:
    given = set(SERVICES[name]["environment"])
    assert sorted(given - environment_names(SETTINGS[name])) == []


@pytest.mark.parametrize("name", IMAGES)
def test_every_variable_of_ours_that_an_image_sets_is_a_setting(name: str) -> None:
    given = {variable for variable in STAGES[name].environment() if OUR_NAMES.fullmatch(variable)}
    assert given
    assert sorted(given - environment_names(SETTINGS[name])) == []


@pytest.mark.parametrize("name", IMAGES)
def test_no_image_runs_as_root(name: str) -> None:
    user, _, group = STAGES[name].all("USER")[-1].partition(":")
    assert int(user) >= 1000
    assert int(group) >= 1000


@pytest.mark.parametrize("name", [*IMAGES, *MONITORING])
def test_every_container_is_locked_down(name: str) -> None:
    assert loose_ends(SERVICES[name]) == []


def test_clients_wait_for_a_coordinator_that_can_say_it_is_well() -> None:
    assert SERVICES["client"]["depends_on"] == {"coordinator": {"condition": "service_healthy"}}
    assert "/healthz" in STAGES["coordinator"].all("HEALTHCHECK")[0]


def test_the_port_is_the_same_everywhere_and_open_to_this_machine_only() -> None:
    environment = STAGES["coordinator"].environment()
    port = environment["FED_COMPUTE_PORT"]
    assert STAGES["coordinator"].all("EXPOSE") == [port]
    assert SERVICES["client"]["environment"]["COORDINATOR_URL"] == f"http://coordinator:{port}"
    (published,) = SERVICES["coordinator"]["ports"]
    assert published.endswith(f":{port}")
    assert published.startswith("${COORDINATOR_BIND:-127.0.0.1}:")


def test_what_must_last_lies_in_named_volumes() -> None:
    (data,), (state,) = (SERVICES[name]["volumes"] for name in ("coordinator", "client"))
    assert target_of(data) == STAGES["coordinator"].environment()["FED_COMPUTE_DATA_DIR"]
    assert target_of(state) == STAGES["client"].environment()["CLIENT_STATE_DIR"]
    kept = [mount.split(":")[0] for name in MONITORING for mount in SERVICES[name]["volumes"] if mount[0] != "."]
    assert {mount.split(":")[0] for mount in (data, state)} | set(kept) == set(COMPOSE["volumes"])
    for name, mount in (("coordinator", data), ("client", state)):
        assert f"chown 10001:10001 {target_of(mount)}" in " ".join(STAGES[name].all("RUN"))


def test_only_the_client_image_installs_torch() -> None:
    steps = {name: " ".join(run for stage in lineage(name, STAGES) for run in stage.all("RUN")) for name in IMAGES}
    assert "[client]" in steps["client"]
    assert "[" not in steps["coordinator"]


def test_every_installation_follows_the_pins_or_adds_nothing() -> None:
    installs = [run for stage in STAGES.values() for run in stage.all("RUN") if " install " in run]
    assert len(installs) == 4
    assert [run for run in installs if "-c constraints.txt" not in run and "--no-deps" not in run] == []


def test_every_builder_can_read_the_dockerfile() -> None:
    assert NEW_SYNTAX.findall(DOCKERFILE) == []
    assert {stage.parent for stage in STAGES.values()} - set(STAGES) == {"${BASE_IMAGE}"}


def test_everything_that_is_copied_exists_and_reaches_the_build() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    copies = [rest.split()[:-1] for stage in STAGES.values() for rest in stage.all("COPY") if "--from" not in rest]
    sources = {source.removeprefix("./") for copy in copies for source in copy}
    assert sources >= {"src", "pyproject.toml", "constraints.txt"}
    assert [source for source in sources if not (REPOSITORY / source).exists() or ignored(source, patterns)] == []
    assert ignored(".git", patterns)
    assert ignored(".venv", patterns)


def test_the_parts_cover_the_data_once() -> None:
    clients = {name: service for name, service in PARTS["services"].items() if name != "client"}
    found = [re.search(r"part=(\d+)/(\d+)", service["environment"]["CLIENT_DATA"]) for service in clients.values()]
    assert [match and match.groups() for match in found] == [
        (str(i + 1), str(len(clients))) for i in range(len(clients))
    ]
    assert PARTS["services"]["client"] == {"scale": 0}
    assert all(one["extends"] == {"file": "docker-compose.yml", "service": "client"} for one in clients.values())


def test_the_guide_names_only_variables_that_exist() -> None:
    guide = (REPOSITORY / "INSTALL_DOCKER.md").read_text(encoding="utf-8")
    known = set().union(*(environment_names(settings) for settings in SETTINGS.values()))
    named = set(OUR_NAMES.findall(guide))
    assert named
    assert sorted(named - known) == []


def test_a_loose_service_is_noticed() -> None:
    assert loose_ends({"read_only": True, "cap_drop": ["ALL"], "privileged": True, "restart": "no"}) == [
        "no-new-privileges", "privileged", "pids_limit", "stop_grace_period",
    ]  # fmt: skip
    assert loose_ends({})[:2] == ["read_only", "cap_drop"]


@pytest.mark.parametrize(
    "line", ["# syntax=docker/dockerfile:1", "RUN --mount=type=cache x", "RUN <<EOF", "COPY --link a b"]
)
def test_new_syntax_is_noticed(line: str) -> None:
    assert NEW_SYNTAX.search(f"FROM a\n{line}\n")


def test_a_dockerfile_is_read_as_a_builder_reads_it() -> None:
    text = (
        "ARG B=x\nFROM ${B} AS one\nENV A=1 \\\n    # no\n    C=2\nFROM one AS two\nCOPY --from=one /a /b\nUSER 5:5\n"
    )
    read = stages(text)
    assert read["one"].environment() == {"A": "1", "C": "2"}
    assert [stage.name for stage in lineage("two", read)] == ["two", "one", "one"]
    assert read["two"].all("USER") == ["5:5"]
