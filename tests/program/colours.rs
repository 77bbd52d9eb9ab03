//! Colours on a terminal, none in a pipe, and an option that says otherwise is obeyed.

use rstest::rstest;

use crate::support::{PASSING, deadbeat};

const ESCAPE: u8 = 0x1b;

#[rstest]
#[case::a_pipe_has_none(None, "", false)]
#[case::always_means_always(Some("always"), "", true)]
#[case::no_color_means_none("auto".into(), "CLICOLOR_FORCE NO_COLOR", false)]
#[case::its_control(Some("auto"), "CLICOLOR_FORCE", true)]
#[case::never_means_never(Some("never"), "CLICOLOR_FORCE", false)]
fn colours_go_where_they_are_wanted(#[case] option: Option<&str>, #[case] environment: &str, #[case] coloured: bool) {
    let mut command = deadbeat(PASSING);
    command.args(option.map(|when| format!("--color={when}")));
    command.envs(environment.split_ascii_whitespace().map(|name| (name, "1")));
    let output = command.assert().success().get_output().clone();
    assert_eq!(output.stdout.contains(&ESCAPE), coloured, "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_file_gets_no_colours_even_when_they_are_always_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report");
    deadbeat(PASSING).arg("--color=always").arg("--output").arg(&file).assert().success().stdout("");
    let report = std::fs::read(file).unwrap();
    assert!(!report.is_empty() && !report.contains(&ESCAPE), "{}", String::from_utf8_lossy(&report));
}
