//! What the kernel says of a thread: the call it is in, whatever its arguments, and its account.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(line) = std::str::from_utf8(data) {
        if let Some((Some((name, _)), _)) = deadbeat::fuzzing::system_call(line) {
            assert!(!name.is_empty());
        }
    }
    if let Some((on_cpu, run_queue, turns)) = deadbeat::fuzzing::schedstat(data) {
        let line = format!("{} {} {turns}\n", on_cpu.as_nanos(), run_queue.as_nanos());
        assert_eq!(deadbeat::fuzzing::schedstat(line.as_bytes()), Some((on_cpu, run_queue, turns)));
    }
});
