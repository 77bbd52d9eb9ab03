//! A signal number that this system knows, with the names people write for it.
//!
//! Our own newtype, so that no 0.x crate stands in the public API and real-time signals fit too.

use std::fmt;
use std::str::FromStr;

use nix::libc;
use nix::sys::signal::Signal as Named;

/// A signal, by number: one of `signal(7)`'s standard ones or a real-time one.
///
/// Parses from `TERM`, `SIGTERM` (either in any case), `15`, `RTMIN+2`, `RTMAX-1`; displays as `SIGTERM`.
///
/// ```
/// use deadbeat::Signal;
///
/// assert_eq!("term".parse(), Ok(Signal::TERM));
/// assert_eq!("15".parse(), Ok(Signal::TERM));
/// assert_eq!(Signal::TERM.to_string(), "SIGTERM");
/// assert!("TREM".parse::<Signal>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(i32);

impl Signal {
    /// Hang-up of the controlling terminal.
    pub const HUP: Signal = Signal(libc::SIGHUP);
    /// Interrupt from the keyboard.
    pub const INT: Signal = Signal(libc::SIGINT);
    /// Quit from the keyboard.
    pub const QUIT: Signal = Signal(libc::SIGQUIT);
    /// The polite request to end; the first signal of a kill.
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// The end that cannot be refused; the last signal of a kill.
    pub const KILL: Signal = Signal(libc::SIGKILL);
    /// Continue, if stopped.
    pub const CONT: Signal = Signal(libc::SIGCONT);
    /// Stop; cannot be refused either.
    pub const STOP: Signal = Signal(libc::SIGSTOP);
    /// User-defined signal 1.
    pub const USR1: Signal = Signal(libc::SIGUSR1);
    /// User-defined signal 2.
    pub const USR2: Signal = Signal(libc::SIGUSR2);

    /// The signal with this number, or `None` where the system has none (0 is the null signal, not one).
    pub fn from_raw(number: i32) -> Option<Signal> {
        let known =
            Named::try_from(number).is_ok() || real_time().is_some_and(|(min, max)| (min..=max).contains(&number));
        known.then_some(Signal(number))
    }

    /// The number, as `kill(2)` takes it.
    pub fn as_raw(self) -> i32 {
        self.0
    }
}

/// The range that the C library leaves to programs (it keeps the first few for itself).
#[cfg(target_os = "linux")]
fn real_time() -> Option<(i32, i32)> {
    Some((libc::SIGRTMIN(), libc::SIGRTMAX()))
}

#[cfg(not(target_os = "linux"))]
fn real_time() -> Option<(i32, i32)> {
    None
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (Named::try_from(self.0), real_time()) {
            (Ok(named), _) => f.write_str(named.as_str()),
            (Err(_), Some((min, _))) if self.0 == min => f.write_str("SIGRTMIN"),
            (Err(_), Some((min, _))) => write!(f, "SIGRTMIN+{}", self.0 - min),
            (Err(_), None) => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Signal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Signal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Signal, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The word is neither the name nor the number of a signal here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSignal(String);

impl fmt::Display for UnknownSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a signal: write a name such as TERM or SIGKILL, or a number", self.0)
    }
}

impl std::error::Error for UnknownSignal {}

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(word: &str) -> Result<Signal, UnknownSignal> {
        let unknown = || UnknownSignal(word.to_owned());
        // `str::parse` would take "+15" too, which no shell does.
        if word.bytes().all(|b| b.is_ascii_digit()) {
            return word.parse().ok().and_then(Signal::from_raw).ok_or_else(unknown);
        }
        let upper = word.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((min, max)) = real_time() {
            let offset = |digits: &str| {
                if digits.is_empty() { Some(0) } else { digits.parse::<i32>().ok().filter(|n| *n >= 0) }
            };
            if let Some(rest) = name.strip_prefix("RTMIN") {
                let number = offset(rest.strip_prefix('+').unwrap_or(rest)).map(|n| min.saturating_add(n));
                return number.filter(|n| *n <= max).map(Signal).ok_or_else(unknown);
            }
            if let Some(rest) = name.strip_prefix("RTMAX") {
                let number = offset(rest.strip_prefix('-').unwrap_or(rest)).map(|n| max.saturating_sub(n));
                return number.filter(|n| *n >= min).map(Signal).ok_or_else(unknown);
            }
        }
        format!("SIG{name}").parse::<Named>().map(|named| Signal(named as i32)).map_err(|_| unknown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives_the_way_to_its_name_and_back() {
        let all: Vec<_> = (1..=64).filter_map(Signal::from_raw).collect();
        assert!(all.len() >= 30, "only {} signals known", all.len());
        for signal in all {
            assert_eq!(signal.to_string().parse(), Ok(signal));
            assert_eq!(signal.as_raw().to_string().parse(), Ok(signal));
        }
    }

    #[test]
    fn what_is_no_signal_is_refused_by_name() {
        for word in ["", "0", "-1", "+15", "65", "999999999999", "SIG", "SIGSIGTERM", "RTMIN+99", "RTMAX--1"] {
            let error = word.parse::<Signal>().expect_err(word);
            assert!(error.to_string().contains(&format!("{word:?}")), "{error}");
        }
    }
}
