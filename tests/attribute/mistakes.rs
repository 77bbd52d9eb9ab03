//! What the attribute refuses, in which words, and where the compiler points.

use super::outside::{cargo, text};
use deadbeat::heartbeat::Heartbeat;

/// With what is to be said above each test.
pub(crate) const SOURCE: &str = include_str!("wrong.rs");

#[derive(Debug)]
struct Said {
    line: u64,
    /// The text it points at.
    at: String,
    message: String,
    /// All that it shows, notes included.
    rendered: String,
}

/// The errors of the compiler, by their lines.
fn errors() -> Vec<Said> {
    let args = ["check", "--offline", "--features", "macros", "--test", "mistakes", "--message-format", "json"];
    let output = cargo(&args).output().unwrap();
    assert!(!output.status.success());
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut errors = Vec::new();
    for message in messages.map(|message| message["message"].clone()).filter(|message| message["level"] == "error") {
        let Some(spans) = message["spans"].as_array().filter(|spans| !spans.is_empty()) else { continue };
        let span = spans.iter().find(|span| span["is_primary"] == true).unwrap();
        let shown = &span["text"][0];
        let column = |name: &str| shown[name].as_u64().unwrap() as usize - 1;
        let line: Vec<char> = shown["text"].as_str().unwrap().chars().collect();
        errors.push(Said {
            line: span["line_start"].as_u64().unwrap(),
            at: line[column("highlight_start")..column("highlight_end")].iter().collect(),
            message: message["message"].as_str().unwrap().to_owned(),
            rendered: message["rendered"].as_str().unwrap().to_owned(),
        });
    }
    assert!(!errors.is_empty(), "{}", text(&output));
    errors.sort_by_key(|error| error.line);
    errors
}

/// Both of the attribute's own are those of [`Heartbeat::new`].
fn defaults() -> [String; 2] {
    let all = format!("{:?}", Heartbeat::new());
    ["interval: ", "budget: "].map(|name| all.split(name).nth(1).unwrap().split(',').next().unwrap().to_owned())
}

#[test]
fn each_mistake_is_one_error_in_one_sentence_at_what_is_wrong() {
    let [interval, budget] = defaults();
    let source = SOURCE.replace("INTERVAL", &interval).replace("BUDGET", &budget);
    let lines = |prefix: &str| -> Vec<String> {
        source.lines().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect()
    };
    let errors = errors();
    for (at, is) in lines("// at: ").iter().zip(lines("// is: ")) {
        // Each mistake stands right below the line that says how it is called.
        let line = 1 + source.lines().position(|line| *line == format!("// is: {is}")).unwrap() as u64;
        let here: Vec<_> = errors.iter().filter(|error| (line..line + 5).contains(&error.line)).collect();
        let [error] = here[..] else { panic!("{is}: {here:#?}") };
        assert!(error.message.starts_with(&is) && error.at == *at, "at {at:?}, {is:?} is to be said: {error:#?}");
    }
    let not_send = errors.iter().find(|error| error.at == "not_send").unwrap();
    assert!(not_send.rendered.contains("flavor = \"current_thread\""), "{}", not_send.rendered);
    assert_eq!(errors.len(), lines("// at: ").len(), "{errors:#?}");
}
