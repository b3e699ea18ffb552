"""Say what is where in a picture, however it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resumable_sched.schedule.preview import Preview
    from resumable_sched.schedule.windows import Window

_MOST_LETTERS: Final = 36

__all__ = ["alike_groups", "amendments_of", "bounds_of", "drawn_windows", "gaps_of", "group_label", "shortened"]


def bounds_of(window: Window, preview: Preview) -> tuple[int, int]:
    """Return the part of a window that is in the picture."""
    first, last = preview.trace.iterations.start, preview.trace.iterations.stop
    begin = min(max(window.begin or 0, first), last)
    return begin, last if window.end is None else min(max(window.end, begin), last)


def drawn_windows(preview: Preview, name: str) -> list[Window]:
    """Return the windows of a hyper-parameter that have a place in the picture."""
    first = preview.trace.iterations.start
    return [
        window
        for window in preview.windows
        if window.key == name and window.begin is not None and (window.end is None or window.end > first)
    ]


def gaps_of(preview: Preview, name: str) -> list[tuple[int, int]]:
    """Return where between two windows of a hyper-parameter none is open."""
    bounds = sorted(bounds_of(window, preview) for window in drawn_windows(preview, name))
    gaps, covered = [], bounds[0][1] if bounds else 0
    for begin, end in bounds:
        if begin > covered:
            gaps.append((covered, begin))
        covered = max(covered, end)
    return gaps


def alike_groups(
    columns: Sequence[Sequence[float]], names: Sequence[str | None] = ()
) -> list[tuple[str, Sequence[float]]]:
    """Return each different column once, with the param groups that it is of.

    >>> columns = [[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]
    >>> [label for label, _ in alike_groups(columns)]
    ['groups 0, 2', 'group 1']
    >>> [label for label, _ in alike_groups(columns, ["neck", "head", None])]
    ['neck, group 2', 'head']
    """
    members: dict[tuple[float, ...], list[int]] = {}
    known: dict[int, tuple[float, ...]] = {}
    for group, column in enumerate(columns):
        content = known.setdefault(id(column), tuple(column))
        members.setdefault(content, []).append(group)
    return [(group_label(groups, names), columns[groups[0]]) for groups in members.values()]


def group_label(groups: Sequence[int], names: Sequence[str | None] = ()) -> str:
    """Say which param groups are meant, by their names where they have some.

    >>> group_label([0, 1, 2, 4]), group_label([1]), group_label([0, 1], ["neck", None])
    ('groups 0-2, 4', 'group 1', 'neck, group 1')
    """
    named = [shortened(name) for each in groups if (name := names[each] if each < len(names) else None) is not None]
    rest = [each for each in groups if each >= len(names) or names[each] is None]
    numbered = [f"{'group' if len(rest) == 1 else 'groups'} {_ranges(rest)}"] if rest else []
    few = 4
    if len(named) > few:
        named[few - 1 :] = [f"{len(named) - few + 1} more"]
    return ", ".join([*named, *numbered])


def shortened(text: str, most: int = _MOST_LETTERS) -> str:
    """Leave out the middle of a long *text*.

    >>> shortened("a_module.with_a_very_long_name.weight", 20)
    'a_module....e.weight'
    """
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[: most - 3 - half]}...{text[-half:]}"


def amendments_of(preview: Preview, name: str) -> list[tuple[int, int, str]]:
    """Return how a hyper-parameter was amended, each change once for all param groups that it is of.

    Returns:
        The place in the picture, which begins later perhaps, the iteration, and what was done.
    """
    members: dict[tuple[int, int, str], list[int]] = {}
    for each in preview.trace.amendments.get(name, ()):
        place = max(each.iteration, preview.trace.iterations.start)
        members.setdefault((place, each.iteration, shortened(each.label, 2 * _MOST_LETTERS)), []).append(each.group)
    count, names = len(preview.trace.values.get(name, ())), preview.trace.groups.get(name, ())
    return [
        (place, made, text if len(groups) == count else f"{text} ({group_label(groups, names)})")
        for (place, made, text), groups in members.items()
    ]


def _ranges(numbers: Sequence[int]) -> str:
    """Write numbers in a row as one.

    >>> _ranges([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7, 8'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    few = 2
    return ", ".join(f"{it[0]}-{it[-1]}" if len(it) > few else ", ".join(map(str, it)) for it in parts)
