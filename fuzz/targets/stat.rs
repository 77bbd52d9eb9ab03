//! `/proc/PID/stat`: whatever a process calls itself, the numbers after its name are read, and nothing else is.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // As it comes: what is read lies between the first parenthesis and the last.
    if let Some((name, ..)) = deadbeat::fuzzing::stat_line(data) {
        let open = data.iter().position(|b| *b == b'(').unwrap();
        let close = data.iter().rposition(|b| *b == b')').unwrap();
        assert_eq!(name, String::from_utf8_lossy(&data[open + 1..close]));
    }
    // As the kernel writes it: numbers from the first bytes, and a name from the others.
    let Some((numbers, name)) = data.split_first_chunk::<24>() else { return };
    let number = |at: usize| u64::from_ne_bytes(numbers[at..at + 8].try_into().unwrap());
    let (parent, threads) = (number(0) as i32, (number(0) >> 32) as u32);
    let (flags, started) = (number(8), number(16));
    let state = char::from(b"RSDTtZXxKWPI"[usize::from(numbers[0]) % 12]);
    let mut line = b"4242 (".to_vec();
    line.extend(name);
    let rest = format!(") {state} {parent} 1 2 3 -1 {flags} 0 0 0 0 0 0 0 0 20 0 {threads} 0 {started} 0 0\n");
    line.extend(rest.bytes());
    let read = deadbeat::fuzzing::stat_line(&line);
    assert_eq!(read, Some((String::from_utf8_lossy(name).into_owned(), state, parent, flags, threads, started)));
});
