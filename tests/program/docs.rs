//! The manual page and the completions.

use std::io::Write;
use std::process::{Command, Stdio};

use rstest::rstest;

use crate::support::deadbeat;

fn printed(args: &str) -> String {
    String::from_utf8(deadbeat(args).assert().success().stderr("").get_output().stdout.clone()).unwrap()
}

#[test]
fn the_manual_page_has_each_command_and_its_statuses() {
    let page = printed("man");
    assert!(page.contains(".TH deadbeat 1"), "{page}");
    for command in ["SUITE", "TIMEOUT", "KILL", "FIXTURES", "MAN", "COMPLETIONS"] {
        assert!(page.contains(&format!(".SH \"DEADBEAT {command}\"")), "{command}: {page}");
    }
    let (_, timeout) = page.split_once("DEADBEAT TIMEOUT").unwrap();
    let (timeout, _) = timeout.split_once(".SH").unwrap();
    for words in ["kill\\-after", "preserve\\-status", "GRACE", "124", "SIGHUP"] {
        assert!(timeout.contains(words), "{words}: {timeout}");
    }
    assert!(!timeout.contains("color"), "{timeout}");
}

#[test]
fn the_synopses_say_which_options_take_a_value() {
    let page = printed("man").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace("\\-", "-");
    let synopses: Vec<_> = page.lines().filter(|line| line.starts_with("deadbeat ") && line.contains('[')).collect();
    let expected = "deadbeat timeout [-f|--foreground] [-k|--kill-after GRACE] [-p|--preserve-status] \
                    [-s|--signal SIGNAL] [-v|--verbose] [-h|--help] DURATION COMMAND ...";
    assert!(synopses.contains(&expected), "{synopses:#?}");
    assert_eq!(synopses.len(), 7, "{synopses:#?}");
    assert!(synopses[0].starts_with("deadbeat [--color WHEN]") && synopses[0].ends_with(" COMMAND"), "{}", synopses[0]);
}

#[rstest]
#[case("bash")]
#[case("zsh")]
#[case("fish")]
fn the_completions_are_a_script_of_that_shell(#[case] shell: &str) {
    let script = printed(&format!("completions {shell}"));
    for word in ["timeout", "preserve-status", "kill-after", "subject"] {
        assert!(script.contains(word), "{word}");
    }
    let Ok(mut child) = Command::new(shell).arg("-n").stdin(Stdio::piped()).spawn() else {
        eprintln!("not checked: {shell} is not installed");
        return;
    };
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn completions_for_no_shell_are_refused() {
    deadbeat("completions tcsh").assert().code(2).stdout("");
}
