//! One process of a group, as a look found it.

use std::fmt;

/// One process of a group, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Member {
    /// Its process id.
    pub pid: i32,
    /// Its state as in `proc_pid_stat(5)`: `R` running, `S` sleeping, `D` in uninterruptible sleep, `T` stopped, ..
    pub state: char,
    /// Its command line, arguments separated by blanks; the bare name in brackets where it has none.
    pub command: String,
    /// Whether this process may signal it (`EPERM` otherwise).
    pub signalable: bool,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}] {}", self.pid, self.state, self.command)?;
        if self.signalable { Ok(()) } else { f.write_str(" (not permitted to signal it)") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_may_not_be_signalled_is_shown_as_such() {
        let member = Member { pid: 42, state: 'S', command: "sleep 60".into(), signalable: true };
        assert_eq!(member.to_string(), "42 [S] sleep 60");
        let member = Member { signalable: false, ..member };
        assert_eq!(member.to_string(), "42 [S] sleep 60 (not permitted to signal it)");
    }
}
