"""Answers to tokens, of which each sample has its own number."""

import numpy as np

from builder.parity import tokens
from builder.verify import ask


def test_answers_to_tokens_are_as_wide_as_the_widest():
    answered = [{"LOGITS": np.full((rows, tokens, 2), tokens, np.float32)} for rows, tokens in ((2, 3), (1, 5))]
    wide = ask._in_order([(0, 2), (1,)], [tokens.widened(one, answered) for one in answered]).answers["LOGITS"]
    assert wide.shape == (3, 5, 2)
    assert np.isnan(wide[[0, 2], 3:]).all()
    assert (wide[[0, 2], :3] == 3).all()
    assert (wide[1] == 5).all()
    # Of another kind than tokens: left as they are, and refused.
    others = [{"LOGITS": np.zeros((1, 3, labels), np.float32)} for labels in (2, 4)]
    failed = ask._in_order([(0,), (1,)], [tokens.widened(one, others) for one in others])
    assert failed.failures[0].name == "wrong-shape"
