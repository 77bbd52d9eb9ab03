//! The arguments of timeout(1), as getopt reads them: options end at the first word that is no option.
//!
//! clap is not used: it takes longer to set up than a short command takes to run, and exits with 2 where 125 is meant.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::{duration, signals};
use crate::signal::Signal;

/// A valid call that runs a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TimeoutCall {
    /// `None`: signal 0.
    pub(super) signal: Option<Signal>,
    /// How long after the signal SIGKILL follows; zero: never.
    pub(super) kill_after: Duration,
    pub(super) preserve_status: bool,
    pub(super) foreground: bool,
    pub(super) verbose: bool,
    /// Zero: for ever.
    pub(super) timeout: Duration,
    pub(super) command: OsString,
    pub(super) args: Vec<OsString>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum TimeoutRequest {
    Run(TimeoutCall),
    Help,
    Version,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Opt {
    Foreground,
    KillAfter,
    PreserveStatus,
    Signal,
    Verbose,
    Help,
    Version,
}

const LONG: [(&str, Opt); 7] = [
    ("foreground", Opt::Foreground),
    ("help", Opt::Help),
    ("kill-after", Opt::KillAfter),
    ("preserve-status", Opt::PreserveStatus),
    ("signal", Opt::Signal),
    ("verbose", Opt::Verbose),
    ("version", Opt::Version),
];

impl Opt {
    fn short(letter: u8) -> Option<Opt> {
        match letter {
            b'f' => Some(Opt::Foreground),
            b'k' => Some(Opt::KillAfter),
            b'p' => Some(Opt::PreserveStatus),
            b's' => Some(Opt::Signal),
            b'v' => Some(Opt::Verbose),
            b'h' => Some(Opt::Help),
            b'V' => Some(Opt::Version),
            _ => None,
        }
    }

    fn takes_value(self) -> bool {
        matches!(self, Opt::KillAfter | Opt::Signal)
    }
}

/// Parses the arguments; the error says what is wrong with them.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<TimeoutRequest, String> {
    let mut args = args.into_iter();
    let mut call = TimeoutCall {
        signal: Some(Signal::TERM),
        kill_after: Duration::from_secs(5),
        preserve_status: false,
        foreground: false,
        verbose: false,
        timeout: Duration::ZERO,
        command: OsString::new(),
        args: Vec::new(),
    };
    let first = loop {
        let Some(arg) = args.next() else { break None };
        match arg.as_bytes() {
            b"--" => break args.next(),
            [b'-', b'-', long @ ..] => {
                let (name, value) = match long.iter().position(|b| *b == b'=') {
                    Some(at) => (&long[..at], Some(OsStr::from_bytes(&long[at + 1..]).to_owned())),
                    None => (long, None),
                };
                let (name, option) = long_option(&String::from_utf8_lossy(name))?;
                let value = match (option.takes_value(), value) {
                    (false, Some(_)) => return Err(format!("option '--{name}' doesn't allow an argument")),
                    (false, None) => OsString::new(),
                    (true, Some(value)) => value,
                    (true, None) => args.next().ok_or_else(|| format!("option '--{name}' requires an argument"))?,
                };
                if let Some(request) = call.set(option, &value)? {
                    return Ok(request);
                }
            }
            [b'-', letters @ ..] if !letters.is_empty() => {
                let mut letters = letters;
                while let [letter, rest @ ..] = letters {
                    letters = rest;
                    let shown = char::from(*letter);
                    let option = Opt::short(*letter).ok_or_else(|| format!("invalid option -- '{shown}'"))?;
                    let mut value = OsString::new();
                    if option.takes_value() {
                        value = match std::mem::take(&mut letters) {
                            [] => args.next().ok_or_else(|| format!("option requires an argument -- '{shown}'"))?,
                            attached => OsStr::from_bytes(attached).to_owned(),
                        };
                    }
                    if let Some(request) = call.set(option, &value)? {
                        return Ok(request);
                    }
                }
            }
            _ => break Some(arg),
        }
    };
    let (Some(timeout), Some(command)) = (first, args.next()) else { return Err("missing operand".to_owned()) };
    call.timeout = time(&timeout)?;
    call.command = command;
    call.args = args.collect();
    Ok(TimeoutRequest::Run(call))
}

impl TimeoutCall {
    fn set(&mut self, option: Opt, value: &OsStr) -> Result<Option<TimeoutRequest>, String> {
        match option {
            Opt::Foreground => self.foreground = true,
            Opt::KillAfter => self.kill_after = time(value)?,
            Opt::PreserveStatus => self.preserve_status = true,
            Opt::Signal => {
                let text = value.to_string_lossy();
                self.signal = signals::parse(&text).map_err(|()| format!("'{text}': invalid signal"))?;
            }
            Opt::Verbose => self.verbose = true,
            Opt::Help => return Ok(Some(TimeoutRequest::Help)),
            Opt::Version => return Ok(Some(TimeoutRequest::Version)),
        }
        Ok(None)
    }
}

fn time(text: &OsStr) -> Result<Duration, String> {
    let text = text.to_string_lossy();
    duration::parse(&text).ok_or_else(|| format!("invalid time interval '{text}'"))
}

/// Finds an option by its name, or by a prefix of it that no other option has.
fn long_option(name: &str) -> Result<(&'static str, Opt), String> {
    let meant: Vec<_> = LONG.into_iter().filter(|(long, _)| long.starts_with(name)).collect();
    match meant[..] {
        [one] => Ok(one),
        [] => Err(format!("unrecognized option '--{name}'")),
        _ => match meant.iter().find(|(long, _)| *long == name) {
            Some(exact) => Ok(*exact),
            None => {
                let all: Vec<_> = meant.iter().map(|(long, _)| format!("'--{long}'")).collect();
                Err(format!("option '--{name}' is ambiguous; possibilities: {}", all.join(" ")))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn call(line: &str) -> TimeoutCall {
        match parse(line.split_whitespace().map(OsString::from)) {
            Ok(TimeoutRequest::Run(call)) => call,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn problem(line: &str) -> String {
        parse(line.split_whitespace().map(OsString::from)).expect_err(line)
    }

    #[rstest]
    fn an_option_can_be_written_in_every_way_getopt_knows(
        #[values(
            "-s INT -k 2 -pfv 5 sh",
            "-sINT -k2 -p -f -v 5 sh",
            "-vpfsINT -k 2 5 sh",
            "--signal=INT --kill-after=2 -pfv 5 sh",
            "--signal INT --kill-after 2 --preserve-status --foreground --verbose 5 sh",
            "--s int --k=2 --p --f --verb -- 5 sh"
        )]
        line: &str,
    ) {
        let call = call(line);
        assert_eq!((call.signal, call.kill_after), (Some(Signal::INT), Duration::from_secs(2)));
        assert!(call.preserve_status && call.foreground && call.verbose);
        assert_eq!((call.timeout, call.command), (Duration::from_secs(5), "sh".into()));
    }

    #[test]
    fn what_follows_the_command_is_the_commands() {
        let call = call("5 ls -v --signal -- -k");
        assert!(!call.verbose);
        assert_eq!(call.args, ["-v", "--signal", "--", "-k"]);
    }

    #[test]
    fn the_grace_is_what_the_help_and_the_page_promise() {
        use crate::promised::{TIMEOUT, are_kept, time};
        let help = include_str!("help.rs");
        let in_help = crate::promised::words(help, "value_name = \"GRACE\", default_value = \"{}s\"").parse().unwrap();
        let kept = call("5 true").kill_after;
        are_kept(&[
            ("--help", Duration::from_secs(in_help), kept),
            ("docs/timeout, beside coreutils", time(TIMEOUT, "| `-k` | never, by default | {} by default;"), kept),
            ("docs/timeout, in words", time(TIMEOUT, "A command that takes longer than {} to end well"), kept),
        ]);
        assert_eq!((call("5 true").signal, call("5 true").verbose), (Some(Signal::TERM), false));
    }

    #[test]
    fn the_last_of_an_option_counts() {
        assert_eq!(call("-s INT -s 0 5 true").signal, None);
    }

    #[rstest]
    #[case("", "missing operand")]
    #[case("5", "missing operand")]
    #[case("--", "missing operand")]
    #[case("x true", "invalid time interval 'x'")]
    #[case("- true", "invalid time interval '-'")]
    #[case("-- -1 true", "invalid time interval '-1'")]
    #[case("-k x 1 true", "invalid time interval 'x'")]
    #[case("-s MONKEY 1 true", "'MONKEY': invalid signal")]
    #[case("-x 1 true", "invalid option -- 'x'")]
    #[case("-1 true", "invalid option -- '1'")]
    #[case("-k", "option requires an argument -- 'k'")]
    #[case("--signal", "option '--signal' requires an argument")]
    #[case("--verbose=1 1 true", "option '--verbose' doesn't allow an argument")]
    #[case("--frob 1 true", "unrecognized option '--frob'")]
    #[case("--ver 1 true", "option '--ver' is ambiguous; possibilities: '--verbose' '--version'")]
    fn what_is_wrong_is_said_as_getopt_says_it(#[case] line: &str, #[case] words: &str) {
        assert_eq!(problem(line), words);
    }
}
