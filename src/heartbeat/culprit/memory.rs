//! This process's own memory, read through `/proc/self/mem`: a bad address is an error there, not a crash.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

fn memory() -> Option<&'static File> {
    static MEMORY: OnceLock<Option<File>> = OnceLock::new();
    MEMORY.get_or_init(|| File::open("/proc/self/mem").ok()).as_ref()
}

/// Up to `N` bytes at `address`; what cannot be read is zero.
fn bytes<const N: usize>(address: usize) -> Option<([u8; N], usize)> {
    let mut bytes = [0; N];
    let read = memory()?.read_at(&mut bytes, address as u64).ok()?;
    Some((bytes, read))
}

/// A C string, as long as 255 bytes.
pub(super) fn c_string(address: usize) -> Option<String> {
    let (bytes, read) = bytes::<256>(address)?;
    let end = bytes[..read].iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// Two machine words: a `timespec`.
pub(super) fn two_words(address: usize) -> Option<[i64; 2]> {
    let (bytes, read) = bytes::<16>(address)?;
    let word = |at: usize| i64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    (read == 16).then(|| [word(0), word(8)])
}

/// One 32-bit number: a `pollfd`'s descriptor, an address family.
pub(super) fn int(address: usize) -> Option<i32> {
    let (bytes, read) = bytes::<4>(address)?;
    (read == 4).then(|| i32::from_ne_bytes(bytes))
}

/// The words above a stack pointer, where the return addresses are.
pub(super) fn stack(pointer: usize) -> Vec<usize> {
    const DEEP: usize = 16 * 1024;
    let Some((bytes, read)) = bytes::<DEEP>(pointer) else {
        return Vec::new();
    };
    let words = bytes[..read].chunks_exact(size_of::<usize>());
    words.map(|word| usize::from_ne_bytes(word.try_into().expect("one word"))).collect()
}
