"""`build_schedulers`: what MMEngine's Runner makes of a config, and errors that name the place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from resumable_sched.errors import ConfigError
from resumable_sched.schedule import (
    CosineAnnealingLR,
    LinearLR,
    LinearMomentum,
    MultiStepLR,
    ParamScheduler,
    SchedulerGroup,
    build_schedulers,
)
from resumable_sched.schedule.ledger import ledgers_of

GUIDE = [
    {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 50},
    {"type": "MultiStepLR", "by_epoch": True, "milestones": [8, 11], "gamma": 0.1},
]


def sgd() -> torch.optim.Optimizer:
    """Return an optimizer of two param groups."""
    groups: list[dict[str, Any]] = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    groups[1]["lr"] = 0.5
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def values(schedulers: list[ParamScheduler], ticks: int) -> list[float]:
    """Step lone schedulers and give the learning rate before each step."""
    optimizer, seen = schedulers[0].optimizer, []
    for _ in range(ticks):
        seen.append(optimizer.param_groups[0]["lr"])
        for each in schedulers:
            each.step()
    return seen


def test_a_whole_config_is_not_its_schedules() -> None:
    """Whoever gives what MMEngine's `Config.fromfile` returns is told which part is meant."""
    schedules = [{"type": "StepLR", "step_size": 3}]
    for whole in ({"param_scheduler": schedules, "model": {}}, SimpleNamespace(param_scheduler=schedules)):
        with pytest.raises(ConfigError, match="must be what a config has under `param_scheduler`, but is the whole"):
            build_schedulers(sgd(), whole)


def test_a_list_becomes_the_schedules_that_python_would_build() -> None:
    """Classes, arguments and order are those of the config, which is left as it was."""
    built = build_schedulers(sgd(), GUIDE)

    assert [each.configuration() for each in built] == [
        LinearLR(sgd(), start_factor=0.001, by_epoch=False, begin=0, end=50).configuration(),
        MultiStepLR(sgd(), milestones=[8, 11], gamma=0.1).configuration(),
    ]
    assert GUIDE[1]["milestones"] == [8, 11]


def test_one_dict_is_a_list_of_one_and_none_is_an_empty_list() -> None:
    """The guide writes a single schedule without brackets."""
    assert [type(each) for each in build_schedulers(sgd(), GUIDE[1])] == [MultiStepLR]
    assert build_schedulers(sgd(), None) == []
    assert build_schedulers(sgd(), []) == []


def test_schedules_that_are_built_already_pass_through_in_their_place() -> None:
    """A list may mix dicts and schedules."""
    optimizer = sgd()
    ready = LinearLR(optimizer, by_epoch=False, end=50)

    built = build_schedulers(optimizer, [ready, {"type": LinearMomentum}])

    assert built[0] is ready
    assert type(built[1]) is LinearMomentum
    with pytest.raises(ConfigError, match=r"param_scheduler\[0\]: must act on its optimizer"):
        build_schedulers(sgd(), [ready])


def test_several_optimizers_take_lists_by_name_or_share_one() -> None:
    """As in the peer, a config without names is for each of them."""
    both = {"generator": sgd(), "discriminator": sgd()}

    own = build_schedulers(both, {"generator": GUIDE, "discriminator": {"type": "LinearLR"}})
    shared = build_schedulers({"generator": sgd(), "discriminator": sgd()}, GUIDE[1])

    assert {name: [type(it) for it in each] for name, each in own.items()} == {
        "generator": [LinearLR, MultiStepLR],
        "discriminator": [LinearLR],
    }
    assert own["generator"][0].optimizer is both["generator"]
    assert [len(each) for each in shared.values()] == [1, 1]
    SchedulerGroup(both, own)


def test_converting_to_iterations_is_build_iter_from_epoch() -> None:
    """`convert_to_iter_based` gives the schedule that the classmethod gives, also where fractions are rounded."""
    for cls, arguments in (
        ("CosineAnnealingLR", {"T_max": 12}),
        ("LinearLR", {"end": 0.5}),
        ("ExponentialLR", {"gamma": 0.9}),
        ("MultiStepLR", {"milestones": [2, 2.5], "begin": 1, "end": 9}),
    ):
        (built,) = build_schedulers(
            sgd(), {"type": cls, "by_epoch": True, "convert_to_iter_based": True, **arguments}, epoch_length=100
        )
        expected = type(built).build_iter_from_epoch(sgd(), epoch_length=100, **arguments)
        assert built.configuration() == expected.configuration()


def test_the_end_defaults_to_the_length_of_training_for_lone_schedules_too() -> None:
    """A defaulted `end` gives the values of the explicit one, and stays a default in the configuration."""
    explicit = build_schedulers(sgd(), {"type": "LinearLR", "by_epoch": False, "end": 1200})
    by_iterations = build_schedulers(sgd(), {"type": "LinearLR", "by_epoch": False}, epoch_length=100, max_epochs=12)
    converted = build_schedulers(
        sgd(), {"type": "LinearLR", "convert_to_iter_based": True}, epoch_length=100, max_iters=1200
    )

    assert values(by_iterations, 1300) == values(converted, 1300) == values(explicit, 1300)
    assert by_iterations[0].configuration()["end"] == "length of training"


def test_a_group_that_does_not_know_the_length_keeps_the_one_of_the_config() -> None:
    """Saying the length once is enough; saying it to the group wins."""
    config = {"type": "LinearLR", "by_epoch": False}
    optimizers = [sgd(), sgd()]
    plain = SchedulerGroup(optimizers[0], build_schedulers(optimizers[0], config, max_iters=11))
    longer = SchedulerGroup(optimizers[1], build_schedulers(optimizers[1], config, max_iters=11), max_iters=21)

    assert plain.trace(11).values["lr"][0][-1] == pytest.approx(0.1)
    assert longer.trace(11).values["lr"][0][-1] == pytest.approx(0.1 * 2 / 3)


def test_a_chain_that_depends_on_the_length_is_the_groups() -> None:
    """Whether a floor overlaps is judged with the length of training, not with "forever"."""
    config = [
        {"type": "PolyLR", "eta_min": 0.01, "by_epoch": False, "end": 5},
        {"type": "CosineAnnealingLR", "eta_min": 0.001, "by_epoch": False, "begin": 5},
    ]
    lone = build_schedulers(sgd(), config, max_iters=20)
    optimizer = sgd()
    group = SchedulerGroup(optimizer, build_schedulers(optimizer, config, max_iters=20), max_iters=20)

    assert values(lone, 20) == list(group.trace(20).values["lr"][0])


@pytest.mark.parametrize(
    ("config", "path", "text"),
    [
        ({"type": "LinerLR"}, "param_scheduler.type", "Did you mean LinearLR?"),
        ([GUIDE[0], {"milestones": [8]}], "param_scheduler[1]", "must have a `type`"),
        ([GUIDE[0], 5], "param_scheduler[1]", "must be dict(type=..., ...) or a schedule, but is 5"),
        ("LinearLR", "param_scheduler", "must be dict(type=..., ...), a list of these"),
        ({"type": "MultiStepLR"}, "param_scheduler", "needs `milestones` too"),
        (
            {"type": "StepLR", "step_size": 3, "gama": 1},
            "param_scheduler.gama",
            "Did you mean gamma? It takes step_size",
        ),
        ({"type": "LinearLR", "optimizer": 1}, "param_scheduler.optimizer", "takes no argument 'optimizer'"),
        ({"type": "StepLR", "step_size": "3"}, "param_scheduler.step_size", "must be an integer, but is '3'"),
        ([GUIDE[0], {"type": "MultiStepLR", "milestones": [-1]}], "param_scheduler[1].milestones", "at least 0"),
        ({"type": "LinearLR", "begin": 5, "end": 5}, "param_scheduler.end", "`end` must be greater than `begin`"),
        ({"type": "LinearLR", "begin": 12}, "param_scheduler.begin", "less than the length of training, 12 epochs"),
        ({"type": "LinearParamScheduler", "param_name": "x"}, "param_scheduler.param_name", "param_name"),
        ({"type": "OneCycleLR", "eta_max": [1, 2, 3]}, "param_scheduler.eta_max", "for each of 2 param groups"),
        (
            {"type": "LinearLR", "convert_to_iter_based": "yes"},
            "param_scheduler.convert_to_iter_based",
            "True or False",
        ),
        ({"type": "LinearLR", "convert_to_iter_based": True, "by_epoch": False}, "param_scheduler.by_epoch", "be True"),
        (
            {"type": "StepLR", "step_size": "3", "convert_to_iter_based": True},
            "param_scheduler.step_size",
            "must be a number of epochs or a share such as \"10%\", but is '3'",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(config: object, path: str, text: str) -> None:
    """The error has the path of the key that is wrong, the rule and the value."""
    with pytest.raises(ConfigError) as raised:
        build_schedulers(sgd(), config, epoch_length=100, max_epochs=12)

    assert raised.value.path == path
    assert str(raised.value).startswith(f"{path}: ")
    assert text in raised.value.reason
    assert raised.value.file is None


def test_converting_needs_the_length_of_an_epoch() -> None:
    """The error says what to pass."""
    with pytest.raises(ConfigError, match=r"Pass epoch_length=len\(loader\)"):
        build_schedulers(sgd(), {"type": "CosineAnnealingLR", "T_max": 12, "convert_to_iter_based": True})


def test_names_of_optimizers_must_be_the_ones_there_are() -> None:
    """A typing error in a name, or an optimizer without a list, is refused with the names."""
    both = {"generator": sgd(), "discriminator": sgd()}

    with pytest.raises(ConfigError, match=r"param_scheduler.genrator: .*Did you mean generator\?"):
        build_schedulers(both, {"genrator": GUIDE, "discriminator": []})
    with pytest.raises(ConfigError, match=r"'discriminator' too, but has none. Give it \[\] for none"):
        build_schedulers(both, {"generator": GUIDE})
    with pytest.raises(ConfigError, match="must have a `type`"):
        build_schedulers(sgd(), {"generator": GUIDE})


def test_a_wrong_config_leaves_the_optimizers_alone() -> None:
    """No schedule before the wrong one acts, so that the corrected config can be built on the same optimizer."""
    optimizer = sgd()

    with pytest.raises(ConfigError):
        build_schedulers(optimizer, [*GUIDE, {"type": "LinearLR", "start_factor": 7}])

    assert not ledgers_of(optimizer)
    assert "initial_lr" not in optimizer.param_groups[0]
    assert optimizer.param_groups[0]["lr"] == 0.1
    SchedulerGroup(optimizer, build_schedulers(optimizer, GUIDE))


def test_a_schedule_whose_learning_rate_is_a_tensor_is_tried_without_touching_it() -> None:
    """The trial writes into copies."""
    rate = torch.tensor(0.4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)

    with pytest.raises(ConfigError):
        build_schedulers(optimizer, [{"type": "ConstantLR", "factor": 0.5}, {"type": "ConstantLR", "factor": 2}])
    assert float(rate) == pytest.approx(0.4)

    build_schedulers(optimizer, {"type": "ConstantLR", "factor": 0.5})
    assert float(rate) == pytest.approx(0.2)


def test_a_scope_is_accepted_as_in_the_peer() -> None:
    """MMEngine's configs may carry `_scope_`."""
    (built,) = build_schedulers(sgd(), {"type": "CosineAnnealingLR", "T_max": 3, "_scope_": "mmengine"})

    assert type(built) is CosineAnnealingLR
