"""Configs that are based on others: what these hold, what may be changed there, and where they are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resumable_sched.errors import ConfigError
from resumable_sched.schedule import load_config
from tests.schedule.config.test_files import failure, load

if TYPE_CHECKING:
    from pathlib import Path


def test_a_config_is_based_on_others_as_in_the_peer(tmp_path: Path) -> None:
    """Dicts are merged key by key, lists are replaced, ``_delete_`` replaces a dict, and formats may be mixed."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "schedule.py").write_text("param_scheduler = dict(type='StepLR', step_size=3, gamma=0.5)")
    (tmp_path / "base" / "optimizer.toml").write_text("[optimizer]\ntype = 'SGD'\nlr = 0.4\n")

    merged = load(tmp_path, "_base_ = ['base/schedule.py', 'base/optimizer.toml']\nparam_scheduler = dict(step_size=5)")
    replaced = load(tmp_path, "_base_ = 'base/schedule.py'\nparam_scheduler = dict(_delete_=True, type='LinearLR')")
    listed = load(tmp_path, "_base_ = 'base/schedule.py'\nparam_scheduler = [dict(type='LinearLR')]")
    data = load(tmp_path, '{"_base_": "base/schedule.py"}', "config.json")

    assert merged.schedulers == {"type": "StepLR", "step_size": 5, "gamma": 0.5}
    assert merged.optimizers == {"optimizer": {"type": "SGD", "lr": 0.4}}
    assert replaced.schedulers == {"type": "LinearLR"}
    assert listed.schedulers == [{"type": "LinearLR"}]
    assert data.schedulers == {"type": "StepLR", "step_size": 3, "gamma": 0.5}


BASE = """\
max_epochs = 12
model = Model()
param_scheduler = [dict(type='LinearLR', end=3), dict(type='MultiStepLR', milestones=[8, 11])]
"""


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    ("change", "milestones"),
    [
        ("_base_.param_scheduler[1].milestones = [28, 34]", [28, 34]),
        ("_base_.param_scheduler[1]['milestones'][0] = 28", [28, 11]),
        ("_base_['param_scheduler'][1].milestones[0] += 1", [9, 11]),
        ("steps = _base_.param_scheduler\nsteps[1].milestones = [_base_.max_epochs]", [12]),
        ("_base_.model.backbone.depth = 50\ndel _base_.model", [8, 11]),
        ("_base_.model.update(depth=50)", [8, 11]),
        ("_base_.pipeline.insert(1, dict())", [8, 11]),
        ("param_scheduler = [0, dict(milestones=[{{_base_.max_epochs}}])]", [12]),
    ],
)
def test_what_a_config_is_based_on_can_be_changed_by_name(
    tmp_path: Path, change: str, milestones: list[int], *, listed: bool
) -> None:
    """`_base_` stands for what the files hold, in MMEngine's way; only what is touched in another way is doubted."""
    (tmp_path / "base.py").write_text(BASE)
    base = "['base.py']" if listed else "'base.py'"

    config = load(tmp_path, f"_base_ = {base}\n{change}")

    assert config.schedulers[1]["milestones"] == milestones  # type: ignore[index]


@pytest.mark.parametrize(
    "change",
    [
        "_base_.param_scheduler.append(dict())",
        "_base_.update(param_scheduler=[])",
        "copy = _base_\ncopy.update(param_scheduler=[])",
        "for each in _base_.param_scheduler: each.begin = 1",
        "steps = _base_.param_scheduler\nsteps.pop()",
        "if x: _base_.param_scheduler = []",
    ],
)
def test_what_is_changed_in_a_way_that_is_not_followed_is_refused(tmp_path: Path, change: str) -> None:
    """Never the values of the base as if nothing had been changed."""
    (tmp_path / "base.py").write_text(BASE)

    assert "may be changed by" in failure(tmp_path, f"_base_ = 'base.py'\n{change}").reason


def test_what_is_imported_with_read_base_is_read(tmp_path: Path) -> None:
    """MMEngine's newer style: modules that lie beside the config, by name or all, are found and not imported."""
    (tmp_path / "schedules").mkdir()
    (tmp_path / "schedules" / "one.py").write_text("from mmengine.optim import StepLR\n_private = 1\n" + BASE)
    config = tmp_path / "new" / "config.py"
    config.parent.mkdir()

    for names in ("*", "param_scheduler", "param_scheduler, max_epochs"):
        config.write_text(
            f"from mmengine.config import read_base\nwith read_base():\n    from ..schedules.one import {names}\n"
            "param_scheduler[1].milestones = [9]"
        )
        assert load_config(config).schedulers[1] == {"type": "MultiStepLR", "milestones": [9]}  # type: ignore[index]

    config.write_text("with read_base():\n    from ..schedules.two import param_scheduler")
    with pytest.raises(ConfigError, match=r"must import a config that is there, but `\.\.schedules\.two` is not"):
        load_config(config)
    config.write_text("with read_base():\n    from ..schedules.one import nothing as param_scheduler")
    with pytest.raises(ConfigError, match="may be changed by"):
        load_config(config)


def test_a_config_of_an_installed_package_can_be_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``package::file`` is found below ``.mim/configs`` of the package, which is not imported."""
    folder = tmp_path / "site" / "some_zoo" / ".mim" / "configs" / "schedules"
    folder.mkdir(parents=True)
    (tmp_path / "site" / "some_zoo" / "__init__.py").write_text("raise SystemExit")
    (folder / "one.py").write_text(BASE)
    monkeypatch.syspath_prepend(tmp_path / "site")

    config = load(tmp_path, "_base_ = 'some_zoo::schedules/one.py'")

    assert config.schedulers[1]["milestones"] == [8, 11]  # type: ignore[index]


def test_a_base_that_is_the_same_value_over_and_over_is_refused(tmp_path: Path) -> None:
    """Copying it would take for ever."""
    lines = ["a0: &a0 [1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))

    assert "too large" in failure(tmp_path, "_base_ = 'bomb.yaml'").reason


def test_a_base_is_read_once_however_often_it_is_named(tmp_path: Path) -> None:
    """Also where each file names two that are the same: else 30 of them would take for ever."""
    (tmp_path / "b0.py").write_text("x = dict(y=0)")
    for i in range(1, 30):
        (tmp_path / f"b{i}.py").write_text(f"_base_ = ['b{i - 1}.py', 'b{i - 1}.py']\nx = dict(z{i}={i})")

    config = load(tmp_path, "_base_ = 'b29.py'\nparam_scheduler = [_base_.x.z7, _base_.x.y]")

    assert config.schedulers == [7, 0]


@pytest.mark.parametrize(
    "base", ["_base_: str = 'base.py'", "_base_ = x = 'base.py'", "_base_ = 'base.py'\n_base_ = 'b.py'"]
)
def test_an_unusual_way_to_name_a_base_is_refused(tmp_path: Path, base: str) -> None:
    """MMEngine does not see it, or takes the first one."""
    (tmp_path / "base.py").write_text(BASE)

    assert "_base_" in str(failure(tmp_path, base))


def test_what_read_base_imports_twice_is_one_value(tmp_path: Path) -> None:
    """As a module's would be."""
    (tmp_path / "base.py").write_text(BASE)
    imports = "from .base import *\n    from .base import param_scheduler as other"

    config = load(tmp_path, f"with read_base():\n    {imports}\nother[0]['end'] = 6")

    assert config.schedulers[0]["end"] == 6  # type: ignore[index]


def test_an_error_in_a_base_points_at_the_base(tmp_path: Path) -> None:
    """The line of the file that says it."""
    (tmp_path / "base.py").write_text("\n\nparam_scheduler = dict(type='StepLR',\n step_size='3')")

    error = failure(tmp_path, "_base_ = 'base.py'")

    assert (error.file, error.line) == (str(tmp_path / "base.py"), 4)


@pytest.mark.parametrize(
    ("base", "text"),
    [
        ("['config.py']", "based on itself"),
        ("'missing.py'", "must be paths of files, but there is no"),
        ("'no_such::_base_/x.py'", "must be of installed packages, but no_such of 'no_such::_base_/x.py' is not"),
        ("'torch::_base_/x.py'", "must be paths of files, but there is no"),
        ("'https://x/y.py'", "must be paths of local files"),
        ("'x.ini'", "must be a file of type .py"),
        ("5", "must be the path of a file"),
        ("['list.py', 'list.py']", "is in"),
    ],
)
def test_a_base_that_cannot_be_used_is_refused(tmp_path: Path, base: str, text: str) -> None:
    """With the reason."""
    (tmp_path / "list.py").write_text("param_scheduler = []")
    (tmp_path / "x.ini").touch()

    assert text in failure(tmp_path, f"_base_ = {base}").reason


def test_a_dict_cannot_be_merged_into_a_list(tmp_path: Path) -> None:
    """As in the peer; the error names the way out."""
    (tmp_path / "list.py").write_text("param_scheduler = []")

    assert "_delete_=True" in failure(tmp_path, "_base_ = 'list.py'\nparam_scheduler = dict(type='LinearLR')").reason
