from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_text
from onesense.text.corpus import Document
from onesense.text.windows import batch_windows, iter_windows


def documents(*texts: str) -> list[Document]:
    return [Document(index, str(index), text) for index, text in enumerate(texts)]


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(max_size=60), max_size=6), size=st.integers(2, 40))
def test_windows_are_the_documents_in_order(tiny_gpt2: LanguageModel, texts: list[str], size: int) -> None:
    windows = list(iter_windows(tiny_gpt2, documents(*texts), context_size=size))
    assert all(1 <= len(window.ids) <= size - 1 for window in windows)
    for index, text in enumerate(texts):
        mine = [window for window in windows if window.document == index]
        joined = [token for window in mine for token in window.ids]
        assert joined == encode_text(tiny_gpt2, text, prepend_bos=False)
        starts = [0]
        for window in mine:
            assert window.start == starts[-1]
            starts.append(window.start + len(window.ids))
        assert all(len(window.ids) == size - 1 for window in mine[:-1])


def test_bos_stands_before_each_window_once(tiny_gpt2: LanguageModel) -> None:
    windows = list(iter_windows(tiny_gpt2, documents("abcdefghij", "k"), context_size=5))
    batch = batch_windows(tiny_gpt2, windows)
    assert batch.ids[:, 0].tolist() == [256] * len(windows)
    assert int((batch.ids == 256).sum()) == len(windows)
    assert not bool(batch.content[:, 0].any())
    assert int(batch.content.sum()) == 11


def test_a_long_document_is_cut_at_spaces_and_stays_whole(demo_model: LanguageModel) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 6000
    windows = list(iter_windows(demo_model, documents(text), context_size=128))
    assert [token for window in windows for token in window.ids] == encode_text(
        demo_model, text, prepend_bos=False
    )


@pytest.mark.parametrize("size", [0, 1, 129, -5])
def test_a_context_that_does_not_fit(tiny_gpt2: LanguageModel, size: int) -> None:
    with pytest.raises(ConfigurationError, match="between 2 and 128"):
        next(iter_windows(tiny_gpt2, documents("text"), context_size=size))
