"""What the draws of a search say, in sentences: of variants with their tuning, and of the choice.
"""

from __future__ import annotations

from collections.abc import Sequence

from gan_bench.compare.search.budget_numbers import Tests, compared_draws
from gan_bench.compare.search.budget_space import edges_of
from gan_bench.compare.search.budgets import Budgets, Draw, TunedVariant
from gan_bench.compare.search.choice import selection_sentence
from gan_bench.compare.stats.rounding import rounded, rounded_p
from gan_bench.compare.stats.search.budget_pairs import BudgetTest
from gan_bench.compare.stats.search.budget_power import draws_for_verdict
from gan_bench.errors import count, joined

Said = tuple[str, str]  # a verdict, or an empty text; and a sentence


def budget_sentences(budgets: Budgets, tests: Tests) -> list[Said]:
    """Return what the tests say of each variant with its tuning, against the reference."""
    said = [_sentence(budgets, tests, tuned) for tuned in budgets.variants
            if tuned.variant != budgets.reference.variant]
    return said or [("", "There is only one variant: no other to compare its tuning with.")]


def _sentence(budgets: Budgets, tests: Tests, tuned: TunedVariant) -> Said:
    variant, reference = tuned.variant, budgets.reference.variant
    if variant not in tests:
        return "", (f"{variant} and {reference}, with their tuning, are not compared: "
                    f"{_lacking(budgets, tuned)} with a score; a comparison takes at least 2 of "
                    f"each, a decisive difference at least {_needed(budgets, tuned)}")
    test, verdicts = tests[variant]
    places = {word: [i for i, verdict in enumerate(verdicts) if verdict == word]
              for word in ("better", "worse", "inconclusive")}
    decided = [word for word in ("better", "worse") if places[word]]
    parts = [f"{word} than {reference} {_odds(test, places[word])}, "
             f"{_p_words('≤', max(test.p_adjusted[i] for i in places[word]), places[word])}"
             for word in decided]
    if not decided:
        every = places["inconclusive"]
        return "inconclusive", (
            f"{variant}, with its tuning, against {reference} is not decisive "
            f"{_odds(test, every)}, {_p_words('≥', min(test.p_adjusted[i] for i in every), every)}"
            f"{_too_few(budgets, tuned)}")
    verdict = decided[0] if len(decided) == 1 else "inconclusive"
    others = [str(test.budgets[i]) for i in places["inconclusive"]]
    rest = f"; at {_in_draws(others)} that is not decisive" if others else ""
    return verdict, f"{variant}, with its tuning, is {joined(parts)}{rest}"


def _lacking(budgets: Budgets, tuned: TunedVariant) -> str:
    """Return which variants have too few draws: all stand in one table, so any of them counts."""
    few = [f"{each.variant} has {count(len(each.random), 'random draw')}"
           for each in budgets.variants if len(each.random) < 2]
    shared = count(len(compared_draws(budgets, tuned)[0]), "random draw")
    return joined(few) if few else f"they share {shared}"


def _needed(budgets: Budgets, tuned: TunedVariant) -> int:
    """Return from how many random draws of each on a difference from the reference can be decisive.
    """
    return draws_for_verdict(compared_draws(budgets, tuned)[2], len(budgets.variants) - 1)


def _too_few(budgets: Budgets, tuned: TunedVariant) -> str:
    """Return that with so few draws nothing can be decisive; empty if something can."""
    needed = _needed(budgets, tuned)
    fewest = min(len(draws) for draws in compared_draws(budgets, tuned)[:2])
    if fewest >= needed:
        return ""
    return (f"; {fewest} draws can decide nothing: a decisive difference takes at least {needed} "
            f"of each")


def _odds(test: BudgetTest, places: Sequence[int]) -> str:
    """Return the budgets, and how likely the variant's best draw wins at them."""
    ends = sorted({rounded(test.probability[i], decimals=2) for i in places})
    range_words = " to ".join(dict.fromkeys((ends[0], ends[-1])))
    return (f"at a budget of {_in_draws([str(test.budgets[i]) for i in places])}: its best wins "
            f"with probability {range_words}")


def _in_draws(budgets: Sequence[str]) -> str:
    """Return `1 draw`, or `1 and 5 draws`."""
    return f"{joined(budgets)} draw{'' if budgets == ['1'] else 's'}"


def _p_words(sign: str, p: float, places: Sequence[int]) -> str:
    """Return p, which is a bound if there are several budgets."""
    return f"p {sign if len(places) > 1 else '='} {rounded_p(p)}"


def notes_on_tests(budgets: Budgets, tests: Tests) -> list[str]:
    """Return how the tests were made, a sentence each."""
    if not tests:
        return []
    every = [test for test, _ in tests.values()]
    paired = {test.paired for test in every}
    labels = "within each draw where variants share drawn settings, else over all draws"
    if len(paired) == 1:
        labels = "within each shared draw" if True in paired else "over all draws"
    same = ("" if True not in paired else
            " P is over the same n draws of both; p tests how likely the best of n draws of the "
            "one beats the best of n others, which weighs the draws alike, and a verdict is given "
            "only where both point the same way.")
    family = f", and by Holm over {count(len(every), 'variant')}" if len(every) > 1 else ""
    return [f"p: of no difference from {budgets.reference.variant} at this budget, from "
            f"permutations of which variant a score belongs to, {labels}; adjusted for all budgets "
            f"of the table together (minP){family}.{same} Draws are never taken for seeds. With "
            f"all draws there is no test: one of the two has the best draw. All draws of a variant "
            f"are trained under the same select seeds, so the error rates hold for these seeds: "
            f"that a seed suits one variant is common to all its draws, and no permutation shows "
            f"it."]


def choice_notes(budgets: Budgets, reported: Sequence[str]) -> list[str]:
    """Return what to know of the choice: what it was by, and what it waits for.

    Args:
        reported: The scores that are reported of the confirmed runs.
    """
    sentence = selection_sentence(budgets.results.declared)
    notes = [sentence] if budgets.score in reported and sentence else []
    asked = budgets.search.draws
    lacking = {tuned.variant: asked - sum(draw.is_scored for draw in tuned.draws)
               for tuned in budgets.variants}
    if any(lacking.values()):
        words = ", ".join(f"{n} of {asked} of {name}" for name, n in lacking.items() if n)
        notes.append(f"Draws without a score yet: {words}. A variant's draw is chosen when each of "
                     f"its draws has one.")
    return notes


def edge_warnings(budgets: Budgets) -> list[str]:
    """Return where the best draws lie at a bound of the space, a sentence each."""
    return [edge.sentence for tuned in budgets.variants
            for edge in edges_of(tuned, budgets.sign)]


def draw_name(tuned: TunedVariant, draw: Draw) -> str:
    """Return what readers see of a draw's number."""
    return "0, the file's own" if tuned.has_default and draw.index == 0 else str(draw.index)


def settings_words(draw: Draw) -> str:
    """Return the drawn settings of a draw in a line."""
    return ", ".join(f"{key} {value}" for key, value in draw.values.items() if value)
