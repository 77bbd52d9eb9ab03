//! What a watched test showed, and whether it passes with that: pure, a table.

use super::settings::{Mode, Settings};
use crate::heartbeat::Verdict;

/// What is declared of a test: that it stalls, and why it stays so for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KnownStall {
    pub(super) why: &'static str,
    /// The last day, `YYYY-MM-DD`.
    pub(super) until: Option<&'static str>,
}

/// What was found, of a test whose body came to the end it should come to or was not over at the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TestVerdict {
    Steady,
    Starved,
    /// It was starved, as it is known to be.
    Known,
    /// It was not starved, though it is known to be.
    NoLongerStalls,
    /// It is known to be starved until a day that is over.
    Expired,
    Inconclusive,
    /// It was not over at the deadline.
    Hung,
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consequence {
    Passes,
    PassesWithNote,
    Fails,
}

impl TestVerdict {
    /// `is_over`: the last day of what is known is.
    pub(super) fn of(verdict: &Verdict, known: Option<KnownStall>, is_over: bool) -> Self {
        match (verdict, known) {
            (_, Some(_)) if is_over => Self::Expired,
            (Verdict::Steady, None) => Self::Steady,
            (Verdict::Steady, Some(_)) => Self::NoLongerStalls,
            (Verdict::Starved, None) => Self::Starved,
            (Verdict::Starved, Some(_)) => Self::Known,
            (Verdict::Inconclusive { .. }, _) => Self::Inconclusive,
        }
    }

    pub(super) fn consequence(self, settings: &Settings) -> Consequence {
        match self {
            Self::Steady => Consequence::Passes,
            Self::Known => Consequence::PassesWithNote,
            // There is no end that it could pass with.
            Self::Hung => Consequence::Fails,
            Self::Inconclusive if settings.inconclusive_passes => Consequence::PassesWithNote,
            _ if settings.mode == Mode::Report => Consequence::PassesWithNote,
            _ => Consequence::Fails,
        }
    }

    /// In the lines of a report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Starved => "starved",
            Self::Known => "known",
            Self::NoLongerStalls => "no-longer-stalls",
            Self::Expired => "expired",
            Self::Inconclusive => "inconclusive",
            Self::Hung => "hung",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::Why;

    const KNOWN: Option<KnownStall> = Some(KnownStall { why: "a lock, issue 12", until: Some("2027-03-01") });

    #[test]
    fn a_known_stall_has_to_happen_until_its_last_day() {
        let doubt = Verdict::Inconclusive { why: Why::Memory };
        for (seen, known, is_over, verdict) in [
            (&Verdict::Steady, None, false, TestVerdict::Steady),
            (&Verdict::Starved, None, false, TestVerdict::Starved),
            (&doubt, None, false, TestVerdict::Inconclusive),
            (&Verdict::Steady, KNOWN, false, TestVerdict::NoLongerStalls),
            (&Verdict::Starved, KNOWN, false, TestVerdict::Known),
            (&doubt, KNOWN, false, TestVerdict::Inconclusive),
            (&Verdict::Steady, KNOWN, true, TestVerdict::Expired),
            (&Verdict::Starved, KNOWN, true, TestVerdict::Expired),
            (&doubt, KNOWN, true, TestVerdict::Expired),
        ] {
            assert_eq!(TestVerdict::of(seen, known, is_over), verdict, "{seen} {known:?} {is_over}");
        }
    }

    #[test]
    fn what_comes_of_a_verdict_is_a_matter_of_the_environment() {
        use Consequence::{Fails, Passes, PassesWithNote};
        let settings = |mode, inconclusive_passes| Settings { mode, inconclusive_passes, report: None };
        let [fail, lenient, report] = [(Mode::Fail, false), (Mode::Fail, true), (Mode::Report, false)]
            .map(|(mode, lenient)| settings(mode, lenient));
        for (verdict, consequences) in [
            (TestVerdict::Steady, [Passes, Passes, Passes]),
            (TestVerdict::Starved, [Fails, Fails, PassesWithNote]),
            (TestVerdict::Known, [PassesWithNote, PassesWithNote, PassesWithNote]),
            (TestVerdict::NoLongerStalls, [Fails, Fails, PassesWithNote]),
            (TestVerdict::Expired, [Fails, Fails, PassesWithNote]),
            (TestVerdict::Inconclusive, [Fails, PassesWithNote, PassesWithNote]),
            (TestVerdict::Hung, [Fails, Fails, Fails]),
        ] {
            assert_eq!(
                [&fail, &lenient, &report].map(|settings| verdict.consequence(settings)),
                consequences,
                "{verdict:?}"
            );
        }
    }
}
