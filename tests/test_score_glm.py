"""Rules that rewrite transcripts, each by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from otoscope.base import BadInput
from otoscope.learn.glm import filter_ctm, filter_stm, filter_text, filter_trn, read_glm
from otoscope.learn.transcripts import Line


def rules(folder: Path, *lines: str, kinds: tuple[str, ...] = ()):
    path = folder / "rules.glm"
    path.write_text("\n".join([";; rules", *lines]) + "\n", encoding="utf-8")
    return read_glm(path, *kinds)


@pytest.mark.parametrize(
    ("rule", "text", "wanted"),
    [
        ("JETLINER => JET LINER", "a jetliner", "A JET LINER"),
        # Without a context a rule fits within words.
        ("CAT => DOG", "concatenate", "CONDOGENATE"),
        ("[CAT] => [DOG] / [ ] __ [ ]", "cat concatenate cat", "DOG CONCATENATE DOG"),
        # One after the other: the blank between them is the context of both.
        ("[CAT] => [DOG] / [ ] __ [ ]", "cat cat cat", "DOG DOG DOG"),
        ("Falkner => Faulkner / [WILLIAM ] __", "falkner", "FALKNER"),
        ("FALKNER => FAULKNER / [WILLIAM ] __", "falkner william falkner", "FALKNER WILLIAM FAULKNER"),
        ("A => B / __ [ C]", "a d a c", "A D B C"),
        ('" OK " => " OKAY "', "ok then", "OKAY THEN"),
        ("[ OK ] => [ OKAY ] ;; a remark", "is ok", "IS OKAY"),
        # The words of a rule that has fired are not read again.
        ("[A] => [A A] / [ ] __ [ ]", "a", "A A"),
        ("[S.'S] => [{S.'S / S. IS / S. HAS}] / [ ] __A [ ]", "s.'s it", "{S.'S / S. IS / S. HAS} IT"),
        ("[HE'S] => {HE IS / HE HAS}", "he's", "{HE IS / HE HAS}"),
        # A bracket that is never closed, which rules in use have.
        ("[HE'S] => [{HE IS / HE HAS}", "he's", "{HE IS / HE HAS}"),
        ("/SLASH => SLASH", "a /slash b", "A SLASH B"),
        (";SEMI-COLON => SEMICOLON", "a ;semi-colon", "A SEMICOLON"),
        ("[UH] => [ ] / [ ] __ [ ]", "uh well uh", "WELL"),
        # Optional words are rewritten like others; what becomes several words is optional word by word.
        ("[GONNA] => [GOING TO] / [ ] __ [ ]", "(gonna) go", "(GOING) (TO) GO"),
        ("[HE'S] => [{HE IS / HE HAS}] / [ ] __ [ ]", "(he's)", "{ (HE) (IS) / (HE) (HAS) }"),
        ("[UH] => [] / [ ] __ [ ]", "(uh) a", "A"),
    ],
)
def test_a_rule(tmp_path, rule, text, wanted):
    assert filter_text(rules(tmp_path, rule), text) == wanted


def test_the_first_rule_that_fits_is_taken(tmp_path):
    found = rules(tmp_path, "A B => C", "A => D", "A B C => E")
    assert len(found) == 3
    assert filter_text(found, "a b c a") == "C C D"


def test_settings(tmp_path):
    assert filter_text(rules(tmp_path, "cat => dog"), "cat") == "CAT"
    assert filter_text(rules(tmp_path, "* case_sensitive = 'F'", "cat => Dog / [the ] __"), "The cat") == "THE Dog"
    assert filter_text(rules(tmp_path, '* COPY_NO_HIT : "NO"', "CAT => DOG"), "a cat") == "DOG"
    assert filter_text(rules(tmp_path, "* name 'x'", '* desc "format"', "* max_nrules = '1'", "A => B"), "a") == "B"


def test_rules_for_one_kind_of_text(tmp_path):
    lines = ("A => B", ';; INPUT_DEPENDENT_APPLICATION = "ctm|HYP"', "C => D", ';;  INPUT_DEPENDENT_APPLICATION = "."')
    found = {
        kinds: filter_text(rules(tmp_path, *lines, "E => F", kinds=kinds), "a c e")
        for kinds in (("ref", "stm"), ("hyp", "ctm"), ("hyp", "trn"), ())
    }
    assert found == {
        ("ref", "stm"): "B C F",
        ("hyp", "ctm"): "B D F",
        ("hyp", "trn"): "B D F",
        (): "B C E",
    }


def test_hyphens(tmp_path):
    none = rules(tmp_path)
    assert filter_text(none, "well-known a-b-c th- -ick (th-) - x--y", split_hyphens=True) == (
        "WELL KNOWN A B C TH- -ICK (TH-) - X -Y"
    )
    assert filter_text(none, "well-known") == "WELL-KNOWN"


def test_the_lines_of_each_format(tmp_path):
    found = rules(tmp_path, "[A] => [{B / C D}] / [ ] __ [ ]", "[E] => [F G] / [ ] __ [ ]", "[H] => [ ] / [ ] __ [ ]")

    def filtered(apply, *texts):
        return [line.text for line in apply(found, [Line("f", n, text) for n, text in enumerate(texts, 1)])]

    assert filtered(filter_trn, "a e (u-1)", "(a) (a-e)", ";; a e", "") == [
        "{B / C D} F G (u-1)",
        "{ (B) / (C) (D) } (a-e)",
        ";; a e",
        "",
    ]
    assert filtered(filter_stm, "a e h 0 1 <a,e> a e", "a e h 0 1", "a e h 0 1 e", ";; a") == [
        "a e h 0 1 <a,e> {B / C D} F G",
        "a e h 0 1",
        "a e h 0 1 F G",
        ";; a",
    ]
    assert filtered(filter_ctm, "a e 1 0.4 e 0.5", "a e 2 0.2 x", "a e 3 0.4 a", "a e 4 1 h 0.5", ";; a", "") == [
        "a e 1.000 0.200 F 0.5",
        "a e 1.200 0.200 G 0.5",
        "a e 2 0.2 X",
        "a e * * <ALT_BEGIN>",
        "a e 3.000 0.400 B",
        "a e * * <ALT>",
        "a e 3.000 0.200 C",
        "a e 3.200 0.200 D",
        "a e * * <ALT_END>",
        ";; a",
        "",
    ]


def test_latin_1(tmp_path):
    (tmp_path / "old.glm").write_bytes(";; rules\nÖDER => ODER\n".encode("latin-1"))
    assert filter_text(read_glm(tmp_path / "old.glm"), "ÖDER") == "ODER"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("A = B", "line 2: a rule without an arrow"),
        (" => B", "line 2: a rule that rewrites nothing"),
        ("[] => B", "line 2: a rule that rewrites nothing"),
        ("* case_sensitive F", "line 2: a setting without a value"),
        ("* case_sensitive = 'perhaps'", "line 2: a setting that is neither true nor false"),
        ("* format = 'NIST2'", "line 2: rules of a format that is not known"),
        (';; INPUT_DEPENDENT_APPLICATION = "("', "line 2: no regular expression"),
    ],
)
def test_broken_rules_are_refused(tmp_path, line, words):
    with pytest.raises(BadInput, match=words):
        rules(tmp_path, line)


def test_what_cannot_be_rewritten_is_refused(tmp_path):
    with pytest.raises(BadInput, match="nowhere cannot be read"):
        read_glm(tmp_path / "nowhere")
    found = rules(tmp_path, "A => B")
    for text in ("a (b", "a) b", "((a) b)"):
        with pytest.raises(BadInput, match=r"f, line 7: parentheses that do not mark optional words"):
            list(filter_stm(found, [Line("f", 7, f"c A s 0 1 {text}")]))
    with pytest.raises(BadInput, match=r"f, line 3: no time"):
        list(filter_ctm(found, [Line("f", 3, "c A zero 1 a 0.5")]))
