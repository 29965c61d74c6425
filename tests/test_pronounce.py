"""Words, their phones, and which letter makes which; the command."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from otoscope.base import BadInput, BadOption
from otoscope.commands.pronounce import pronounce
from otoscope.hear.lexicon import Lexicon
from otoscope.hear.phones import PHONES
from otoscope.learn.pronounce import Pronouncer, spelling

LISTED = Lexicon(
    {
        "cake": [("K", "EY1", "K")],
        "box": [("B", "AA1", "K", "S")],
        "mother": [("M", "AH1", "DH", "ER0")],
        "law": [("L", "AO1")],
        "x-ray": [("EH1", "K", "S", "R", "EY2")],
        "3": [("TH", "R", "IY1")],
        "&": [("AE1", "N", "D")],
        "mp3": [("EH1", "M", "P", "IY1", "TH", "R", "IY1")],
        "isn't": [("IH1", "Z", "AH0", "N", "T")],
        "naïve": [("N", "AY0", "IY1", "V")],
        "zzyzx": [("B", "IY1")],
        "w": [("D", "AH1", "B", "AH0", "L", "Y", "UW0")],
    }
)


def pairs(said):
    return " ".join(f"{letter}:{'+'.join(phones) or '-'}" for letter, phones in said.letters)


@pytest.fixture(scope="module")
def listed() -> Pronouncer:
    return Pronouncer(LISTED)


@pytest.fixture(scope="module")
def unlisted() -> Pronouncer:
    return Pronouncer()


def test_the_lexicon_comes_first(listed):
    assert pairs(listed.word("cake")) == "c:K a:EY k:K e:-"
    assert pairs(listed.word("box")) == "b:B o:AA x:K+S"
    said = listed.word("zzyzx")
    assert (said.phones, said.source) == (("B", "IY"), "lexicon")
    assert listed.word("bag").source == "network"
    assert listed.word("bag-box").source == "both"


def test_letters_keep_their_case_and_accents(listed, unlisted):
    assert pairs(listed.word("CaKe")) == "C:K a:EY K:K e:-"
    assert pairs(listed.word("naïve")) == "n:N a:AY ï:IY v:V e:-"
    # Composed or not, the same.
    assert listed.word("nai\u0308ve").letters == listed.word("naïve").letters
    assert unlisted.word("CAFÉ").phones == unlisted.word("cafe").phones
    for character, letters in {
        "é": "e",
        "Ñ": "n",
        "æ": "ae",
        "Ø": "o",
        "ß": "ss",
        "ﬁ": "fi",
        "ł": "l",
        "’": "'",
    }.items():
        assert spelling(character) == letters
    for character in "3½-. ж日あ€é"[:-1] + "\u0301":
        assert spelling(character) == ""
    said = unlisted.word("ﬁsh")
    assert [letter for letter, _ in said.letters] == ["ﬁ", "s", "h"]
    assert said.phones == unlisted.word("fish").phones


def test_hyphens_and_quotation_marks_part_words(listed):
    assert pairs(listed.word("mother-law")) == "m:M o:AH t:DH h:- e:- r:ER -:- l:L a:AO w:-"
    assert pairs(listed.word("“cake,”")) == "“:- c:K a:EY k:K e:- ,:- ”:-"
    assert pairs(listed.word("'cake'")) == "':- c:K a:EY k:K e:- ':-"
    assert pairs(listed.word("isn’t")) == "i:IH s:Z n:AH+N ’:- t:T"
    # What stands in the dictionary as it is written is not parted.
    assert listed.word("X-ray").phones == ("EH", "K", "S", "R", "EY")
    assert listed.word("x-ray").letters[1] == ("-", ())


def test_numbers_and_signs_make_no_phones_and_are_named(listed, unlisted):
    said = unlisted.word("cake2go")
    assert said.letters[4] == ("2", ())
    assert said.unread == ("2",)
    assert unlisted.word("r&b").letters[1] == ("&", ())
    assert unlisted.word("cake日").unread == ("日",)
    # Unless the dictionary knows them.
    assert listed.word("3").letters == (("3", ("TH", "R", "IY")),)
    assert pairs(listed.word("mp3")) == "m:EH+M p:P+IY 3:TH+R+IY"
    assert listed.word("&").letters == (("&", ("AE", "N", "D")),)
    assert listed.word("w").letters == (("w", ("D", "AH", "B", "AH", "L", "Y", "UW")),)


def test_words_that_cannot_be_read_are_left_out_and_named(listed):
    said = listed.words(["cake", "", "42", "жук", "日本", "--", "'", "a" * 65, "cake", "\x00", "٣", "1½"])
    assert list(said.words) == ["cake"]
    assert len(said.problems) == 10
    assert all(
        "no letter that can be read" in problem
        for problem in said.problems
        if "65" not in problem[:20] and "64" not in problem
    )
    assert sum("more than 64 letters" in problem for problem in said.problems) == 1
    with pytest.raises(BadInput, match="no letter that can be read"):
        listed.word("42")


def test_every_character_of_a_transcript_has_its_phones(listed):
    text = "Cake,  42 box-law"
    made = listed.transcript(text)
    assert "".join(character for character, _ in made) == text
    assert " ".join(f"{character}:{'+'.join(phones)}" for character, phones in made if phones) == (
        "C:K a:EY k:K b:B o:AA x:K+S l:L a:AO"
    )
    assert listed.transcript("") == []
    assert listed.transcript("  ") == [(" ", ()), (" ", ())]
    assert listed.transcript("жук 7") == [(character, ()) for character in "жук 7"]


def test_stress_is_kept_when_asked_for():
    stressed = Pronouncer(LISTED, stress=True)
    assert pairs(stressed.word("cake")) == "c:K a:EY1 k:K e:-"
    assert pairs(stressed.word("mother")) == "m:M o:AH1 t:DH h:- e:- r:ER0"
    said = stressed.word("banana")
    assert said.phones == ("B", "AH0", "N", "AE1", "N", "AH0")


def test_nothing_is_ever_said_that_is_no_phone(unlisted):
    words = ["zzzz", "hmm", "bcdfg", "aeiou", "qqq", "x", "a", "rock'n'roll", "ÆØÅ", "y" * 64]
    said = unlisted.words(words)
    assert list(said.words) == words
    for spoken in said.words.values():
        assert spoken.phones
        assert set(spoken.phones) <= set(PHONES)


@pytest.fixture
def command(monkeypatch):
    monkeypatch.delenv("OTOSCOPE_LEXICON", raising=False)
    app = typer.Typer()
    app.command()(pronounce)
    return lambda *words: CliRunner().invoke(app, list(map(str, words)))


def test_the_command_answers_to_the_letter(command):
    result = command("cake", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"cake": [["c", ["K"]], ["a", ["EY"]], ["k", ["K"]], ["e", []]]}
    result = command("cake", "box", "--no-lexicon")
    assert result.stdout.splitlines() == [
        "cake  K EY K  (c:K a:EY k:K e:–; network)",
        "box  B AA K S  (b:B o:AA x:K+S; network)",
    ]


def test_the_command_asks_the_lexicon_that_is_named(command, tmp_path, monkeypatch):
    path = tmp_path / "mine.dict"
    path.write_text("cake B EY1 K\nbroken\n")
    result = command("cake", "--lexicon", path, "--json")
    assert json.loads(result.stdout) == {"cake": [["c", ["B"]], ["a", ["EY"]], ["k", ["K"]], ["e", []]]}
    assert "line 2: 'broken' has no phones: left out" in result.stderr
    monkeypatch.setenv("OTOSCOPE_LEXICON", str(path))
    assert "B EY K" in command("cake").stdout
    assert "K EY K" in command("cake", "--no-lexicon").stdout
    assert isinstance(command("cake", "--lexicon", path, "--no-lexicon").exception, BadOption)
    assert isinstance(command("cake", "--lexicon", tmp_path / "none").exception, BadInput)


def test_the_command_names_what_it_leaves_out(command):
    result = command("cake", "42", "жук", "cake2go", "--json")
    assert result.exit_code == 1
    assert list(json.loads(result.stdout)) == ["cake", "cake2go"]
    assert "2 left out:" in result.stderr
    assert "'42'" in result.stderr
    assert "'cake2go': no phones for 2" in result.stderr
    result = command("42", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, {})


def test_help_loads_no_torch():
    code = (
        "import sys, typer; from otoscope.commands.pronounce import pronounce; app = typer.Typer();"
        "app.command()(pronounce)\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "--no-lexicon" in result.stdout
