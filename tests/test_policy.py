"""The policy file: what it may hold, and a message with key and fix for everything else."""

import hashlib
import json
import re

import pytest
import yaml
from jsonschema import Draft202012Validator

from causalfm.auditing import policy as policies
from causalfm.auditing.policy import DEFAULT, Policy, default_values, load_policy
from causalfm.auditing.policy_problems import keys, schema
from causalfm.errors import PolicyError

HEAD = "version: 1\nname: p\n"
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nsubgroups: [*b, *b]\n"
# body behind the two lines of HEAD: what the message must hold; the first bad line is line 3
BODIES: dict[str, tuple[str, ...]] = {
    "efect_ratio: 0.5": ("line 3, efect_ratio", "no such key", "Did you mean 'effect_ratio'?"),
    "Alpha: 0.05": ("line 3, Alpha", "Did you mean 'alpha'?"),
    "margin: 2": ("line 3, margin", "no such key", "Known keys: version, name,"),
    "1: 2": ("line 3, 1", "no such key"),
    "? [a, b]\n: 3": ("line 3", "a key must be a word"),
    "<<: {flip_rate: 1}": ("line 3, <<", "no such key"),
    "effect_ratio: -1": ("effect_ratio: '-1'", "above 0, at most 10", "effect_ratio: 0.5"),
    "effect_ratio: 0": ("effect_ratio: '0'", "above 0"),
    "effect_ratio: 50": ("effect_ratio: '50'", "at most 10"),
    "flip_rate: 1.01": ("flip_rate: '1.01'", "0 to 1"),
    "alpha: 0.95": ("alpha: '0.95'", "0.001 to 0.2", "alpha: 0.05"),
    "alpha: 0": ("alpha: '0'", "0.001 to 0.2"),
    "effect_ratio: .nan": ("effect_ratio: '.nan'", "no finite number"),
    "effect_ratio: -.inf": ("effect_ratio: '-.inf'", "no finite number"),
    "effect_ratio: true": ("effect_ratio: 'true'", "means true in YAML", "a number is needed"),
    "minimum_groups: no": ("minimum_groups: 'no'", "means false in YAML", "a whole number is needed"),
    'effect_ratio: "0.4"': ("effect_ratio: '0.4'", "text in quotes", "effect_ratio: 0.4"),
    "effect_ratio: 5%": ("effect_ratio: '5%'", "a percentage", "effect_ratio: 0.05"),
    "alpha: 10 %": ("alpha: '10 %'", "a percentage", "alpha: 0.1"),
    "effect_ratio: 0,4": ("effect_ratio: '0,4'", "no plain number", "effect_ratio: 0.4"),
    "effect_ratio: 4e-1": ("effect_ratio: '4e-1'", "effect_ratio: 0.4"),
    "effect_ratio: half": ("effect_ratio: 'half'", "no plain number"),
    "effect_ratio:": ("effect_ratio: has no value", "effect_ratio: 0.5"),
    "effect_ratio: ~": ("effect_ratio: has no value",),
    "effect_ratio: [0.5]": ("effect_ratio: a list or a table",),
    "effect_ratio: {a: 1}": ("effect_ratio: a list or a table",),
    "minimum_groups: 3.0": ("minimum_groups: '3.0'", "decimal point", "minimum_groups: 3"),
    "minimum_groups: 2": ("minimum_groups: '2'", "3 to 100,000"),
    "minimum_groups: 010": ("minimum_groups: '010'", "no plain number"),  # YAML 1.1 reads eight
    "permutations: 1_000": ("permutations: '1_000'", "no plain number"),
    "permutations: 16:39": ("permutations: '16:39'", "no plain number"),  # YAML 1.1 reads 999
    "permutations: 0x400": ("permutations: '0x400'", "no plain number"),
    "permutations: " + "9" * 5000: ("permutations", "no plain number"),
    "permutations: 99\nalpha: 0.001": ("permutations: 99", "alpha (0.001)", "permutations: 999"),
    "suppress_below: 2": ("suppress_below: 2", "is 1", "suppress_below: 3"),  # "<2" beside 0 means 1
    "suppress_below: 4": ("suppress_below: 4", "holds 3", "suppress_below: 5"),  # not left out: 3
    "minimum_groups: 7\nsuppress_below: 8": ("holds 7", "suppress_below: 9"),
    "suppress_below: -1": ("suppress_below: '-1'", "0 to 100,000", "suppress_below: 5"),
    "flip_rate: 0.2\nflip_rate: 0.4": ("flip_rate stands in lines 3 and 4", "keep one"),
    "name: q": ("name stands in lines 2 and 3",),
    "subgroups: sex": ("subgroups: 'sex' is no list", "subgroups: [sex]"),
    "subgroups: sex, age": ("square brackets", "subgroups: [sex, age]"),
    "subgroups: [1, 2]": ("subgroups: '1' is no text", 'subgroups: ["1", "2"]'),
    "subgroups: [sex, age, sex]": ("'sex' stands in the list twice", "subgroups: [sex, age]"),
    "subgroups: ['']": ("subgroups: holds an empty name",),
    "subgroups: [[sex]]": ("subgroups", "no text"),
    "factors:": ("factors: has no value", "factors: [site, scanner]"),
    "factors: {site: 1}": ("factors", "no list"),
    "declared_on: 4.5.2026": ("declared_on: '4.5.2026'", "year-month-day", "2026-05-04"),
    "declared_on: 2026-13-01": ("declared_on: '2026-13-01'", "no day of the calendar"),
    "declared_on: 2026-05-04 10:00:00": ("declared_on", "year-month-day"),
    "declared_on: 20260504": ("declared_on", "no text", "2026-05-04"),
    "corrections: Full": ("corrections: 'Full'", "none, quick, full", "Did you mean 'full'?"),
    "corrections: false": ("corrections: 'false'", "none of none, quick, full"),
    "intended_use: 3": ("intended_use: '3'", "in quotes", 'intended_use: "3"'),
    "intended_use: yes": ("intended_use: 'yes'", 'intended_use: "yes"'),
    "declared_by: " + "x" * 501: ("declared_by: has 501 characters", "500"),
    "effect_ratio 0.5": ("line 4, column 1", "not valid YAML", "a space behind the colon"),
    "intended_use: a: b": ("line 3, column 16", "not valid YAML", "in quotes"),
    "\teffect_ratio: 1": ("line 3, column 1", "spaces, not with a tab"),
    "subgroups: [sex": ("line 4", "not valid YAML"),
    "---\nname: q": ("one document", "'---'"),
    "intended_use: \x07": ("line 3", "control character"),
    BOMB: ("line 4", "*a", "Write the value out"),
    "subgroups: !!python/object/apply:os.system [ls]": ("line 3", "is a tag"),
    "subgroups: " + "[" * 3000 + "]" * 3000: ("line 3", "nested too deep"),
}
FILES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty": (b"", ("is empty", "policy init")),
    "only comments": (b"# nothing\n", ("is empty", "policy init")),
    "a list": (b"- 1\n", ("is a list", "key: value", "policy init")),
    "text": (b"0.5\n", ("is text", "key: value")),
    "Latin-1": (b"version: 1\nname: M\xfcnchen\n", ("line 2", "not UTF-8")),
    "UTF-16": (HEAD.encode("utf-16"), ("not UTF-8",)),
    "too large": (HEAD.encode() + b"#" * 2**16, ("more than 64 KiB",)),
    "no version": (b"name: p\n", ("version is missing", "version: 1")),
    "no name": (b"version: 1\n", ("name is missing", "name: ")),
    "empty name": (b"version: 1\nname: ' '\n", ("line 2, name: is empty",)),
    "version 2": (b"version: 2\nname: p\n", ("line 1, version: '2'", "version: 1")),
    "version true": (b"version: true\nname: p\n", ("version: 'true'",)),
    "version in quotes": (b"version: '1'\nname: p\n", ("version: '1'", "version: 1")),
    "version 1.0": (b"version: 1.0\nname: p\n", ("version: '1.0'",)),
    "a null byte": (b"version: 1\nname: p\x00\n", ("line 2", "control character")),
}


def refused(path) -> str:
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    message = str(caught.value)
    assert message.startswith(path.name), message
    assert str(path.parent) not in message, "no path of the machine"
    return message


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:40].encode("unicode_escape").decode())
def test_a_bad_line_is_told_with_key_and_fix(tmp_path, body):
    path = tmp_path / "p.yaml"
    path.write_text(f"{HEAD}{body}\n")
    message = refused(path)
    for part in BODIES[body]:
        assert part in message, message
    assert len(message) < 700


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_told_with_the_fix(tmp_path, name):
    content, parts = FILES[name]
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    message = refused(path)
    for part in parts:
        assert part in message, message


def test_what_is_no_file(tmp_path):
    with pytest.raises(PolicyError, match=r"'\w+' is a folder: name the policy file in it"):
        load_policy(tmp_path)
    with pytest.raises(PolicyError, match=r"no policy file 'nowhere\.yaml': check the path"):
        load_policy(tmp_path / "nowhere.yaml")


def test_the_line_that_a_message_proposes_is_right(tmp_path):
    """Every "Write for instance:" and "Add the line:" of the table, put in the place of the bad line, is accepted."""
    tried = 0
    for body in BODIES:
        path = tmp_path / "p.yaml"
        path.write_text(f"{HEAD}{body}\n")
        found = re.search(r"(?:Write for instance|Write at least): (.*)$", refused(path))
        if found and "\n" not in body:
            path.write_text(f"{HEAD}{found[1]}\n")
            key = found[1].partition(":")[0]
            assert getattr(load_policy(path), key) is not None
            tried += 1
    assert tried > 35


def test_all_problems_are_listed_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("name: ''\nflip_rate: 2\nfoo: 1\nflip_rate: 3\n")
    message = refused(path)
    assert message.startswith("p.yaml has 5 problems:\n- ")
    assert [line[2:15] for line in message.splitlines()[1:]] == [
        "flip_rate sta",
        "line 1, name:",
        "line 2, flip_",
        "line 3, foo: ",
        "version is mi",
    ]


def test_what_a_policy_says_is_kept(tmp_path):
    path = tmp_path / "p.yaml"
    text = (
        "\ufeffversion: 1\r\nname: Krankenhaus Süd\r\nintended_use: |\r\n  second reader\r\n  for biopsies\r\n"
        "declared_by: B. Osei\r\ndeclared_on: 2026-05-04\r\nalpha: 0.01\r\nfactors: [site, 'scan ner']\r\n"
        "effect_ratio: 1\r\nsuppress_below: 5\r\n"
    )
    path.write_bytes(text.encode())
    found = load_policy(path)
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert (found.name, found.alpha, found.factors) == ("Krankenhaus Süd", 0.01, ("site", "scan ner"))
    assert found.purpose == {
        "intended_use": "second reader\nfor biopsies\n",
        "declared_by": "B. Osei",
        "declared_on": "2026-05-04",
    }
    assert repr(found.effect_ratio) == "1.0"  # a margin is a number, however it was written
    assert (found.suppress_below, found.flip_rate) == (5, load_policy().flip_rate)
    assert json.loads(json.dumps(found.to_dict()))["factors"] == ["site", "scan ner"]


def test_the_hash_asked_for_must_be_that_of_the_file(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(HEAD)
    right = hashlib.sha256(HEAD.encode()).hexdigest()
    assert load_policy(path, sha256=f"SHA256:{right.upper()}") == load_policy(path, sha256=right)
    for wrong, words in {
        "0" * 64: "p.yaml is not the policy asked for",
        right[:12]: "has 12 characters",
        "": "has 0 characters",
        "g" * 64: "other ones than 0-9 and a-f",
    }.items():
        with pytest.raises(PolicyError, match=words):
            load_policy(path, sha256=wrong)
    with pytest.raises(PolicyError, match=right):  # what the file has is said, so that the two can be compared
        load_policy(path, sha256="0" * 64)
    assert load_policy(sha256=load_policy().sha256) == load_policy()


def test_the_default_the_schema_and_the_class_know_the_same_keys():
    written = yaml.safe_load(DEFAULT.read_text())
    assert list(written) == list(default_values())
    assert set(written) == set(keys())
    fields = {name for name in Policy.__dataclass_fields__ if name != "sha256"}
    assert fields == set(keys()) - {"version"}
    Draft202012Validator.check_schema(schema())
    Draft202012Validator(schema()).validate(written)
    for key, rule in keys().items():
        assert rule["description"], key
        one = {"version": 1, "name": "p", key: rule["examples"][0]}
        Draft202012Validator(schema()).validate(one)


def test_class_defaults_are_those_of_the_file():
    default = load_policy()
    for name, spec in Policy.__dataclass_fields__.items():
        if spec.default is not policies.dataclasses.MISSING:
            assert getattr(default, name) == spec.default, name
