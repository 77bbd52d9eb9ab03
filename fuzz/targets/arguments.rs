//! The arguments and signals of `deadbeat timeout`: nothing of the command is lost, added or taken for an option.

#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let words: Vec<_> = data.split(|b| *b == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
    if let Some(command) = deadbeat::fuzzing::arguments(words.clone()) {
        // At least a time comes before it.
        assert!(words.len() > command.len() && words.ends_with(&command), "{words:?}: {command:?}");
    }
    // Whatever comes before the end of the options, what follows a time is the command.
    let mut call = vec!["-pv".into(), "-k".into(), "1m".into(), "--".into(), "5".into()];
    call.extend(words.clone());
    assert_eq!(deadbeat::fuzzing::arguments(call), Some(words));

    if let Ok(text) = std::str::from_utf8(data) {
        if let Some(name) = deadbeat::fuzzing::signal(text) {
            assert_eq!(deadbeat::fuzzing::signal(&name), Some(name), "{text:?}");
        }
        if let Ok(signal) = text.parse::<deadbeat::Signal>() {
            assert_eq!(signal.to_string().parse(), Ok(signal), "{text:?}");
        }
    }
});
