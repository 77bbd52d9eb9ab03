//! Declarations about cells before they run: that they are known to fail, or fail at times, and why.

use crate::date;

/// A declaration for the cells whose names fit a pattern.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub(super) as_what: DeclaredAs,
    pub(super) pattern: String,
    pub(super) reason: String,
    /// The last day on which it holds, `YYYY-MM-DD`, in UTC.
    pub(super) until: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeclaredAs {
    KnownFailure,
    Flaky,
}

impl DeclaredAs {
    pub(super) fn name(self) -> &'static str {
        match self {
            DeclaredAs::KnownFailure => "known failure",
            DeclaredAs::Flaky => "flaky cell",
        }
    }
}

impl Declared {
    /// Whether the declaration is about the cell with this name.
    pub(super) fn is_of(&self, name: &str) -> bool {
        matches(&self.pattern, name)
    }

    /// The last day, if it is over.
    pub(super) fn over_since(&self) -> Option<&str> {
        self.until.as_deref().filter(|day| date::is_over(day))
    }
}

/// Whether `name` fits `pattern`, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    loop {
        if matches(rest, name) {
            return true;
        }
        let mut chars = name.chars();
        if chars.next().is_none() {
            return false;
        }
        name = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_nothing_else_does() {
        let name = "ours/late-fork/multi-thread-2";
        for pattern in [
            name,
            "*",
            "ours/*",
            "ours/late-fork/*",
            "*/multi-thread-2",
            "o*/l*k/*-2",
            "ours/late-fork/multi-thread-2*",
        ] {
            assert!(matches(pattern, name), "{pattern}");
        }
        for pattern in ["", "ours", "ours/late-fork", "*/", "ours/late-fork/*-1", "Ours/*", "*late-fork"] {
            assert!(!matches(pattern, name), "{pattern}");
        }
    }
}
