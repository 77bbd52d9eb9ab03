//! A report that is read, by itself and at a merge: written again it is the same, every format takes it, and what is
//! twice there is refused.

#![no_main]

use std::sync::OnceLock;

use deadbeat::report::{html, json, junit, markdown, table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(report) = json::from_str(text) else { return };
    let written = json::to_string(&report).unwrap();
    let again = json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(json::to_string(&again).unwrap(), written);

    let mut plain = String::new();
    table::write(&mut plain, &report).unwrap();
    markdown::write(&mut plain, &report).unwrap();
    let page = html::to_string(&report).unwrap();
    assert_eq!(scripts(&page), *SCRIPTS.get_or_init(|| scripts(&html::to_string(&sample()).unwrap())), "{page}");
    let xml = junit::to_string(&report).unwrap();
    roxmltree::Document::parse(&xml).unwrap_or_else(|error| panic!("{error}: {xml}"));

    if let Ok(whole) = deadbeat::fuzzing::merged(&[text]) {
        assert_eq!(whole.cells.len(), report.cells.len());
    }
    if !report.cells.is_empty() {
        assert!(deadbeat::fuzzing::merged(&[text, text]).is_err(), "every cell is there twice");
    }
});

/// How many scripts the page has: what is quoted on it never begins or ends one.
static SCRIPTS: OnceLock<[usize; 2]> = OnceLock::new();

fn scripts(page: &str) -> [usize; 2] {
    let page = page.to_ascii_lowercase();
    ["<script", "</script"].map(|tag| page.matches(tag).count())
}

fn sample() -> deadbeat::report::Report {
    json::from_str(include_str!("../../src/report/sample.json")).unwrap()
}
