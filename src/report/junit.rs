//! The report as JUnit XML, for the tools that show test results: a suite a subject, a test a cell.
//!
//! A cell that is not as expected is a failure. An inconclusive cell is an error: it proves nothing, so it is no pass,
//! and no fault of the subject was seen. Characters that XML cannot hold are left out here: quick-junit leaves out
//! fewer.

use quick_junit::{NonSuccessKind, Report as Document, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::escape::xml;
use super::{CellReport, CellVerdict, Report};

/// The report as text, ending in a newline.
///
/// # Errors
///
/// None in practice: characters that XML cannot hold are left out.
pub fn to_string(report: &Report) -> Result<String, SerializeError> {
    let mut suites: Vec<TestSuite> = Vec::new();
    for cell in &report.cells {
        let subject = xml(&cell.subject);
        let suite = suites.iter().rposition(|suite| suite.name.as_str() == subject).unwrap_or_else(|| {
            suites.push(TestSuite::new(&subject));
            suites.len() - 1
        });
        suites[suite].add_test_case(case(cell));
    }
    let mut document = Document::new("deadbeat");
    document.add_test_suites(suites);
    let mut text = document.to_string()?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn case(cell: &CellReport) -> TestCase {
    let not = |kind, kind_name: &str| {
        let mut status = TestCaseStatus::non_success(kind);
        let about = super::about_fixture(cell).map(|about| format!("\n{about}")).unwrap_or_default();
        let again = cell.again.as_ref().map(|again| format!("\nagain: {again}")).unwrap_or_default();
        let why = xml(&cell.why);
        status.set_type(kind_name).set_message(&why).set_description(xml(&format!("{why}{about}{again}")));
        status
    };
    let status = match cell.verdict {
        CellVerdict::Pass => TestCaseStatus::success(),
        CellVerdict::Fail => not(NonSuccessKind::Failure, "fail"),
        CellVerdict::Inconclusive => not(NonSuccessKind::Error, "inconclusive"),
    };
    let repeat = cell.repeat.map(|repeat| format!("#{repeat}")).unwrap_or_default();
    let runtime = cell.runtime().map(|runtime| format!("{runtime}/")).unwrap_or_default();
    let mut case = TestCase::new(xml(&format!("{}/{runtime}{}{repeat}", cell.fixture, cell.shell)), status);
    case.set_classname(xml(&cell.subject));
    if let Some(elapsed) = cell.elapsed {
        case.set_time(elapsed);
    }
    case
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;

    use super::*;
    use crate::report::{SAMPLE, json};

    #[test]
    fn every_cell_is_a_test_and_the_counts_agree() {
        let report = json::from_str(SAMPLE).unwrap();
        let text = to_string(&report).unwrap();
        let document = Document::parse(&text).unwrap();
        let count = |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).count();
        let summary = report.summary;
        assert_eq!((count("testcase"), count("failure"), count("error")), (5, summary.fail, summary.inconclusive));
        let sum = |name: &str| -> usize {
            let suites = document.descendants().filter(|node| node.has_tag_name("testsuite"));
            suites.map(|suite| suite.attribute(name).unwrap().parse::<usize>().unwrap()).sum()
        };
        assert_eq!((sum("tests"), sum("failures"), sum("errors")), (5, summary.fail, summary.inconclusive));
        assert_eq!(document.root_element().attribute("tests"), Some("5"));
    }

    #[test]
    fn words_that_are_markup_stay_words() {
        let report = json::from_str(SAMPLE).unwrap();
        let text = to_string(&report).unwrap();
        let document = Document::parse(&text).unwrap();
        let failure = document.descendants().find(|node| node.has_tag_name("failure")).unwrap();
        // XML has no bell.
        let cell = report.cells.iter().find(|cell| cell.verdict == CellVerdict::Fail).unwrap();
        let why = cell.why.replace('\u{7}', "");
        let said = failure.text().unwrap();
        assert!(said.starts_with(&why) && said.contains(cell.again.as_ref().unwrap()), "{said}");
        let case = failure.parent().unwrap();
        assert_eq!(case.attribute("classname"), Some(&*cell.subject));
        assert!(case.attribute("name").unwrap().ends_with("#2"), "{case:?}");
    }

    #[test]
    fn every_word_of_a_report_may_have_any_character_and_the_counts_stay() {
        let all = crate::report::all_sorts_of_characters();
        let mut report = json::from_str(SAMPLE).unwrap();
        for cell in &mut report.cells {
            let words = [&mut cell.subject, &mut cell.fixture, &mut cell.runtime, &mut cell.shell, &mut cell.why];
            words.into_iter().for_each(|word| word.push_str(&all));
            cell.again = Some(all.clone());
        }
        let text = to_string(&report).unwrap();
        let document = Document::parse(&text).expect("no XML");
        let count = |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).count();
        assert_eq!((count("testcase"), count("failure"), count("error")), (5, 1, 1));
        let failure = document.descendants().find(|node| node.has_tag_name("failure")).unwrap();
        assert!(failure.text().unwrap().contains("<script>alert(1)</script> <!--"));
        assert!(!text.contains(['\u{fffe}', '\u{ffff}', '\u{9b}', '\u{1b}']));
    }
}
