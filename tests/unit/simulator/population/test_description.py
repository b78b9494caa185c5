"""Fleet files: the presets load, and a mistake is named with the nearest right key before anything happens."""

from pathlib import Path

import pytest

from fed_compute.errors import FleetInvalid
from fed_compute.simulator.population import load_fleet, preset_names
from fed_compute.simulator.population.description import parse_fleet_text

DEVICE = '[[device]]\nname = "pc"\n'


@pytest.mark.parametrize("name", ["hostile", "mobile", "stable", "volunteer"])
def test_every_preset_loads_and_says_what_it_is(name: str) -> None:
    fleet = load_fleet(name)
    assert fleet.name == name
    assert fleet.description
    assert name in preset_names()


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (DEVICE + "sampels_per_second = 3.0", "device.0.sampels_per_second", "mean 'device.samples_per_second'?"),
        (DEVICE + "availability = { fracton = 0.5 }", "device.0.availability.fracton", "device.availability.fraction"),
        (DEVICE + "[[attackers]]", "attackers", "did you mean 'attacker'?"),
        (DEVICE + 'share = "all"', "device.0.share", "found 'all'"),
        (DEVICE + "dropout_probability = 1.5", "device.0.dropout_probability", "less than or equal to 1"),
        (DEVICE + '[[attacker]]\nattack = "sign_flop"', "attacker.0.attack", "did you mean 'sign_flip'?"),
        (DEVICE + '[[attacker]]\nattack = "ipm"\nsettings = { epsilo = 1.0 }', "attacker.0", "epsilo"),
        (DEVICE + "share = 0.5", "", "add up to 0.5, wanted 1"),
        ('name = "nobody"', "device", "device is missing and has to be given"),
        ('[[devices]]\nname = "pc"', "device", "fleet.toml: unknown key 'devices', did you mean 'device'?"),
        ('[device]\nname = "pc"', "device", "wanted a list, for tables written [[device]]"),
        (DEVICE + "availability = 0.5", "device.0.availability", "found 0.5, wanted a table of keys"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_key_and_the_nearest_one(text: str, key: str, said: str) -> None:
    with pytest.raises(FleetInvalid, match=r".") as caught:
        parse_fleet_text(text, where="fleet.toml")
    assert caught.value.details["key"] == key
    assert said in caught.value.message
    assert caught.value.message.startswith("fleet.toml: ")


def test_what_is_no_toml_is_said_to_be_none() -> None:
    with pytest.raises(FleetInvalid, match="fleet is not TOML"):
        parse_fleet_text("[[device")


def test_a_name_that_is_no_preset_and_no_file_gets_the_nearest_preset() -> None:
    with pytest.raises(FleetInvalid, match="no fleet 'volunter', did you mean 'volunteer'"):
        load_fleet("volunter")


def test_a_fleet_can_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(DEVICE + "speed_spread = 3.0")
    assert load_fleet(file).device[0].speed_spread == 3.0
