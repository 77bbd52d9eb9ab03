//! What one run is, by its seed: who is in the tree, how the run comes to its end, and who was there before it.

use nix::libc::SYS_prctl;
use rustix::process::Signal;

/// SplitMix64: a seed tells every number that follows.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn of(seed: u64) -> Numbers {
        Numbers(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Timeout,
    ItsOwn,
    Sent(Signal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Obeys,
    Ignores,
    Leaves,
    LeavesAndIgnores,
    Daemon,
    /// Forks on, outside the group; each link lives so many microseconds. For longer than a survivor is waited for, and
    /// not for ever: where the dead are not reaped it would take every number there is.
    Chain(u64),
    NotDumpable,
    NotDumpableAndOfTheGroup,
    Titled,
    TitledAndIgnores,
}

impl Member {
    fn any(numbers: &mut Numbers) -> Member {
        match numbers.below(10) {
            0 => Member::Obeys,
            1 => Member::Ignores,
            2 => Member::Leaves,
            3 => Member::LeavesAndIgnores,
            4 => Member::Daemon,
            // The fastest are the hardest to see.
            5 => {
                let most = if numbers.below(2) == 0 { 300 } else { 3000 };
                Member::Chain(numbers.below(most))
            }
            6 => Member::NotDumpable,
            7 => Member::NotDumpableAndOfTheGroup,
            8 => Member::Titled,
            _ => Member::TitledAndIgnores,
        }
    }

    /// A shell's command for it, which goes into the background.
    fn command(self) -> String {
        let undumpable = format!("perl -e 'syscall({SYS_prctl}, 4, 0, 0, 0, 0); sleep 300'");
        // perl writes over its arguments and over the environment that lies behind them.
        let titled = "perl -e '$0 = \"x\" x 9000; sleep 300'";
        match self {
            Member::Obeys => "sleep 300".to_owned(),
            Member::Ignores => "sh -c 'trap \"\" TERM INT; exec sleep 300'".to_owned(),
            Member::Leaves => "setsid sleep 300".to_owned(),
            Member::LeavesAndIgnores => "setsid sh -c 'trap \"\" TERM INT; exec sleep 300'".to_owned(),
            Member::Daemon => "(setsid sleep 300 &)".to_owned(),
            Member::Chain(link) => {
                let sleep = if link == 0 { String::new() } else { format!("usleep({link})") };
                let chain = format!("$end = time + 12; while (time < $end) {{ exit if fork; {sleep} }}");
                format!("setsid perl -MTime::HiRes=usleep -e '{chain}'")
            }
            Member::NotDumpable => format!("setsid {undumpable}"),
            Member::NotDumpableAndOfTheGroup => undumpable,
            Member::Titled => format!("setsid {titled}"),
            Member::TitledAndIgnores => format!("setsid sh -c \"trap '' TERM INT; exec {}\"", quoted(titled)),
        }
    }
}

/// For the inside of a shell's double quotes.
fn quoted(words: &str) -> String {
    words.replace('"', "\\\"").replace('$', "\\$")
}

/// A child from before the exec into `deadbeat timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    Child,
    /// One that ends in the middle of the run, and leaves its own child behind.
    ChildOfOneThatEnds,
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    members: Vec<Member>,
    pub(super) end: End,
    /// When it comes, in milliseconds since the start.
    pub(super) after: u64,
    pub(super) before: Before,
}

impl Plan {
    pub(super) fn of(seed: u64) -> Plan {
        let mut numbers = Numbers::of(seed);
        let members = (0..=numbers.below(4)).map(|_| Member::any(&mut numbers)).collect();
        let end = match numbers.below(5) {
            0 => End::Timeout,
            1 => End::ItsOwn,
            2 => End::Sent(Signal::TERM),
            3 => End::Sent(Signal::INT),
            _ => End::Sent(Signal::KILL),
        };
        let before = match numbers.below(8) {
            0 => Before::Child,
            1 => Before::ChildOfOneThatEnds,
            _ => Before::Nothing,
        };
        // As soon as at once, and as late as when all have been there for a while.
        let after = match numbers.below(3) {
            0 => numbers.below(20),
            _ => numbers.below(250),
        };
        Plan { members, end, after, before }
    }

    /// The arguments of `deadbeat timeout`, as a shell reads them.
    pub(super) fn arguments(&self) -> String {
        let seconds = |millis: u64| format!("{}.{:03}", millis / 1000, millis % 1000);
        let members: String = self.members.iter().map(|member| format!("{} & ", member.command())).collect();
        let (timeout, last) = match self.end {
            End::Timeout => (seconds(self.after.max(1)), "sleep 300".to_owned()),
            End::ItsOwn => ("300".to_owned(), format!("sleep {}", seconds(self.after))),
            End::Sent(_) => ("300".to_owned(), "sleep 300".to_owned()),
        };
        let script = format!("{members}{last}").replace('\'', "'\\''");
        format!("-k .3 {timeout} sh -c '{script}'")
    }
}
