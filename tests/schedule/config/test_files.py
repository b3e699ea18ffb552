"""`load_config`: four formats, one meaning; nothing is executed; every error has file, line and key."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

from resumable_sched.errors import ConfigError
from resumable_sched.schedule import Config, build_schedulers, load_config

if TYPE_CHECKING:
    from pathlib import Path

PYTHON = """\
_base_lr = 0.2
epoch_length = 100
model = build(backbone=Net(depth=3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=epoch_length // 2),
    {'type': 'MultiStepLR', 'milestones': (8, 11), 'gamma': 0.1},
]
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=_base_lr / 2, momentum=0.9, hook=make()))
"""
TOML = """\
title = "other [things]" # param_scheduler = 1
[optimizer]
type = "SGD"
lr = 0.1
momentum = 0.9
[[param_scheduler]]
type = "LinearLR"
start_factor = 1e-3
by_epoch = false
begin = 0
end = 50
[[param_scheduler]]
type = "MultiStepLR"
milestones = [
    8,  # and
    11,
]
gamma = 0.1
"""
YAML = """\
iterations: &iterations {by_epoch: no, begin: 0}
optimizer: {type: SGD, lr: 1e-1, momentum: 0.9}
param_scheduler:
  - type: LinearLR
    start_factor: 1e-3
    <<: *iterations
    end: 50
  - type: MultiStepLR
    milestones: [8, 11]
    gamma: 0.1
"""
JSON = """\
{"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9},
 "param_scheduler": [
  {"type": "LinearLR", "start_factor": 1e-3, "by_epoch": false, "begin": 0, "end": 50},
  {"type": "MultiStepLR",
   "milestones": [8, 11],
   "gamma": 0.1}
]}
"""
ALL = {"config.py": PYTHON, "config.toml": TOML, "config.yaml": YAML, "config.yml": YAML, "config.json": JSON}
EXPECTED = [
    {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 50},
    {"type": "MultiStepLR", "milestones": [8, 11], "gamma": 0.1},
]


def load(folder: Path, text: str, name: str = "config.py") -> Config:
    """Write a config and load it."""
    (folder / name).write_text(text, encoding="utf-8")
    return load_config(folder / name)


def build(config: Config) -> Any:
    """Build the schedules of *config*."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    return build_schedulers(optimizer, config, epoch_length=100, max_epochs=12)


def failure(folder: Path, text: str, name: str = "config.py") -> ConfigError:
    """Return the error of loading and building a config."""
    with pytest.raises(ConfigError) as raised:
        build(load(folder, text, name))
    return raised.value


@pytest.mark.parametrize("name", ALL)
def test_the_formats_say_the_same(tmp_path: Path, name: str) -> None:
    """Schedules and the numbers of the optimizer are read from each."""
    config = load(tmp_path, ALL[name], name)

    assert config.schedulers == EXPECTED
    assert config.optimizers == {"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}}
    assert config.key == "param_scheduler"
    assert len(build(config)) == 2


@pytest.mark.parametrize(
    ("name", "line"), [("config.py", 6), ("config.toml", 14), ("config.yaml", 9), ("config.json", 5)]
)
def test_an_error_points_at_file_line_and_key(tmp_path: Path, name: str, line: int) -> None:
    """The line is the one of the key whose value is wrong."""
    text = ALL[name].replace("8,", '"8",', 1)

    error = failure(tmp_path, text, name)

    assert (error.file, error.line, error.path) == (str(tmp_path / name), line, "param_scheduler[1].milestones")
    assert str(error).startswith(f"{tmp_path / name}:{line}: param_scheduler[1].milestones: `milestones` must be")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "param_scheduler = [\n dict(type='LinearLR'\n"),
        ("a.toml", "\n\nparam_scheduler = {\n"),
        ("a.yaml", "\nparam_scheduler: [\n  {a: 1\n"),
        ("a.json", '{"param_scheduler":\n\n nope}'),
        ("a.py", "x = 1\0"),
    ],
)
def test_a_file_that_is_not_of_its_format_is_an_error_with_a_line(tmp_path: Path, name: str, text: str) -> None:
    """Syntax errors are told with file and line."""
    error = failure(tmp_path, text, name)

    assert error.file == str(tmp_path / name)
    assert error.line is not None or "\0" in text


@pytest.mark.parametrize("key", ["scheduler", "schedulers"])
def test_other_names_of_the_key_are_known_and_named_in_errors(tmp_path: Path, key: str) -> None:
    """The guide calls it `scheduler`."""
    error = failure(tmp_path, f"{key} = dict(type='StepLR')")

    assert error.path == key
    assert "`step_size`" in str(error)


def test_two_keys_or_none_are_refused(tmp_path: Path) -> None:
    """It must be clear which schedules are meant."""
    assert "Keep one" in failure(tmp_path, "scheduler = []\nparam_scheduler = []").reason
    assert "is not there" in failure(tmp_path, "model = 1").reason


def test_no_schedules_are_an_empty_list(tmp_path: Path) -> None:
    """A config of MMEngine says None where a hook of its own moves the learning rate."""
    assert load(tmp_path, "param_scheduler = None").schedulers == []
    assert load(tmp_path, "scheduler = None\nparam_scheduler = [dict(type='X')]").schedulers == [{"type": "X"}]
    assert build(load(tmp_path, "param_scheduler = None")) == []


def test_how_long_training_is_is_read_where_mmengine_has_it(tmp_path: Path) -> None:
    """`train_cfg` tells a preview; what is no number there tells nothing."""
    text = "param_scheduler = []\ntrain_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=f())"
    assert (load(tmp_path, text).max_epochs, load(tmp_path, text).max_iters) == (12, None)
    assert load(tmp_path, "param_scheduler = []\ntrain_cfg = dict(max_epochs=f())").max_epochs is None
    (tmp_path / "base.py").write_text(text + "\noptim_wrapper = make()")
    based = load(
        tmp_path, "_base_ = 'base.py'\ntrain_cfg = dict(val_interval=5)\noptim_wrapper = dict(type='SGD', lr=0.3)"
    )
    assert (based.max_epochs, based.optimizers) == (12, {"optimizer": {"type": "SGD", "lr": 0.3}})


def test_nothing_is_executed(tmp_path: Path) -> None:
    """A file full of code is read, and none of it runs."""
    marker = tmp_path / "executed"
    config = load(
        tmp_path,
        f"""\
import does_not_exist
open({str(marker)!r}, "w").write("x")
raise SystemExit
class A: open({str(marker)!r}, "w")
param_scheduler = dict(type='StepLR', step_size=3)
""",
    )

    assert config.schedulers == {"type": "StepLR", "step_size": 3}
    assert not marker.exists()
    assert "does_not_exist" not in sys.modules


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12 * 100", 1200),
        ("epochs * 2 - 1", 23),
        ("-(1) + 2.5", 1.5),
        ("2 ** 3 % 5", 3),
        ("[*stones, 11]", [8, 11]),
        ("stones + [11]", [8, 11]),
        ("(8, 11)", [8, 11]),
        ("not True", False),
        ("[epochs] * 2", [12, 12]),
        ("stones[-1] + nested['a'][0].b", 13),
        ("int(epochs * 0.3) + round(1.6) + max(stones)", 13),
        ("len(stones) + min(2, 3) + abs(-1) + float(1)", 5.0),
        ("'a' + 'b'", "ab"),
    ],
)
def test_python_values_may_be_computed_from_numbers_and_names(tmp_path: Path, expression: str, value: object) -> None:
    """What MMEngine's configs do with numbers works."""
    names = "epochs: int = 6\nepochs += 6\nstones = [8]\nnested = dict(a=[dict(b=5)])\n"
    text = f"{names}param_scheduler = dict(type='X', value={expression})"

    assert load(tmp_path, text).schedulers == {"type": "X", "value": value}


def test_python_dicts_may_be_spread_and_named(tmp_path: Path) -> None:
    """``dict(**common)``, ``{**common}`` and names of whole schedules work, and later keys win."""
    text = """\
common = dict(by_epoch=False, begin=0)
warm_up = dict(type='LinearLR', **common)
param_scheduler = [warm_up, {**common, 'type': 'StepLR', 'begin': 5, 'step_size': 2}]
"""

    assert load(tmp_path, text).schedulers == [
        {"type": "LinearLR", "by_epoch": False, "begin": 0},
        {"type": "StepLR", "by_epoch": False, "begin": 5, "step_size": 2},
    ]


def test_an_imported_class_stands_for_its_path(tmp_path: Path) -> None:
    """MMEngine's newer style, ``type=LinearLR`` after an import, needs no import here."""
    text = """\
from mmengine.optim.scheduler import LinearLR
import mmengine.optim.scheduler as schedule
param_scheduler = [dict(type=LinearLR), dict(type=schedule.CosineAnnealingLR, T_max=12)]
"""

    assert [type(each).__name__ for each in build(load(tmp_path, text))] == ["LinearLR", "CosineAnnealingLR"]


@pytest.mark.parametrize(
    ("text", "line", "path", "source"),
    [
        ("param_scheduler = [\n dict(\n type='StepLR',\n step_size=f(x))]", 4, "[0].step_size", "`f(x)`"),
        ("param_scheduler = dict(step_size=len(x))", 1, ".step_size", "`x`"),
        ("param_scheduler = dict(step_size=x[0])", 1, ".step_size", "`x[0]`"),
        ("x = f()\nparam_scheduler = dict(step_size=x['a'])", 2, ".step_size", "`f()`"),
        ("param_scheduler = dict(step_size=[1][5])", 1, ".step_size", "`[1][5]`"),
        ("param_scheduler = dict(step_size=int([1]))", 1, ".step_size", "`int([1])`"),
        ("def int(x): pass\nparam_scheduler = dict(step_size=int(1))", 2, ".step_size", "`int(1)`"),
        ("n = f()\nparam_scheduler = dict(type='StepLR',\n step_size=n)", 3, ".step_size", "`f()`"),
        ("param_scheduler = dict(step_size=undefined)", 1, ".step_size", "`undefined`"),
        ("param_scheduler = [x for x in y]", 1, "", "`[x for x in y]`"),
        ("param_scheduler = dict(step_size=1 / 0)", 1, ".step_size", "division by zero"),
        ("param_scheduler = dict(step_size=9 ** 9 ** 9)", 1, ".step_size", "too large"),
        ("param_scheduler = dict(step_size='a' * 5)", 1, ".step_size", "`'a' * 5`"),
        ("param_scheduler = dict(step_size=b'5')", 1, ".step_size", "`b'5'`"),
        ("param_scheduler = [dict()]\nparam_scheduler[i]['end'] = 5", 2, "", "`param_scheduler[i]['end'] = 5`"),
        ("param_scheduler = []\nparam_scheduler.append(1)", 2, "", "param_scheduler.append"),
        ("a = dict()\nparam_scheduler = [a]\na.update(end=5)", 3, "", "a.update"),
        ("param_scheduler = [1]\nlast = param_scheduler.pop()", 2, "", "param_scheduler.pop"),
        ("if x:\n param_scheduler = []", 1, "", "`if x:`"),
        ("for param_scheduler in x: pass", 1, "", "`for param_scheduler in x:`"),
        ("def param_scheduler(): pass", 1, "", "`def param_scheduler():`"),
        ("from .base import param_scheduler", 1, "", "is imported: .base.param_scheduler"),
    ],
)
def test_what_would_need_execution_is_refused_with_its_place(
    tmp_path: Path, text: str, line: int, path: str, source: str
) -> None:
    """A value that cannot be read, or that later code may change, is never guessed."""
    error = failure(tmp_path, text)

    assert (error.line, error.path) == (line, "param_scheduler" + path)
    assert source in error.reason


@pytest.mark.parametrize(
    "text",
    [
        "x = 0x" + "f" * 500_000 + "\nx ** 1\ny = x ** 1",
        "y = [1] * -99999999999999999999999",
        "y = round(5, -10 ** 100)",
        "x = [1, 2]\n" + "x = [*x, *x]\n" * 60,
        "x = [1, 2]\n" + "x = x + x\n" * 60,
        "x = 'ab'\n" + "x = x + x\n" * 60,
        "x = [1, 2]\n" + "x = [x, x]\n" * 60,
        "x = [1, 2]\n" + "x = [x]\n" * 3000 + "f(x)",
        "x = [1, 2]\n" + "x = dict(a=x, b=x)\n" * 60 + "x['a'] = x",
    ],
    ids=lambda text: text[-24:],
)
def test_what_is_not_needed_costs_nothing_and_is_no_error(tmp_path: Path, text: str) -> None:
    """However large it would be."""
    assert load(tmp_path, f"{text}\nparam_scheduler = []").schedulers == []


def test_code_about_other_things_does_not_matter(tmp_path: Path) -> None:
    """Only what touches the schedules is refused."""
    text = PYTHON + "\nif cuda():\n    model = big()\nfor x in range(3):\n    print(x)\nmodel.update(1)\n"

    assert load(tmp_path, text).schedulers == EXPECTED


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.json", '{"param_scheduler": {"type": "StepLR", "step_size": 3,\n "step_size": 4}}', 2),
        ("a.yaml", "param_scheduler:\n  type: StepLR\n  step_size: 3\n  step_size: 4", 4),
    ],
)
def test_a_key_that_is_there_twice_is_refused(tmp_path: Path, name: str, text: str, line: int) -> None:
    """Parsers take the last one silently."""
    error = failure(tmp_path, text, name)

    assert "'step_size' must be there once" in error.reason
    assert error.line == line


def test_yaml_makes_no_objects_and_does_not_grow(tmp_path: Path) -> None:
    """Tags that call Python are errors, what contains itself too, and aliases cost nothing."""
    assert "python/object" in failure(tmp_path, "param_scheduler: !!python/object/apply:os.getcwd []", "a.yaml").reason
    assert "contain itself" in failure(tmp_path, "param_scheduler: &a\n  - *a", "a.yaml").reason
    bomb = "\n".join(["a0: &a0 [1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))])
    assert load(tmp_path, bomb + "\nparam_scheduler: {x: *a29}", "a.yaml").key == "param_scheduler"


def test_json_and_toml_positions_survive_strings_and_comments(tmp_path: Path) -> None:
    """Brackets in strings are no brackets."""
    toml = 'a = """]\n[[x]]"\n"""\nb = [ "#]", \'[\', { c = "}" } ] # ]\nscheduler = { type = "StepLR",\n'
    json_text = json.dumps({"a": ['"]}', {"b\n": "\\"}], "scheduler": {"type": "StepLR"}}, indent=1)

    assert failure(tmp_path, json_text, "a.json").line == 8
    assert failure(tmp_path, toml.removesuffix(",\n") + "}", "a.toml").line == 5


def test_settings_of_several_optimizers_are_found_by_name(tmp_path: Path) -> None:
    """MMEngine's `optim_wrapper` of a GAN has one for each."""
    text = """\
param_scheduler = []
optim_wrapper = dict(
    constructor=Constructor,
    generator=dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.1, betas=(0.5, 0.9))),
    discriminator=dict(optimizer=dict(type='SGD', lr=0.2)))
"""

    assert load(tmp_path, text).optimizers == {
        "generator": {"type": "Adam", "lr": 0.1, "betas": [0.5, 0.9]},
        "discriminator": {"type": "SGD", "lr": 0.2},
    }


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("x.yaml", "param_scheduler:\n  type: StepLR\n  step_size: 2\x00", "This is not valid YAML"),
        ("x.yaml", "scheduler: " + "[" * 5000, "nested too deeply"),
        ("x.json", '{"scheduler": ' + "[" * 100_000, "nested too deeply"),
        ("x.toml", "scheduler = " + "[" * 5000, "nested too deeply"),
        ("x.json", '{"scheduler": ' + "1" * 5000 + "}", "Exceeds the limit"),
        ("x.py", "x = " + "-" * 20_000 + "1", "nested too deeply"),
        ("x.py", "scheduler = dict(type='StepLR', step_size=1, step_size=2)", "'step_size' must be there once"),
    ],
    ids=lambda each: each[:24],
)
def test_what_no_parser_takes_is_an_error_of_the_file(tmp_path: Path, name: str, text: str, reason: str) -> None:
    """It names the file, and no parser's own error comes through."""
    error = failure(tmp_path, text, name)

    assert reason in error.reason
    assert error.file == str(tmp_path / name)


@pytest.mark.parametrize(
    ("part", "line", "path"),
    [
        ("dict(type='StepLR',\n  step_sze=3)", 4, "step_sze"),
        ("dict(type='StepLR',\n  step_size='3')", 4, "step_size"),
        ("dict(step_size=3)", 3, "step_size"),
    ],
)
def test_an_error_in_a_part_of_a_schedule_points_there(tmp_path: Path, part: str, line: int, path: str) -> None:
    """At the line of the part's own argument."""
    text = f"""scheduler = dict(type='SequentialLR', milestones=[5], schedulers=[
 dict(type='ExponentialLR', gamma=0.9),
 {part}])"""

    error = failure(tmp_path, text)

    assert error.line == line
    assert error.path == f"scheduler.schedulers[1].{path}"
