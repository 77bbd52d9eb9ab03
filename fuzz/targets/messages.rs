//! The guardian's messages: what is decoded is encoded the same again, and keeps its kind, its child and its group.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: [u8; 40]| {
    let Some(written) = deadbeat::fuzzing::message(&bytes) else {
        let known = bytes[0] < 8;
        assert!(!known || bytes[0] == 1, "only a policy with an unknown signal is refused: {bytes:?}");
        return;
    };
    assert_eq!(deadbeat::fuzzing::message(&written), Some(written));
    assert_eq!(written[0], bytes[0]);
    // The first and the last kind are of no child.
    if !matches!(bytes[0], 0 | 7) {
        assert_eq!(written[8..16], bytes[8..16]);
    }
    if bytes[0] == 2 {
        assert_eq!(written[4..8], bytes[4..8]);
    }
});
