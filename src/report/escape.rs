//! Text that others wrote (names, reasons, what a program printed), made harmless where it is shown.
//!
//! None of it commands a terminal, changes the order of a line, or makes a document unreadable.

/// Whether a character reorders the text around it: the controls of Unicode's bidirectional algorithm. A name or a
/// command with such a character is not what it looks like.
fn reorders(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character ends a line, though it is no control character.
fn ends_line(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

/// Whether Unicode will never assign this number. XML 1.0 excludes two of them and discourages the rest.
fn is_no_character(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

/// The text as one line: a blank for each control character, and U+FFFD for what would reorder the line.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { ' ' } else { visible(c) }).collect()
}

/// The text as [`plain`] has it, but with its line breaks, for a command of several lines.
pub(crate) fn plain_lines(text: &str) -> String {
    text.chars().map(visible).collect()
}

fn visible(c: char) -> char {
    match c {
        '\n' => '\n',
        c if c.is_control() || ends_line(c) => ' ',
        c if reorders(c) || is_no_character(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// The text without what an XML 1.0 document may not hold, or some of its readers refuse. The controls from U+0080 to
/// U+009F are allowed there, but some readers refuse them, and a terminal obeys them.
pub(super) fn xml(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\t' | '\n' | '\r') || !(c.is_control() || is_no_character(*c))).collect()
}

/// JSON in which characters that a terminal would obey, or that would reorder a line, are written as escapes. Such a
/// character can only be in a string there, so the value stays the same.
pub(crate) fn json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // Below U+0020 there are only escapes already, and the line breaks between the values.
        if (c.is_control() && c >= '\u{7f}') || ends_line(c) || reorders(c) || is_no_character(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped += &format!("\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether XML 1.0 has this character: its production `Char`, number by number.
    fn xml_has(c: char) -> bool {
        matches!(u32::from(c), 0x9 | 0xa | 0xd | 0x20..=0xd7ff | 0xe000..=0xfffd | 0x1_0000..=0x10_ffff)
    }

    #[test]
    fn nothing_that_xml_excludes_is_left_and_all_that_people_write_is() {
        let all: String = (0..=0x10_ffff).filter_map(char::from_u32).collect();
        let left = xml(&all);
        assert_eq!(left.chars().find(|c| !xml_has(*c)), None);
        // C0 but three, DEL, C1; FDD0 to FDEF; two at the end of each of 17 planes.
        assert_eq!(all.chars().count() - left.chars().count(), 32 - 3 + 1 + 32 + 32 + 2 * 17);
        assert_eq!(xml("\u{0}\u{8}\u{b}\u{1f}\u{7f}\u{9b}\u{fffe}\u{ffff}é\u{fffd}\u{1f480}"), "é\u{fffd}\u{1f480}");
    }

    #[test]
    fn a_line_keeps_its_order_its_end_and_its_terminal() {
        assert_eq!(plain("a\u{1b}[2J\r\nb\u{85}\u{2028}c"), "a [2J  b  c");
        assert_eq!(plain("gpj.\u{202e}exe\u{2066}\u{200f}"), "gpj.\u{fffd}exe\u{fffd}\u{fffd}");
        assert_eq!(plain_lines("a\n\tb\u{202e}"), "a\n b\u{fffd}");
        // Text that is written from right to left stays as it is.
        assert_eq!(plain("שלום مرحبا"), "שלום مرحبا");
    }

    #[test]
    fn json_stays_the_same_value_whatever_goes_by_its_number() {
        let all = crate::report::all_sorts_of_characters();
        let text = serde_json::to_string_pretty(&[&*all]).unwrap();
        let escaped = json(&text);
        assert_eq!(serde_json::from_str::<[String; 1]>(&escaped).unwrap()[0], all);
        let obeyed = |c: char| (c.is_control() && c != '\n') || reorders(c) || ends_line(c);
        assert!(!escaped.contains(obeyed));
        // The control: as it comes from serde_json it would be obeyed.
        assert!(text.contains(obeyed));
    }
}
