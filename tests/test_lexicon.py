"""Pronouncing dictionaries, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from otoscope.base import BadInput
from otoscope.hear.lexicon import read_lexicon, without_stress


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_dictionary_as_cmu_writes_it(tmp_path):
    rows = (
        ";;; a comment",
        "cake K EY1 K",
        "read R IY1 D",
        "read(2) R EH1 D # past",
        "",
        "READ(3)  r iy1 d",
        "dog’s D AO1 G Z\r",
        "x-ray EH1 K S R EY2",
    )
    path = write(tmp_path / "d", "\n".join(rows))
    lexicon = read_lexicon(path)
    assert dict(lexicon) == {
        "cake": [("K", "EY1", "K")],
        "read": [("R", "IY1", "D"), ("R", "EH1", "D")],
        "dog's": [("D", "AO1", "G", "Z")],
        "x-ray": [("EH1", "K", "S", "R", "EY2")],
    }
    assert lexicon.problems == []
    assert without_stress(lexicon["cake"][0]) == ("K", "EY", "K")


def test_broken_rows_are_named_and_left_out(tmp_path):
    path = write(tmp_path / "d", "cake K EY1 K\nbread\nwine W AY4 N\nsoup S UW1 P2\nham HH XX M\n# M\n(2) K\nsil SIL\n")
    lexicon = read_lexicon(path)
    assert list(lexicon) == ["cake"]
    assert [str(problem) for problem in lexicon.problems] == [
        "line 2: 'bread' has no phones",
        "line 3: 'wine' has what is no phone of ARPAbet: 'AY4'",
        "line 4: 'soup' has what is no phone of ARPAbet: 'P2'",
        "line 5: 'ham' has what is no phone of ARPAbet: 'XX'",
        "line 6: there is no word",
        "line 7: there is no word",
        "line 8: 'sil' has what is no phone of ARPAbet: 'SIL'",
    ]


def test_files_that_are_no_dictionary(tmp_path):
    with pytest.raises(BadInput, match=r"no row that can be used(.|\n)*'bread' has no phones"):
        read_lexicon(write(tmp_path / "a", "bread\n"))
    with pytest.raises(BadInput, match="is no text"):
        read_lexicon(write(tmp_path / "b", b"cake K EY1 K\n\x00\xff\xfe\x01"))
    with pytest.raises(BadInput, match=r"no phone of ARPAbet: 'xxxxxxxxxxxx' 'q' 'q' …"):
        read_lexicon(write(tmp_path / "e", f"bread {'x' * 99} q q q\n"))
    with pytest.raises(BadInput, match="no row"):
        read_lexicon(write(tmp_path / "c", ""))
    with pytest.raises(BadInput, match="cannot be read"):
        read_lexicon(tmp_path / "none")
    with pytest.raises(BadInput, match="cannot be read"):
        read_lexicon(tmp_path)


def test_older_dictionaries_are_in_latin_1(tmp_path):
    assert "déjà" in read_lexicon(write(tmp_path / "d", "DÉJÀ  D EY1 ZH AA1\n".encode("latin-1")))


@pytest.mark.real
def test_the_cmu_dictionary_has_no_broken_row(real_data: Path):
    lexicon = read_lexicon(real_data / "cmudict" / "cmudict.dict")
    assert lexicon.problems == []
    # Two of its 135,166 rows say again what another says.
    assert (len(lexicon), sum(map(len, lexicon.values()))) == (126_052, 135_164)
