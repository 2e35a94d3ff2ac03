"""List prices: the file that comes along, and what is said of a user's own that is wrong."""

import json

import pytest

from sar_jax.errors import UserError
from sar_jax.parallel import chips
from sar_jax.planning import prices

GOOD = {
    "currency": "EUR",
    "date": "2026-01-31",
    "source": "a contract",
    "prices": {"v6e": {"on-demand": 2, "ours": 0.5}, "v4": {}},
}


def written(tmp_path, content):
    file = tmp_path / "prices.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_those_that_come_along_have_a_source_a_date_and_a_price_for_every_chip():
    found = prices.read()
    assert found.source.startswith("https://cloud.google.com/tpu/pricing") and found.date
    for chip in chips.CHIPS:
        assert 0.5 < found.of(chip, "on-demand") < 20
        others = [found.of(chip, name) for name in found.capacities()]
        assert max(price for price in others if price) == found.of(chip, "on-demand")


def test_a_users_own_take_their_place(tmp_path):
    found = prices.read(written(tmp_path, GOOD))
    assert found.of("v6e", "ours") == 0.5 and found.of("v6e", "on-demand") == 2
    assert found.of("v6e", "spot") is None and found.of("v5e", "on-demand") is None
    assert found.capacities() == ["on-demand", "ours"]
    assert found.currency == "EUR"


@pytest.mark.parametrize(
    "change, said",
    [
        ({"prices": {"v6": {"on-demand": 1}}}, "'v6' is no chip; there are v4, v5e"),
        ({"prices": {"v6e": {"on-demand": "2.70"}}}, "v6e, on-demand: '2.70' is no number"),
        ({"prices": {"v6e": {"on-demand": -1}}}, "v6e, on-demand: -1 is no price"),
        ({"prices": {"v6e": {"on-demand": float("nan")}}}, "nan is no price"),
        ({"prices": {"v6e": {"on-demand": True}}}, "True is no number"),
        ({"prices": {"v6e": 2.7}}, "the prices of v6e have to be an object"),
        ({"prices": []}, "'prices' has to be an object"),
        ({"date": "November"}, "write it as 2026-09-17"),
        ({"date": 2026}, "'date' has to be a text"),
        ({"source": " "}, "'source' has to be a text"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, said):
    file = written(tmp_path, GOOD | change)
    with pytest.raises(UserError) as error:
        prices.read(file)
    assert said in str(error.value) and str(file) in str(error.value)


@pytest.mark.parametrize("name", list(GOOD))
def test_what_is_missing_is_named(tmp_path, name):
    file = written(tmp_path, {key: value for key, value in GOOD.items() if key != name})
    with pytest.raises(UserError, match=f"'{name}' is missing"):
        prices.read(file)


@pytest.mark.parametrize("content, said", [("{", "is not JSON"), ("[1]", "to be an object")])
def test_a_file_that_is_something_else_is_named(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        prices.read(written(tmp_path, content))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="none.json: No such file"):
        prices.read(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not JSON"):
        prices.read(tmp_path / "binary.json")
