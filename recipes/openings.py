"""Openings from which the demo model writes the sample text: many kinds of prose about many subjects."""

from __future__ import annotations

import random
from collections.abc import Iterator

_PEOPLE = (
    "The nurse", "The engineer", "My grandmother", "The young king", "A retired teacher", "The carpenter",
    "Her brother", "His sister", "The secretary", "Our new manager", "The surgeon", "The widow", "The actress",
    "Two old friends", "The programmer", "The midwife", "A farmer", "The police officer", "The librarian",
    "The waitress", "Mr. Thompson", "Mrs. Alvarez", "Dr. Chen", "Maria", "James", "Fatima", "Peter and Anna",
    "The father of three", "The mother of the bride", "The scientist", "The mechanic", "The pilot", "The cook",
    "The queen", "The football coach", "A student from Lagos", "The lawyer", "The housekeeper", "The soldier",
    "The dancer", "The accountant", "The twins", "An old fisherman", "The princess", "The receptionist",
)  # fmt: skip
_DEEDS = (
    "walked into the room and", "had never told anyone that", "opened the letter, read it twice, and",
    "was late for work again because", "always said that", "looked out of the window at",
    "stood before the judge and", "packed a small bag, for", "laughed when", "could not sleep, so",
    "was proud of", "called the hospital to ask", "returned to the village after", "sat down at the piano and",
    "argued with the neighbours about", "won the prize for", "was born in", "married young, and",
)  # fmt: skip
_SUBJECTS = (
    "the history of bread", "how vaccines work", "the fall of Rome", "black holes", "raising goats",
    "the rules of chess", "jazz in the 1920s", "the water cycle", "home insurance", "the French Revolution",
    "training a puppy", "the stock market", "volcanoes", "online privacy", "marathon running", "the human heart",
    "learning Spanish", "medieval castles", "electric cars", "growing tomatoes", "the periodic table",
    "women in science", "climate change", "the Silk Road", "photosynthesis", "sleep", "baroque music", "bees",
    "the moon landing", "parliament", "painting with oils", "supply and demand", "antibiotics", "prime numbers",
    "the Pacific Ocean", "job interviews", "childbirth", "trade unions", "the invention of printing", "tea",
)  # fmt: skip
_EXPOSITIONS = (
    "An introduction to {}.\n\n", "Five things that most people get wrong about {}:\n\n1.",
    "Dear editor, I read your article on {} and", "In this chapter we look at {}. First,",
    "Question: Can you explain {} to a ten-year-old?\nAnswer:", "Breaking news: A new report on {} says",
    "Abstract. We study {} and show that", "The lecture on {} began badly.", "My blog, day 41: today I tried to understand {}.",
    "Review: this book about {} is", "For centuries, {}", "The museum's exhibition on {} opens on Friday and",
    "Minutes of the meeting on {}. Present:", "A short poem about {}:\n\n",
)  # fmt: skip
_FRAGMENTS = (
    "Once upon a time, in a small house by the sea, there lived", "Ingredients:\n- 2 cups of flour\n- 1 egg\n",
    "CHAPTER ONE\n\nIt was raining when", "\"I don't believe you,\" she said.", "\"Where have you been?\" he asked.",
    "LONDON (Reuters) -", "def ", "Dear Sir or Madam,\n\nI am writing to", "The defendant shall pay to the plaintiff",
    "Scene: a kitchen, early morning. Enter", "Q3 revenue rose 12% to $4.1 million, while", "#include <stdio.h>",
    "Yesterday's match ended 2-1 after", "Once you have installed the software, open", "Theorem. Let n be an integer.",
    "Patient is a 54-year-old man who presents with", "Patient is a 31-year-old woman who presents with",
    "The film stars", "Lost: grey cat, answers to", "Welcome to our hotel!", "He was the kind of boy who",
    "She was the kind of girl who", "Ladies and gentlemen,", "It is a truth rarely spoken that",
    "On 14 March 1879,", "Step 1: turn off the power.", "To my daughter on her wedding day:", "To my son, on leaving home:",
    "The weather tomorrow:", "Terms and conditions\n\n1. ", "In the beginning", "Joke: A man walks into a bar and",
)  # fmt: skip


def openings(count: int, seed: int) -> Iterator[str]:
    """Draw openings.

    Args:
        count: How many.
        seed: The same seed gives the same openings.

    Yields:
        The first words of one document.
    """
    draw = random.Random(seed)
    for _ in range(count):
        kind = draw.random()
        if kind < 0.5:
            yield f"{draw.choice(_PEOPLE)} {draw.choice(_DEEDS)}"
        elif kind < 0.8:
            yield draw.choice(_EXPOSITIONS).format(draw.choice(_SUBJECTS))
        else:
            yield draw.choice(_FRAGMENTS)
