//! `--exec NAME='CMD {pgid}'`: both numbers stand wherever they are asked for and nothing else of the command changes;
//! and a word that is quoted for a shell is one word, and the same.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some((name, template)) = deadbeat::fuzzing::killer(text) {
        assert_eq!(format!("{name}={template}"), text);
        assert!(!name.contains(|c: char| c.is_whitespace() || "'\"$`/".contains(c)), "{name:?}");
        let line = deadbeat::fuzzing::command_line(&template, 4242, Duration::from_millis(1500)).unwrap();
        let expected: Vec<_> = template.split("{pgid}").map(|rest| rest.replace("{grace}", "1.5")).collect();
        assert!(expected.len() > 1);
        assert_eq!(line, expected.join("4242"));
    }
    if !text.contains('\0') {
        let quoted = deadbeat::fuzzing::quoted(text);
        assert_eq!(shlex::split(&quoted), Some(vec![text.to_owned()]), "{quoted}");
    }
});
