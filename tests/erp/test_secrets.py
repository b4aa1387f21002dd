"""Sealed secrets: nothing but the same place under a known key opens them."""

import base64
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerniq_stock.erp.secrets import (
    Keys,
    Place,
    SecretsError,
    new_key,
    read_keys,
    rewrap,
    seal,
    unseal,
)

PLACE = Place("tenant-1", "integrations", "credentials", "row-1")
OLD, NEW = new_key("k0"), new_key("k1")
KEYS = read_keys(f"{NEW},{OLD}")
words = st.text("abcdef-0123456789", min_size=1, max_size=12)


@given(st.binary(max_size=300))
def test_what_was_sealed_opens_at_its_place(plaintext):
    blob = seal(KEYS, PLACE, plaintext)
    assert unseal(KEYS, PLACE, blob) == plaintext
    assert blob != seal(KEYS, PLACE, plaintext)
    assert len(plaintext) < 8 or plaintext not in blob


@given(st.binary(max_size=40), st.data())
def test_any_flipped_bit_is_refused(plaintext, data):
    blob = bytearray(seal(KEYS, PLACE, plaintext))
    bit = data.draw(st.integers(0, len(blob) * 8 - 1))
    blob[bit // 8] ^= 1 << bit % 8
    for operation in (unseal, rewrap):
        with pytest.raises(SecretsError):
            operation(KEYS, PLACE, bytes(blob))


def test_every_truncation_is_refused_and_so_is_more():
    blob = seal(KEYS, PLACE, b"secret")
    for cut in [*(blob[:end] for end in range(len(blob))), blob + b"\0"]:
        with pytest.raises(SecretsError):
            unseal(KEYS, PLACE, cut)


@given(st.sampled_from(["tenant", "table", "column", "row"]), words)
def test_a_transplant_is_refused(part, other):
    blob = seal(KEYS, PLACE, b"secret")
    elsewhere = replace(PLACE, **{part: other})
    assert unseal(KEYS, PLACE, blob) == b"secret"
    for operation in (unseal, rewrap):
        with pytest.raises(SecretsError):
            operation(KEYS, elsewhere, blob)


def test_parts_of_a_place_cannot_run_into_each_other():
    for place in (Place("a|b", "c", "d", "e"), Place("", "c", "d", "e")):
        with pytest.raises(SecretsError):
            seal(KEYS, place, b"secret")


def test_keys_change_while_values_are_read():
    before = seal(read_keys(OLD), PLACE, b"secret")
    assert unseal(KEYS, PLACE, before) == b"secret"
    after = rewrap(KEYS, PLACE, before)
    assert after is not None
    assert unseal(read_keys(NEW), PLACE, after) == b"secret"
    assert rewrap(KEYS, PLACE, after) is None
    with pytest.raises(SecretsError, match="'k1', which is not configured"):
        unseal(read_keys(OLD), PLACE, after)


def test_a_data_key_under_another_name_does_not_open():
    """The same bytes under a second name: the name is bound, too."""
    key = OLD.split(":")[1]
    both = read_keys(f"k0:{key},k2:{key}")
    blob = seal(both, PLACE, b"secret")
    with pytest.raises(SecretsError):
        unseal(both, PLACE, blob.replace(b"k0", b"k2", 1))


def test_another_key_of_the_same_name_does_not_open():
    with pytest.raises(SecretsError, match="does not open"):
        unseal(read_keys(new_key("k1")), PLACE, seal(KEYS, PLACE, b"secret"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cerniq-stock erp new-key"),
        (" , ", "cerniq-stock erp new-key"),
        ("k1", "not 32 bytes"),
        (f":{'A' * 44}", "name of its own"),
        (f"{OLD},{OLD}", "key 2"),
        ("k1:" + base64.b64encode(b"short").decode(), "not 32 bytes"),
        (f"k1:{'!' * 44}", "not 32 bytes"),
        ("k1:é", "not 32 bytes"),
    ],
)
def test_keys_that_cannot_be_are_refused_in_a_sentence(text, says):
    with pytest.raises(SecretsError, match=says):
        read_keys(text)


def test_keys_come_from_a_file_but_not_from_two_places(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{NEW}\n{OLD}\n")
    assert read_keys(None, file) == KEYS
    with pytest.raises(SecretsError, match="not both"):
        read_keys(NEW, file)
    with pytest.raises(SecretsError, match="cannot be read"):
        read_keys(None, tmp_path / "none")


def test_nothing_shows_a_key():
    assert isinstance(KEYS, Keys)
    assert NEW.split(":")[1] not in repr(KEYS)
    assert "\\x" not in repr(KEYS)


def test_the_command_that_the_sentence_names_makes_a_key():
    made = subprocess.run(
        [sys.executable, "-m", "cerniq_stock.erp.secrets", "k9"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert read_keys(made.stdout).first == "k9"
