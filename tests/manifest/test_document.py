import pytest
import yaml

from selfhost.manifest import document

QUOTES = "put it in quotes if it is text"
TAG = "has a YAML tag, which a manifest has no use for"
MERGE = "merge keys are not supported; write the fields out; a whole value may be an alias"
UNKNOWN = "unknown key; the engine's own options go under `engine_args`"
SEQUENCE = "a '[' is opened and not closed as it should; put text that contains '[', ']' or ',' in quotes"
MAPPING = "a '{' is opened and not closed as it should; put text that contains '{', '}' or ',' in quotes"
INDENTATION = "the indentation does not match the lines before"
COLON = (
    "a ':' stands where none can; compare the indentation with the line before; "
    "put a value that contains ': ' in quotes"
)
MODEL = "version: 1\nmodels:\n- name: chat\n"  # what follows, two spaces in, belongs to the model


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of PyYAML's parsers: libyaml's is there or not, by how PyYAML was built."""
    monkeypatch.setattr(document, "_LOADER", getattr(yaml, request.param))


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("max_model_len: 1:30", f"is a number to base 60 to YAML; {QUOTES}"),
        ("max_model_len: 010", f"is an octal number to YAML because of its leading zero; {QUOTES}"),
        ("max_model_len: 16k", "should be a whole number, not '16k'"),
        ("max_model_len: 0o10", "should be a whole number, not '0o10'"),
        ("max_model_len: 1e5", "should be a whole number, not '1e5'"),
        ("max_model_len: 1.0", "should be a whole number, not the number 1.0"),
        ("max_model_len: yes", "should be a whole number, not `yes`, which YAML reads as true or false"),
        ("max_model_len: [1]", "should be a whole number, not a list"),
        (f"max_model_len: {'9' * 5000}", f"has too many digits for a number; {QUOTES}"),
        ("gpu_memory_utilization: .nan", f"is not a finite number; {QUOTES}"),
        ("gpu_memory_utilization: 1.0e+999", f"is not a finite number; {QUOTES}"),
        ("gpu_memory_utilization: 1:30.5", f"is a number to base 60 to YAML; {QUOTES}"),
        (f"gpu_memory_utilization: 0.{'9' * 5000}", f"has too many digits for a number; {QUOTES}"),
        ("gpu_memory_utilization: 90%", "should be a number, not '90%'"),
        ('gpu_memory_utilization: "1"', "should be a number, not '1'; leave the quotes out"),
        ("revision: 1234567", 'should be text, not the number 1234567; put it in quotes: "1234567"'),
        ("revision: 2024-01-01", f"is a date to YAML; {QUOTES}"),
        ("revision: ~", "has no value; write one, or leave the key out"),
        ("revision:", "has no value; write one, or leave the key out"),
        ("revision: !!int 5", 'should be text, not the number 5; put it in quotes: "5"'),
        ("revision: !!int x", TAG),
        ("revision: !!python/object:os.system ls", TAG),
        ("revision: !!binary aGk=", TAG),
        ("revision: !mine x", TAG),
        ("aliases: !!set {a}", TAG),
        ('revision: "a\\0b"', "contains a character that no path and no argument can have"),
        ('source: "./x\\e[2J"', "contains a control character"),
        ('source: "./x\\u202Ey"', "contains a control character"),
        ('source: "./x\\ny"', "should be a path without control characters, not './x\\ny'"),
    ],
)
def test_values_that_yaml_reads_as_nobody_expects(problems, text: str, sentence: str) -> None:
    field = text.partition(":")[0]
    assert problems(f"{MODEL}  {text}\n") == [f"models.yaml:4: models.0.{field}: {sentence}"]


@pytest.mark.parametrize(
    "text, line",
    [
        ("revision: a\n  revision: b", "5: models.0.revision: duplicate key; the first is on line 4"),
        ("<<: {revision: a}", f"4: models.0.<<: {MERGE}"),
        ("no: a", "4: models.0.no: the key is true or false to YAML; put it in quotes"),
        ("1: a", "4: models.0.1: the key is a number to YAML; put it in quotes"),
        ("~: a", "4: models.0.'~': the key is null to YAML; put it in quotes"),
        ("? [a]\n  : b", "4: models.0: has a list or a mapping as a key; keys are words"),
        ("? a\n   b\n  : 1", f"4: models.0.'a b': {UNKNOWN}"),
        ('"a\\nb": 1', f"4: models.0.'a\\nb': {UNKNOWN}"),
        ("aliases: &a [*a]", "4: models.0.aliases.0: is an alias of what it is a part of"),
        ("engine_args: &a {b: *a}", "4: models.0.engine_args.b: is an alias of what it is a part of"),
    ],
)
def test_keys_and_aliases_that_a_manifest_cannot_have(problems, text: str, line: str) -> None:
    assert problems(f"{MODEL}  {text}\n") == [f"models.yaml:{line}"]


@pytest.mark.parametrize(
    "text, line",
    [
        ("a: [1\nb: 2", f"1: {SEQUENCE}"),
        ("a: {b: 1\nc: 2", f"1: {MAPPING}"),
        ("a: [${env:X}]", f"1: {SEQUENCE}"),
        ("a: 1\nlisten: [::1]:80", "2: a value is missing, or begins with a sign that needs quotes"),
        ("a:\n\t- b", "2: a tab is used for indentation; use spaces"),
        ("é:\n\tb: c", "2: a tab is used for indentation; use spaces"),
        ("a: @x", "1: no value can begin with '@'; put it in quotes"),
        ("a: `x`", "1: no value can begin with '`'; put it in quotes"),
        ("a: %x", "1: no value can begin with '%'; put it in quotes"),
        ("a: 'x\nb: 1", "1: a quote is opened and never closed"),
        ("a: 'it's'", f"1: {INDENTATION}"),
        ('a: "C:\\Users"', "1: a '\\' in double quotes begins no escape; use single quotes"),
        ("a: b: c", f"1: {COLON}"),
        ("a: b\n  c: d", f"2: {COLON}"),
        ("a: 1\nb\nc: 2", "2: is not `key: value`; a ':' is missing"),
        ("a:\n    b: 1\n  c: 2", f"3: {INDENTATION}"),
        ("a:\n  - b\n  c: d", f"3: {INDENTATION}"),
        ("  a: 1\nb: 2", "2: does not belong to what stands above; compare the indentation with the first line"),
        ("a: *b", "1: an alias (*) has no anchor (&) before it; put text that begins with '*' in quotes"),
        ("a: * b", "1: a name is missing after '*' or '&'; put text that begins with them in quotes"),
        ("a: &x 1\nb: &x 2", "2: an anchor (&) has the name of another one"),
        ("a: 1\n---\nb: 1", "2: a second document begins; a manifest is one document"),
        ("[" * 1000, "1: has more than 20 levels of nesting"),
        ("- " * 100_000, "1: has more than 20 levels of nesting"),
        ("".join(f"{' ' * depth}a:\n" for depth in range(1000)), "21: has more than 20 levels of nesting"),
        ("a: [" + "x, " * 20_000, "1: has more than 10000 keys and values (an alias counts as all that it stands for)"),
    ],
)  # fmt: skip
def test_text_that_is_no_document(problems, text: str, line: str) -> None:
    assert problems(text) == [f"models.yaml:{line}"]


@pytest.mark.parametrize(
    "text, sentence",
    [
        (
            "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 10}]\n" for n in range(1, 20)),
            "has more than 10000 keys and values (an alias counts as all that it stands for)",
        ),
        (
            "a0: &a0 x\n" + "".join(f"a{n}: &a{n} {'[' * 15}*a{n - 1} {']' * 15}\n" for n in range(1, 100)),
            "has more than 20 levels of nesting",
        ),
        (
            f"a: &a {'x' * 500_000}\nb: [*a, *a, *a, *a, *a]\n",
            "has more than 2097152 characters (an alias counts as all that it stands for)",
        ),
        (f"a: '{'${env:X}' * 50_000}'", "is too long with what the environment holds"),
    ],
    ids=["laughs", "depth", "text", "environment"],
)
def test_what_unfolds_into_something_huge_is_refused_while_it_does(problems, text: str, sentence: str) -> None:
    lines = problems(text, X="x" * 1000)
    assert any(line.endswith(f": {sentence}") for line in lines)


@pytest.mark.parametrize(
    "written, value",
    [
        *[("1_000", 1000), ("0x10", 16), ("0b11", 3), ("-5", -5), ("+5", 5), ("0", 0), ("-0x10", -16)],
        *[("1.", 1.0), (".5", 0.5), ("1_0.5", 10.5), ("1.5e+3", 1500.0)],
        *[("yes", True), ("off", False), ("True", True), ("FALSE", False)],
        *[("y", "y"), ("n", "n"), ("1e3", "1e3"), ("=", "="), ("<<", "<<"), ("!!str 5", "5"), ("'5'", "5")],
        ('"\\t\\u00e9"', "\té"),
        ("|\n      a\n      b", "a\nb\n"),
        ("[1, a, true]", (1, "a", True)),
    ],
)
def test_scalars_are_those_of_yaml(load, written: str, value: object) -> None:
    found = load(f"{MODEL}  engine_args:\n    dtype: {written}\n").models[0].engine_args["dtype"]
    assert (found, type(found)) == (value, type(value))


def test_a_whole_value_may_be_an_alias(load) -> None:
    manifest = load(f"{MODEL}  engine_args: &fast {{seed: 5}}\n- name: code\n  engine_args: *fast\n")
    assert manifest.models[1].engine_args == {"seed": 5}


def test_lines_are_those_of_the_key_and_of_the_item(problems) -> None:
    text = "version: 1\nmodels:\n  -\n    name:\n      Bad\n  - name: b\n    aliases:\n    - ok\n    -\n      a b\n"
    assert [line.split(": ")[0:2] for line in problems(text)] == [
        ["models.yaml:4", "models.0.name"],
        ["models.yaml:10", "models.1.aliases.1"],
    ]
