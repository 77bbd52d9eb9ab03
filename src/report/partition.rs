//! One of several parts of a suite, such as `2/3`, the second of three; and the suite that it belongs to.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// A part of a suite, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "String", into = "String")
)]
pub struct Partition {
    number: NonZeroU32,
    of: NonZeroU32,
}

impl Partition {
    /// Part `number` of `of`; `None` unless 1 ≤ `number` ≤ `of`.
    pub fn new(number: u32, of: u32) -> Option<Partition> {
        let (number, of) = (NonZeroU32::new(number)?, NonZeroU32::new(of)?);
        (number <= of).then_some(Partition { number, of })
    }

    /// The number of this part, from 1.
    pub fn number(self) -> u32 {
        self.number.get()
    }

    /// The number of all parts.
    pub fn of(self) -> u32 {
        self.of.get()
    }
}

/// The suite that a part belongs to: equal in every part of one suite, and in no part of another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SuiteId {
    /// The number of cells in all parts together.
    pub cells: usize,
    /// FNV-1a, 64 bits, in 16 hexadecimal digits: of the names of all cells, sorted, a line each, and of the grace, the
    /// budget and the deadline in nanoseconds, a line each.
    pub hash: String,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Partition, String> {
        let parts = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        parts
            .and_then(|(number, of)| Partition::new(number, of))
            .ok_or_else(|| format!("{text:?} is no part: write M/N, such as 2/3, with M from 1 to N"))
    }
}

impl TryFrom<String> for Partition {
    type Error = String;

    fn try_from(text: String) -> Result<Partition, String> {
        text.parse()
    }
}

impl From<Partition> for String {
    fn from(partition: Partition) -> String {
        partition.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_one_of_the_whole() {
        let part: Partition = "2/3".parse().unwrap();
        assert_eq!((part.number(), part.of(), part.to_string().as_str()), (2, 3, "2/3"));
        for text in ["0/3", "4/3", "1/0", "1", "", "/", "a/b", "-1/3", "1/3/5"] {
            let error = text.parse::<Partition>().expect_err(text);
            assert!(error.contains("write M/N"), "{error}");
        }
    }
}
