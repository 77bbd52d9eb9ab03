//! The report as Markdown, for a pull request or a job's summary: the count, what is not as expected, the matrix.

use std::fmt::{self, Write};

use super::escape::{plain, plain_lines};
use super::matrix::{self, Block, short};
use super::{CellReport, CellVerdict, PulseVerdict, Report, about_fixture};

/// Writes the report. Text that it quotes is shown as it is, and never read as Markdown or HTML.
///
/// # Errors
///
/// The errors of the writer.
pub fn write(out: &mut impl Write, report: &Report) -> fmt::Result {
    let part = report.partition.map(|part| format!(" (part {part})")).unwrap_or_default();
    writeln!(out, "### deadbeat{part}: {}\n", report.summary)?;
    let ranked = [CellVerdict::Fail, CellVerdict::Inconclusive];
    for cell in ranked.iter().flat_map(|verdict| report.cells.iter().filter(move |cell| cell.verdict == *verdict)) {
        write_unexpected(out, cell)?;
    }
    for block in matrix::blocks(report) {
        write_block(out, &block)?;
    }
    let host = &report.host;
    let (os, kernel, arch) = (escaped(&host.os), escaped(&host.kernel), escaped(&host.arch));
    writeln!(out, "<sub>{os} {kernel}, {arch}, {} cores, deadbeat {}</sub>", host.cores, escaped(&host.deadbeat))
}

fn write_unexpected(out: &mut impl Write, cell: &CellReport) -> fmt::Result {
    writeln!(out, "**{}** {}: {}\n", cell.verdict, escaped(&cell.name()), escaped(&cell.why))?;
    if let Some(about) = about_fixture(cell) {
        writeln!(out, "{}\n", escaped(&about))?;
    }
    let Some(again) = &cell.again else { return Ok(()) };
    let again = plain_lines(again);
    let longest = again.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    writeln!(out, "{fence}sh\n{again}\n{fence}\n")
}

fn write_block(out: &mut impl Write, block: &Block<'_>) -> fmt::Result {
    let (all, off) = (block.cells().count(), block.cells().filter(|cell| cell.verdict != CellVerdict::Pass).count());
    let shell = block.shell.map(|shell| format!(" under {}", escaped(shell))).unwrap_or_default();
    let about = if block.known_bad() { ", known to be bad and expected to be caught" } else { "" };
    let subject = escaped(block.subject);
    // After a blank line Markdown is read again inside the HTML.
    writeln!(out, "<details><summary>{subject}{shell}{about}: {} of {all} as expected</summary>\n", all - off)?;
    write!(out, "| fixture | outcome | after |")?;
    for runtime in &block.runtimes {
        write!(out, " {} |", escaped(matrix::heading(runtime)))?;
    }
    writeln!(out, "\n| --- | --- | ---: |{}", " --- |".repeat(block.runtimes.len()))?;
    for row in &block.rows {
        write!(out, "| {} | {} | {} |", escaped(row.fixture), row.outcome(), row.after())?;
        for runtime in &block.runtimes {
            write!(out, " {} |", row.worst_on(runtime).map(pulse).unwrap_or_default())?;
        }
        writeln!(out)?;
    }
    writeln!(out, "\n</details>\n")
}

fn pulse(cell: &CellReport) -> String {
    if cell.runtime().is_none() {
        return if cell.verdict == CellVerdict::Pass { "pass".into() } else { format!("**{}**", cell.verdict) };
    }
    let pulse = match &cell.pulse {
        None => "none".to_owned(),
        Some(pulse) if pulse.verdict == PulseVerdict::Starved => format!("starved {}", short(pulse.longest)),
        Some(pulse) => pulse.verdict.to_string(),
    };
    match cell.verdict {
        CellVerdict::Pass => pulse,
        verdict => format!("**{verdict}**, {pulse}"),
    }
}

/// One line of plain text: characters that mean anything to Markdown or HTML, or make a link of a word, are written by
/// their numbers.
fn escaped(text: &str) -> String {
    let mut line = String::new();
    for c in plain(text).chars() {
        match c {
            // GitHub looks for mentions and issues after it has read the numbers. A space of no width keeps quoted text
            // from being one.
            '@' | '#' => {
                let _ = write!(line, "&#{};&#8203;", u32::from(c));
            }
            c if c.is_ascii_punctuation() && !"-,;/()%+='\"?".contains(c) => {
                // Writing to a string cannot fail.
                let _ = write!(line, "&#{};", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{SAMPLE, json};

    fn text() -> String {
        let mut text = String::new();
        write(&mut text, &json::from_str(SAMPLE).unwrap()).unwrap();
        text
    }

    #[test]
    fn what_failed_comes_first_with_the_command_that_shows_it_again() {
        let text = text();
        let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?}: {text}"));
        assert!(
            text.starts_with("### deadbeat (part 1/2): 5 cells: 3 as expected, 1 failed, 1 inconclusive\n\n"),
            "{text}"
        );
        let (fail, unclear) = (place("**fail** "), place("**inconclusive** "));
        assert!(fail < unclear && unclear < place("<details>"), "{text}");
        assert!(text[fail..unclear].contains("```sh\ndeadbeat suite "), "{text}");
    }

    #[test]
    fn every_row_of_the_matrix_has_every_column() {
        let text = text();
        let mut columns = None;
        for line in text.lines() {
            columns = line.starts_with('|').then(|| line.matches('|').count()).inspect(|here| {
                assert_eq!(*here, columns.unwrap_or(*here), "{line}");
            });
        }
        assert_eq!(text.matches("<details>").count(), 3, "{text}");
        assert_eq!(text.matches("<details>").count(), text.matches("\n</details>\n").count());
    }

    #[test]
    fn words_that_are_markup_stay_words() {
        let text = text();
        let mut in_command = false;
        for line in text.lines() {
            if line.starts_with("```") {
                in_command = !in_command;
            } else if !in_command {
                for markup in ["<script", "</script", "<b>", "<!--", "`", "\u{7}"] {
                    assert!(!line.contains(markup), "{markup} in {line}");
                }
            }
        }
        assert_eq!(escaped("https://a.b www.c"), "https&#58;//a&#46;b www&#46;c");
        assert_eq!(
            escaped("a|b *c* <d>&\n#1 @me"),
            "a&#124;b &#42;c&#42; &#60;d&#62;&#38; &#35;&#8203;1 &#64;&#8203;me"
        );
    }

    /// Outside of the fences there is only markup of this file's own, whatever names and reasons contain.
    #[test]
    fn every_word_of_a_report_may_have_any_character() {
        let all = crate::report::all_sorts_of_characters()
            + "\n# @me ```\n<script>\r\n| --- |\n[a](b) ![a](b) ~~~\n$$ *b* _i_";
        let mut report = json::from_str(SAMPLE).unwrap();
        for cell in &mut report.cells {
            let words = [&mut cell.subject, &mut cell.fixture, &mut cell.shell, &mut cell.why];
            words.into_iter().for_each(|word| word.push_str(&all));
            cell.again = Some(all.clone());
        }
        let mut text = String::new();
        write(&mut text, &report).unwrap();
        let (mut fence, mut commands) = (None, 0);
        for line in text.lines() {
            match fence {
                Some(end) if line == end => fence = None,
                Some(_) => {}
                None if line.starts_with("```") => (fence, commands) = (line.strip_suffix("sh"), commands + 1),
                None => {
                    let own =
                        line.replace("<details><summary>", "").replace("</summary>", "").replace("</details>", "");
                    let own = own.replace("<sub>", "").replace("</sub>", "").replace("**", "").replace("&#", "");
                    let own = own.trim_start_matches("### ").trim_matches(['|', ' ']).replace(" | ", "");
                    assert!(!own.contains(['<', '>', '`', '*', '_', '[', ']', '#', '@', '|', '$', '~', '\\']), "{own}");
                }
            }
            assert!(!line.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{2028}', '\u{fffe}']), "{line}");
        }
        assert_eq!((fence, commands), (None, 2));
    }

    #[test]
    fn a_command_with_a_fence_in_it_does_not_end_its_block() {
        let mut report = json::from_str(SAMPLE).unwrap();
        report.cells[3].again = Some("echo ````".to_owned());
        let mut text = String::new();
        write(&mut text, &report).unwrap();
        assert!(text.contains("\n`````sh\necho ````\n`````\n"), "{text}");
    }
}
