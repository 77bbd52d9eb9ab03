//! The record of what was judged, for the test that judges it again: every stretch, and of the busy periods those that
//! say something.

use std::fs;

pub(crate) fn start(path: &str) {
    fs::write(path, "").expect("a file to record in");
}

/// Nearly all busy periods were harmless: of those a few will do.
pub(crate) fn thin_out(path: &str) {
    let all = fs::read_to_string(path).expect("the record");
    let (mut harmless, mut kept) = (0, String::new());
    for line in all.lines() {
        let is_harmless = line.contains("\"found\":{\"fair\"") && line.contains("\"lost\":null");
        harmless += usize::from(is_harmless);
        if !is_harmless || harmless % 5 == 0 {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    fs::write(path, kept).expect("the record");
}
