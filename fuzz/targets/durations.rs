//! The times of `deadbeat timeout`, beside the C library's `strtod`, which is what timeout(1) reads them with.

#![no_main]

use std::ffi::{CString, c_char};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;

/// What timeout(1) would read; `None` is "invalid time interval".
fn by_strtod(text: &str) -> Option<(f64, bool)> {
    let bytes = CString::new(text).ok()?;
    let mut end: *mut c_char = std::ptr::null_mut();
    // SAFETY: a C string that outlives the calls, and a place for a pointer into it.
    let (value, length, errno) = unsafe {
        *libc::__errno_location() = 0;
        let value = libc::strtod(bytes.as_ptr(), &mut end);
        (value, end.offset_from(bytes.as_ptr()) as usize, *libc::__errno_location())
    };
    if length == 0 || value.is_nan() {
        return None;
    }
    let unit = match &text.as_bytes()[length..] {
        b"" | b"s" => 1.0,
        b"m" => 60.0,
        b"h" => 3600.0,
        b"d" => 86400.0,
        _ => return None,
    };
    let is_zero = value == 0.0 && errno != libc::ERANGE;
    if value.is_sign_negative() && !is_zero {
        return None;
    }
    Some((value * unit, is_zero))
}

fuzz_target!(|text: &str| {
    if text.contains('\0') {
        return;
    }
    let ours = deadbeat::fuzzing::time(text);
    match by_strtod(text) {
        None => assert_eq!(ours, None, "{text:?}"),
        Some((_, true)) => assert_eq!(ours, Some(Duration::ZERO), "{text:?}"),
        Some((seconds, false)) => {
            let ours = ours.unwrap_or_else(|| panic!("{text:?} is {seconds} s"));
            let expected = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            let off = ours.as_secs_f64() - expected.as_secs_f64();
            let rounding = 2e-9 + expected.as_secs_f64() * 1e-12;
            assert!(!ours.is_zero() && off.abs() <= rounding, "{text:?}: {ours:?}, {expected:?}");
        }
    }
});
