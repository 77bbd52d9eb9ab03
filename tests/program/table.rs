//! The table is for a terminal of 80 columns.

use crate::support::deadbeat;

/// A suite whose table has the widest text of each column: the longest name, the longest outcome, a worker that stood
/// still.
const WIDEST: &str = "suite --subject inline --fixture sigterm-exit-code --fixture zombie --grace 1s";

#[test]
fn the_widest_rows_fit_80_columns_and_stand_in_line() {
    // The status does not matter: on a loaded machine a cell may be late.
    let output = deadbeat(WIDEST).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let table: Vec<_> = text.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    assert_eq!(table.len(), 1 + 2, "{text}");
    for line in &table {
        assert_eq!(line.chars().count(), 80, "{text}");
    }
    // Columns are right-aligned: each ends where its heading does, and no cell is empty.
    for heading in ["after", "current-thread", "multi-thread-1", "multi-thread-2"] {
        let end = table[0].find(heading).expect("no such heading") + heading.len();
        for line in &table {
            assert_ne!(&line[end - 1..end], " ", "{heading}: {text}");
            assert!(end == line.len() || &line[end..=end] == " ", "{heading}: {text}");
        }
    }
}

#[test]
fn a_known_bad_subject_that_was_caught_by_its_time_is_marked() {
    // Where zombies cannot be told from the living, every cell is late.
    let suite = "suite --subject async-sleep --fixture fast-exit --fixture ignore-term --runtime current-thread \
                 --grace 4s --budget 1500ms";
    let marked = predicates::str::is_match(r"fast-exit .* steady, late\n").unwrap();
    let not = predicates::str::is_match(r"ignore-term .* steady\n").unwrap();
    deadbeat(suite).assert().success().stdout(marked).stdout(not);
}
