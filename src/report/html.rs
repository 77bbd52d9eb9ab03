//! The report as one page that needs nothing but a browser: no network, no other file.
//!
//! The page is in `report/html/`. The report goes into it as JSON, and the browser draws it.

use serde_json::{Map, Value};

use super::Report;
use crate::fixture;

const PAGE: &str = include_str!("html/page.html");
const STYLE: &str = include_str!("html/page.css");
const TIMELINE: &str = include_str!("html/timeline.js");
const DETAILS: &str = include_str!("html/details.js");
const SCRIPT: &str = include_str!("html/page.js");

/// The page with this report in it.
///
/// # Errors
///
/// None in practice: everything in a report has a JSON form.
pub fn to_string(report: &Report) -> serde_json::Result<String> {
    let mut value = serde_json::to_value(report)?;
    drop_empty(&mut value);
    value["fixtures"] = about_fixtures(report);
    let data = in_script(&serde_json::to_string(&value)?);
    let mut page = String::with_capacity(data.len() + 64 * 1024);
    let mut rest = PAGE;
    // Piece by piece, so that a marker inside a piece is left alone.
    for (marker, text) in [
        ("/*style*/", STYLE),
        ("{/*report*/}", &data),
        ("/*timeline*/", TIMELINE),
        ("/*details*/", DETAILS),
        ("/*script*/", SCRIPT),
    ] {
        if let Some((before, after)) = rest.split_once(marker) {
            page.push_str(before);
            page.push_str(text);
            rest = after;
        }
    }
    page.push_str(rest);
    Ok(page)
}

/// What each fixture of the report does, in one sentence.
fn about_fixtures(report: &Report) -> Value {
    let known = report.cells.iter().filter_map(|cell| fixture::named(&cell.fixture));
    known.map(|fixture| (fixture.name.to_owned(), Value::from(fixture.about()))).collect::<Map<_, _>>().into()
}

/// Leaves out nulls, empty lists and empty texts, to keep the page small.
fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(drop_empty);
            fields.retain(|_, value| match value {
                Value::Null => false,
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

/// JSON that can stand in a script element. A `<` in it can only be in a string, and is written as an escape, so that
/// no
/// `</script>` or `<!--` ends the element.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{SAMPLE, json};

    fn page() -> String {
        to_string(&json::from_str(SAMPLE).unwrap()).unwrap()
    }

    fn data(page: &str) -> &str {
        let (_, rest) = page.split_once("<script type=\"application/json\" id=\"report\">").unwrap();
        rest.split_once("</script>").unwrap().0
    }

    #[test]
    fn the_page_holds_the_report_and_its_words_do_not_break_out() {
        let page = page();
        let mut inside: Value = serde_json::from_str(data(&page)).unwrap();
        let about = inside.as_object_mut().unwrap().shift_remove("fixtures").unwrap();
        assert_eq!(about["stubborn-child"], fixture::named("stubborn-child").unwrap().about());
        let mut report: Value = serde_json::from_str(SAMPLE).unwrap();
        assert!(report["cells"][3]["why"].as_str().unwrap().contains("</script><script>alert(1)</script> <!--"));
        drop_empty(&mut report);
        assert_eq!(inside, report);
        // The control: plain JSON would break out.
        let naive = page.replacen("\\u003c", "<", 1);
        assert!(serde_json::from_str::<Value>(data(&naive)).is_err());
    }

    #[test]
    fn the_page_names_nobody_else() {
        let page = page();
        let (before, after) = page.split_once(data(&page)).unwrap();
        for part in [before, after] {
            for way_out in ["http:", "https:", "//cdn", "@import", "url(", " src=", "fetch(", "XMLHttpRequest"] {
                let part = part.replace("http://www.w3.org/2000/svg", "");
                assert!(!part.contains(way_out), "{way_out}");
            }
        }
        assert!(before.contains("default-src 'none'"));
    }

    #[test]
    fn every_piece_is_in_its_place() {
        let page = page();
        for marker in ["/*style*/", "/*report*/", "/*timeline*/", "/*details*/", "/*script*/"] {
            assert!(PAGE.contains(marker) && !page.contains(marker), "{marker}");
        }
        assert_eq!((page.matches("<script").count(), page.matches("</script>").count()), (2, 2));
    }
}
