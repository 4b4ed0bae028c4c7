# SPDX-License-Identifier: GPL-3.0-or-later
"""Contestants run in turn, so that what the machine does meanwhile meets all of them alike."""
import statistics


def turns(contestants, rounds):
    """Runs each (name -> function) once in every round, in turning order; medians of what they return, column by column,
    without the first round, which warms up."""
    results = {name: [] for name in contestants}
    order = list(contestants)
    for number in range(rounds + 1):
        for name in order:
            result = contestants[name]()
            if number:
                results[name].append(result)
        order.append(order.pop(0))
    return {name: [statistics.median(column) for column in zip(*rows)] for name, rows in results.items()}
