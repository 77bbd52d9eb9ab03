//! What is wrong with a call is said on stderr, with status 125, before anything runs.

use rstest::rstest;

use crate::support::{Tool, output, text};

#[rstest]
#[case::nothing(&[], "missing operand")]
#[case::no_command(&["5"], "missing operand")]
#[case::duration(&["x", "true"], "invalid time interval 'x'")]
#[case::empty_duration(&["", "true"], "invalid time interval ''")]
#[case::negative(&["--", "-1", "true"], "invalid time interval '-1'")]
#[case::unit(&["42D", "true"], "invalid time interval '42D'")]
#[case::not_ascii(&["10€", "true"], "invalid time interval '10€'")]
#[case::kill_after(&["-k", "x", "5", "true"], "invalid time interval 'x'")]
#[case::signal(&["-s", "MONKEY", "5", "true"], "'MONKEY': invalid signal")]
#[case::option(&["--frob", "5", "true"], "unrecognized option '--frob'")]
#[case::letter(&["-x", "5", "true"], "invalid option -- 'x'")]
#[case::value(&["-s"], "option requires an argument -- 's'")]
fn a_wrong_call_is_refused(#[case] args: &[&str], #[case] words: &str) {
    let output = output(args);
    let stderr = format!("deadbeat timeout: {words}\nTry 'deadbeat timeout --help' for more information.\n");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(125), stderr));
    assert!(output.stdout.is_empty());
}

#[rstest]
#[case::status(&["x", "true"])]
#[case::option(&["--frob", "5", "true"])]
#[case::signal(&["-s", "MONKEY", "5", "true"])]
fn coreutils_refuses_it_alike(#[case] args: &[&str]) {
    if !Tool::Coreutils.is_installed() {
        return;
    }
    let theirs = Tool::Coreutils.command(args).env("LC_ALL", "C").output().unwrap();
    let ours = output(args);
    let renamed = text(&ours.stderr).replace("deadbeat timeout", "timeout");
    assert_eq!((ours.status.code(), renamed), (theirs.status.code(), text(&theirs.stderr)));
}

#[test]
fn help_and_version_are_data() {
    for (option, words) in [("--help", "Exit status:"), ("--version", "deadbeat timeout 0."), ("--hel", "Exit status:")]
    {
        let output = output(&[option]);
        assert_eq!((output.status.code(), output.stderr.is_empty()), (Some(0), true));
        assert!(text(&output.stdout).contains(words), "{option}");
    }
}

#[test]
fn what_cannot_be_printed_is_a_failure() {
    for option in ["--help", "--version"] {
        let mut command = Tool::Deadbeat.command(&[option]);
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(command.stdout(full).status().unwrap().code(), Some(125), "{option}");
    }
}

#[test]
fn what_is_printed_to_nobody_is_a_failure() {
    let closed = |program: &str, args: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("exec \"$0\" {args} >&-"), program]);
        command.output().unwrap()
    };
    let deadbeat = env!("CARGO_BIN_EXE_deadbeat");
    for option in ["--help", "--version"] {
        let output = closed(deadbeat, &format!("timeout {option}"));
        assert_eq!(output.status.code(), Some(125), "{option}");
        let told = text(&output.stderr);
        assert!(told.starts_with("deadbeat: cannot write to stdout, which is closed"), "{told}");
        if Tool::Coreutils.is_installed() {
            assert_eq!(closed("timeout", option).status.code(), Some(125), "{option}");
        }
        // The rest of the program has a status of its own for that.
        assert_eq!(closed(deadbeat, option).status.code(), Some(2), "{option}");
    }
    assert_eq!(closed(deadbeat, "suite --list").status.code(), Some(2));
    // A command that prints nothing misses nothing.
    assert_eq!(closed(deadbeat, "timeout 10 sh -c 'exit 3'").status.code(), Some(3));
}

#[test]
fn options_of_the_program_may_come_first() {
    let run = |args: &[&str]| std::process::Command::new(env!("CARGO_BIN_EXE_deadbeat")).args(args).output().unwrap();
    assert_eq!(run(&["--color", "never", "timeout", "10", "sh", "-c", "exit 4"]).status.code(), Some(4));
    assert_eq!(run(&["--color=never", "timeout", "x", "true"]).status.code(), Some(125));
}
