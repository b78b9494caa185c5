"""Whether this machine can take part in a coordinator's training."""

from collections.abc import Iterator
from pathlib import Path

from fed_compute.cli.doctor import environment, machine
from fed_compute.cli.doctor.coordinator import Keys, look_at_coordinator
from fed_compute.cli.doctor.judgements import JOIN_MEMORY_BYTES, Finding, bad, well
from fed_compute.client.config import ADDRESS_RULE, ClientSettings, is_address
from fed_compute.client.datasets import load_dataset
from fed_compute.clock import Clock
from fed_compute.errors import DatasetInvalid, DatasetMissing, ExtraMissing, SettingInvalid

PREFIXES = ("CLIENT_",)
_INSTALL = "pip install 'fed-compute[client]'"


def look(
    url: str, *, key_file: Path | None, data: str | None, state_dir: Path | None, clock: Clock
) -> Iterator[Finding]:
    """Yield one finding after another. Nothing is registered and no task is taken.

    If a variable cannot be used, the defaults stand for the settings from there on.

    Raises:
        SettingInvalid: if the address is none.
    """
    if not is_address(url):
        raise SettingInvalid(f"--url {url[:200]!r}: wanted {ADDRESS_RULE}")
    yield from machine.program()
    findings = environment.settings(ClientSettings, prefixes=PREFIXES, environ=environment.present())
    yield from findings
    usable = all(one.level != "bad" for one in findings)
    settings = ClientSettings() if usable else ClientSettings.model_construct()
    folder = (state_dir or settings.client_state_dir).expanduser()
    yield from machine.clock(clock)
    given = None if settings.client_api_key is None else settings.client_api_key.get_secret_value()
    yield from look_at_coordinator(url.rstrip("/"), Keys(key_file, given, folder, settings.client_name), clock)
    yield from _own_folder(folder, settings)
    yield machine.memory(wanted_bytes=JOIN_MEMORY_BYTES)
    yield _torch(settings)
    yield _data(data or settings.client_data)


def _own_folder(folder: Path, settings: ClientSettings) -> Iterator[Finding]:
    finding = machine.folder("own folder", folder, secrets=["credentials/*.json"])
    yield finding
    if finding.level != "bad":
        yield machine.space("disk", folder, wanted_bytes=round(settings.client_spool_megabytes * 1e6))


def _torch(settings: ClientSettings) -> Finding:
    installed = machine.installed_version("torch")
    try:
        from fed_compute.client import trainer

        device = trainer.choose_device(settings.client_device)
    except ModuleNotFoundError:
        return bad("torch", "PyTorch is not installed", f"install it: {_INSTALL}")
    except ExtraMissing as error:
        return bad("torch", error.message, "set CLIENT_DEVICE=cpu, or install a PyTorch for this GPU")
    return well("torch", f"{installed}, trains on {device}")


def _data(spec: str) -> Finding:
    try:
        dataset = load_dataset(spec)
    except (DatasetInvalid, DatasetMissing, ExtraMissing, SettingInvalid) as error:
        return bad("data", error.message, "name your data with --data, or CLIENT_DATA")
    return well("data", f"{len(dataset):,} samples of {spec}, each {' × '.join(map(str, dataset.x.shape[1:])) or 1}")
