"""The collections, in the formats in which they are passed around."""

import numpy as np
import pytest

from benchmarks._collections import cranfield, semanlink, sts_benchmark

DOCUMENTS = """.I 1
.T
wings
.A
somebody
.B
a journal, 1958 .
.W
wings
  create lift .
.I 2
.T
.A
.B
.W
.I 3
.T
heat
.A
.B
.W
heat flows .
"""
QUERIES = """.I 001
.W
what lifts
a wing .
.I 007
.W
where does heat go .
"""
JUDGEMENTS = "1 1 1\n1 3 5 \n2 3 4\n2 2 -1\n"


@pytest.fixture
def folder(tmp_path):
    for name, text in (("cran.all.1400", DOCUMENTS), ("cran.qry", QUERIES), ("cranqrel", JUDGEMENTS)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_cranfield_takes_the_text_of_a_document_and_keeps_the_place_of_an_empty_one(folder):
    assert cranfield(folder).documents == ["wings create lift .", "", "heat flows ."]


def test_cranfield_numbers_queries_by_their_order_and_leaves_out_what_is_of_no_interest(folder):
    collection = cranfield(folder)
    assert collection.queries == ["what lifts a wing .", "where does heat go ."]
    assert np.array_equal(collection.relevance, [[1, 0, 0], [0, 0, 1]])


def test_sts_pairs_come_with_their_scores(tmp_path):
    (tmp_path / "stsb-en-test.csv").write_text('A girl.,"A girl, too.",4.5\nA man.,Rain.,0\n', encoding="utf-8")
    pairs = sts_benchmark(tmp_path)
    assert (list(pairs.first), list(pairs.second)) == (["A girl.", "A man."], ["A girl, too.", "Rain."])
    assert pairs.scores == [4.5, 0.0]


def test_other_papers_than_those_of_the_published_figures_are_refused(tmp_path):
    (tmp_path / "arxiv.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"arxiv\.json` has the SHA-256 4f53.* expected 04b7"):
        semanlink(tmp_path)
