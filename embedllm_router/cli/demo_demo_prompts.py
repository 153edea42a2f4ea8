"""The prompts of the demonstration, written for it: one of each kind that a router meets."""

__all__ = ["PROMPTS"]

_PARAGRAPH = (
    "Section {n}. The harbour authority shall keep a register of berths, and every vessel that remains alongside "
    "for more than {days} days shall be charged the rate of the season in which it arrived, save where the master "
    "has given notice in writing that repairs prevent departure and the surveyor has confirmed it. "
)

_DOCUMENT = "".join(_PARAGRAPH.format(n=n, days=7 + n % 23) for n in range(1, 121))

PROMPTS: dict[str, str] = {
    "greeting": "Hi there! How are you today?",
    "arithmetic": (
        "A bakery sells 14 trays of 24 rolls each morning and 9 trays each afternoon. "
        "If 37 rolls are returned, how many rolls were sold that day?"
    ),
    "competition maths": (
        "Let $a, b, c$ be positive integers with $a^2 + b^2 + c^2 = abc + 4$ and $a \\le b \\le c \\le 50$. "
        "Find the number of ordered triples $(a, b, c)$, and prove that your list is complete."
    ),
    "law": (
        "A tenant signs a lease that forbids subletting. She lets a friend stay rent-free for two months while she "
        "is abroad. Under common-law principles, has she breached the covenant?\n"
        "A. Yes, any occupation by another is a subletting.\n"
        "B. No, a licence without rent or exclusive possession is not a sublease.\n"
        "C. Yes, because she was absent.\n"
        "D. No, covenants against subletting are void."
    ),
    "code": (
        "What does this print?\n\n```python\ndef f(xs, acc=[]):\n    for x in xs:\n        acc.append(x * len(acc))\n"
        "    return acc\n\nf([1, 2])\nprint(f([3, 4]))\n```"
    ),
    "logic puzzle": (
        "Five neighbours live in a row of houses, each with a different pet, drink and job. The baker lives next to "
        "the owner of the cat. The tea drinker lives in the middle. The pilot lives left of the nurse. The owner of "
        "the parrot drinks milk. The dog lives at one end, and its owner is not the baker. The judge drinks water and "
        "lives in the fourth house. Who owns the fish?"
    ),
    "long document": (
        f"{_DOCUMENT}\n\nSummarise the rules above in three sentences, and say which section applies to a vessel that "
        "stayed 19 days for repairs."
    ),
}
"""Prompt by title."""
