//! The part of a partitioned suite that a cell belongs to, and what all parts of a suite have in common.
//!
//! The part is FNV-1a, 64 bits, of the name's bytes, modulo the number of parts. It depends on the name alone, so a
//! part has the same cells on every machine, with every version, and whatever other cells there are.

use std::time::Duration;

use crate::report::{Partition, SuiteId};
use crate::signal::Signal;

/// Whether the part has the cell with this name.
pub(crate) fn has(partition: Partition, name: &str) -> bool {
    fnv1a(name.as_bytes()) % u64::from(partition.of()) + 1 == u64::from(partition.number())
}

/// The id of a suite with these cells, in any order, with these times and this first signal.
pub(super) fn suite_id(mut names: Vec<String>, times: [Duration; 3], first_signal: Signal) -> SuiteId {
    let cells = names.len();
    names.sort();
    names.extend(times.map(|time| time.as_nanos().to_string()));
    // Reports from before there was a choice have no signal in their hash.
    names.extend(Some(first_signal).filter(|signal| *signal != Signal::TERM).map(|signal| signal.to_string()));
    SuiteId { cells, hash: format!("{:016x}", fnv1a(names.join("\n").as_bytes())) }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        // The test vectors of the algorithm's authors.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn two_suites_are_one_only_with_the_same_cells_and_times() {
        let id = |names: &[&str], times: [u64; 3]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            suite_id(names, times.map(Duration::from_secs), Signal::TERM)
        };
        let one = id(&["a", "b"], [1, 2, 3]);
        assert_eq!(one, id(&["b", "a"], [1, 2, 3]));
        assert_eq!((one.cells, one.hash.len()), (2, 16));
        for other in [id(&["a", "c"], [1, 2, 3]), id(&["a"], [1, 2, 3]), id(&["a", "b"], [1, 2, 4])] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn every_name_is_in_exactly_one_part() {
        for name in ["inline/fast-exit/current-thread", "ours/zombie/multi-thread-2/dash", ""] {
            for of in 1..8 {
                let parts = (1..=of).filter(|number| has(Partition::new(*number, of).unwrap(), name));
                assert_eq!(parts.count(), 1, "{name:?} of {of}");
            }
        }
    }
}
