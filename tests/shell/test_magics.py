"""``%tfdiag``: its subcommands, what it says to mistakes, and Tab."""

import re

import pytest
from traitlets.config.loader import DeferredConfigString

from tests.shell.pack import ASSEMBLE, FAILS
from tfdiag_ipython.shell.extension import extension_of

SPOKEN = "The widget of size 7 is broken"


def test_it_shows_the_last_diagnosis_again(run):
    assert "no cell has failed" in run("%tfdiag")
    run(ASSEMBLE, FAILS)
    assert SPOKEN in run("%tfdiag")
    shown = run("1/0", "%tfdiag")
    assert "knows nothing about the last failure (ZeroDivisionError in cell 5)" in shown
    assert "This was found in cell 3:" in shown and SPOKEN in shown


def test_it_names_what_the_settings_keep_silent(run):
    assert "There is no rule TST999." in run("%tfdiag config ignored=TST001,TST999")
    assert "no rule that may speak (TST001, TST999: ignored) fits it" in run(ASSEMBLE, FAILS, "%tfdiag")


def test_a_mistyped_magic_is_not_the_last_failure(run):
    run(ASSEMBLE, FAILS, "%tfdiag nonsense")
    assert "knows nothing" not in run("%tfdiag")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("%tfdiag exlain CFG001", "%tfdiag has no subcommand 'exlain'. Did you mean explain?"),
        ("%tfdiag xyz", "There are on, off, rules, explain, probe, migrate, report, wrong, config."),
        ("%tfdiag explain", "%tfdiag explain takes CODE, which is missing."),
        ("%tfdiag explain TST009", "No rule has the code 'TST009'. Did you mean"),
        ("%tfdiag rules all", "%tfdiag rules takes no arguments, not all."),
        ("%tfdiag probe measur things", "tfdiag has no probe 'measur'. Did you mean measure?"),
        ("%tfdiag probe widget things", "The probe widget takes no arguments; 'things' was not looked at."),
        ("%tfdiag config pannel=off", "tfdiag has no setting 'pannel'. Did you mean panel?"),
        ("%tfdiag config panel=maybe", "'maybe' is no value for panel: it takes on or off."),
        ("%tfdiag config shown=9", "'9' is no value for shown: it takes a whole number from 1 to 3."),
        (
            "%tfdiag config watch=paddin",
            "'paddin' is no value for watch: it takes hub, padding, warnings, separated by commas, or none.",
        ),
        ("%tfdiag config panel", "%tfdiag config takes NAME=VALUE"),
        ("%tfdiag migrate --dif", "%tfdiag migrate has no option '--dif'. Did you mean --diff?"),
        ("%tfdiag config 'open", "%tfdiag cannot read"),
        ("%%tfdiag --wach warnings\n1", "%%tfdiag has no option '--wach'. Did you mean --watch?"),
        ("%%tfdiag --watch warning\n1", "%%tfdiag cannot watch 'warning'. Did you mean warnings?"),
    ],
)
def test_a_mistake_is_one_sentence_without_a_traceback(run, shell, typed, said):
    shown = run(typed)
    assert shown.startswith("UsageError: ") and said in shown
    assert len(shown.strip().splitlines()) == 1
    assert shell.last_execution_succeeded is False


def test_rules_and_explain(run):
    assert re.search("TST001 +broken-widget  ", run("%tfdiag rules"))
    assert "# TST001 broken-widget" in run("%tfdiag explain tst001")
    assert "# TST001 broken-widget" in run("%tfdiag explain broken-widget")


def test_config_prints_and_sets(run, shell):
    assert "panel     on" in run("%tfdiag config")
    shown = run("%tfdiag config panel=off budget=0.5 ignored=TST001,HUB001")
    assert "panel     off" in shown and "ignored   HUB001,TST001" in shown
    run(ASSEMBLE)
    assert SPOKEN not in run(FAILS)
    run("%tfdiag config ignored=none")
    assert SPOKEN in run(FAILS)
    assert extension_of(shell).settings.budget == 0.5


def test_settings_can_come_from_the_configuration_file(bare):
    bare.config.TfdiagSettings.panel = False
    bare.run_line_magic("load_ext", "tfdiag_ipython")
    assert extension_of(bare).settings.panel is False
    bare.run_line_magic("unload_ext", "tfdiag_ipython")


def test_a_wrong_value_in_the_configuration_file_costs_that_value_alone(bare, capsys):
    bare.config.TfdiagSettings.shown = 9
    bare.config.TfdiagSettings.quiet = True
    bare.config.TfdiagSettings.watch.add("padding")
    bare.config.TfdiagSettings.ignored.append("MEM001")
    bare.run_line_magic("load_ext", "tfdiag_ipython")
    said = capsys.readouterr().err
    assert "c.TfdiagSettings.ignored is left as it was: nothing was added to it" in said
    assert said.startswith("c.TfdiagSettings.shown is left as it was: 9 is no value for shown")
    bare.run_line_magic("tfdiag", "config")
    rows = dict(row.split()[:2] for row in capsys.readouterr().out.splitlines())
    assert (rows["shown"], rows["quiet"], rows["watch"]) == ("3", "on", "padding")
    bare.run_line_magic("unload_ext", "tfdiag_ipython")


@pytest.mark.parametrize(
    ("misspelt", "beside", "told"),
    [
        (
            "panle = False",
            "quiet = True",
            "c.TfdiagSettings.panle is skipped: tfdiag has no setting 'panle'. Did you mean panel?",
        ),
        (
            "wach.add('padding')",
            "shown = 9",
            "c.TfdiagSettings.wach is skipped: tfdiag has no setting 'wach'. Did you mean watch?",
        ),
        (
            "panle = DeferredConfigString('False')",
            "shown = 9",
            "c.TfdiagSettings.panle is skipped: tfdiag has no setting",
        ),
        (
            "zzz = 1",
            "shown = 9",
            "c.TfdiagSettings.zzz is skipped: tfdiag has no setting 'zzz'. There are enabled, panel,",
        ),
    ],
)
def test_a_misspelt_name_in_the_configuration_costs_that_name_alone(bare, capsys, recwarn, misspelt, beside, told):
    for setting in (misspelt, beside, "budget = 0.5"):
        exec(f"c.TfdiagSettings.{setting}", {"c": bare.config, "DeferredConfigString": DeferredConfigString})
    bare.run_line_magic("load_ext", "tfdiag_ipython")
    assert capsys.readouterr().err.count(told) == 1
    assert extension_of(bare).settings.budget == 0.5
    assert not [warning for warning in recwarn if "not recognized" in str(warning.message)]  # said once
    bare.run_line_magic("unload_ext", "tfdiag_ipython")


def test_settings_of_another_name_are_said_to_be_skipped(bare, capsys, monkeypatch):
    monkeypatch.setenv("TFDIAG_PANLE", "off")
    bare.config.TfDiagSettings.panel = False
    bare.run_line_magic("load_ext", "tfdiag_ipython")
    said = capsys.readouterr().err
    assert "c.TfDiagSettings is skipped: the settings are c.TfdiagSettings." in said
    assert "TFDIAG_PANLE is skipped: tfdiag has no setting 'panle'. Did you mean panel?" in said
    bare.run_line_magic("unload_ext", "tfdiag_ipython")


def test_the_configuration_takes_what_the_magic_takes(bare, capsys):
    bare.config.TfdiagSettings.panel = "off"
    bare.config.TfdiagSettings.ignored = "MEM001,ABC1234"
    bare.run_line_magic("load_ext", "tfdiag_ipython")
    settings = extension_of(bare).settings
    assert (settings.panel, settings.ignored, capsys.readouterr().err) == (False, {"MEM001", "ABC1234"}, "")
    bare.run_line_magic("unload_ext", "tfdiag_ipython")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("budget = float('nan')", "nan is no number of seconds for budget."),
        ("ignored = 'label'", "'LABEL' is no code of a rule, such as IDX001."),
        ("watch = 'paddin'", "There is no watch 'paddin'. There are hub, padding, warnings."),
        ("pannel = False", "tfdiag has no setting 'pannel'. Did you mean panel?"),
    ],
)
def test_ipythons_own_config_magic_refuses_what_means_nothing(run, shell, caplog, setting, told):
    before = run("%tfdiag config")
    for _ in range(2):  # a warning would be shown once
        assert run(f"%config TfdiagSettings.{setting}").count("\n") <= 1
    assert caplog.text.count(told) == 2 and run("%tfdiag config") == before


def test_settings_can_come_from_the_environment_and_the_configuration_file_wins(bare, monkeypatch, capsys):
    monkeypatch.setenv("TFDIAG_PANEL", "off")
    monkeypatch.setenv("TFDIAG_SHOWN", "2")
    monkeypatch.setenv("TFDIAG_BUDGET", "plenty")
    bare.config.TfdiagSettings.shown = 1
    bare.run_line_magic("load_ext", "tfdiag_ipython")
    settings = extension_of(bare).settings
    assert (settings.panel, settings.shown, settings.budget) == (False, 1, 1.0)
    assert "TFDIAG_BUDGET: 'plenty' is no value for budget: it takes a number" in capsys.readouterr().err
    bare.run_line_magic("unload_ext", "tfdiag_ipython")


def test_ipythons_own_config_magic_sets_them(run, shell):
    assert "TfdiagSettings" in run("%config")
    run("%config TfdiagSettings.ignored = ['tst001']", ASSEMBLE)
    assert SPOKEN not in run(FAILS)
    assert "ignored   TST001" in run("%tfdiag config")


def test_quiet_shows_the_answer_alone_until_it_is_asked(run):
    run("%tfdiag config quiet=on", ASSEMBLE)
    shown = run(FAILS)
    assert SPOKEN in shown and "`%tfdiag` shows the evidence and the fixes." in shown and "\nEvidence\n" not in shown
    full = run("%tfdiag")
    assert SPOKEN in full and "\nEvidence\n" in full


def test_a_wrong_diagnosis_is_reported_and_its_rule_silent_from_then_on(run):
    assert "no diagnosis that could be wrong" in run("%tfdiag wrong")
    assert SPOKEN in run(ASSEMBLE, FAILS)
    assert "UsageError: IDX001 is not in the last diagnosis. Did you mean TST001?" in run("%tfdiag wrong idx001")
    told = run("%tfdiag wrong")
    assert "# Wrong diagnosis: TST001" in told and "TST001 stays silent for the rest of this session" in told
    assert SPOKEN not in run(FAILS)
    run("%tfdiag config ignored=none")
    assert SPOKEN in run(FAILS)


def test_a_rule_with_a_number_of_four_digits_can_be_called_wrong(run):
    fails = "raise RuntimeError('the pack has too many rules')"
    assert "more than a thousand rules" in run(fails)
    assert "# Wrong diagnosis: ABC1234" in run("%tfdiag wrong")
    assert "more than a thousand rules" not in run(fails)


def test_a_probe_prints_what_it_saw_and_its_finding_is_diagnosed(run):
    assert "len(things)  2  variable `things`" in run("things = [1, 2]", "%tfdiag probe measure things")
    shown = run("things = [1, 2, 3, 4]", "%tfdiag probe measure things")
    assert "things has 4 items" in shown
    assert "things has 4 items" in run("%tfdiag")


def test_probes_are_listed_with_their_usage(run):
    assert re.search(r"measure +NAME +The length of a list that the person names\.", run("%tfdiag probe"))


def test_a_probe_looks_at_the_frames_of_the_last_failure(run):
    run(ASSEMBLE, FAILS)
    assert "size  7  frame `assemble`" in run("%tfdiag probe widget")
    assert "Not looked at: no frame of assemble" in run("1/0", "%tfdiag probe widget")


def test_a_probe_that_fails_says_so_in_one_sentence(run):
    shown = run("%tfdiag probe measure explode")
    assert shown.strip() == (
        "UsageError: The probe measure failed (ZeroDivisionError); `%tfdiag report` has the details."
    )
    assert "a fault of the probe" in run("%tfdiag report")


def test_braces_and_dollars_reach_the_probe_as_typed(run):
    assert "KeyError" in run("%tfdiag probe measure {1/0}$x")


def test_the_report_is_redacted(run, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "correct-horse")
    run(ASSEMBLE, "raise RuntimeError('the widget is hidden: hf_abcdefghijklmnop /home/jane/x correct-horse')")
    shown = run("%tfdiag report")
    assert "TST001" in shown and "| tfdiag |" in shown and "| ipython |" in shown
    for secret in ("hf_abcdefghijklmnop", "jane", "correct-horse"):
        assert secret not in shown


def test_the_manual(shell, run):
    shell.set_hook("show_in_pager", lambda self, data, start, screen_lines: print(data["text/plain"]))
    for asked in ("%tfdiag?", "%%tfdiag?"):
        shown = run(asked)
        for word in ("explain CODE", "probe NAME", "--watch NAME"):
            assert word in shown


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%tfdiag ex", {"explain"}),
        ("%tfdiag ", {"on", "off", "rules", "explain", "probe", "migrate", "report", "wrong", "config"}),
        ("%tfdiag migrate --d", {"--diff"}),
        ("%tfdiag explain TST00", {"TST001", "TST002", "TST003", "TST004"}),
        ("%tfdiag probe meas", {"measure"}),
        ("%tfdiag config pan", {"panel="}),
        ("%%tfdiag --w", {"--watch"}),
        ("%%tfdiag --watch wa", {"warnings"}),
    ],
)
def test_tab(shell, line, offered):
    shell.Completer.use_jedi = False
    _, found = shell.Completer.complete(line_buffer=line, cursor_pos=len(line))
    assert offered == set(found)


def test_tab_offers_the_magics_themselves(shell):
    _, found = shell.Completer.complete(line_buffer="%tfd", cursor_pos=4)
    assert "%tfdiag" in found
