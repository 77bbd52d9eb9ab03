//! This process's own memory, read through `/proc/self/mem`: a bad address is an error there, not a crash.

use std::fs::File;
use std::ops::Range;
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
pub(crate) fn c_string(address: usize) -> Option<String> {
    let (bytes, read) = bytes::<256>(address)?;
    let end = bytes[..read].iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// Two machine words: a `timespec`.
pub(crate) fn two_words(address: usize) -> Option<[i64; 2]> {
    let (bytes, read) = bytes::<16>(address)?;
    let word = |at: usize| i64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    (read == 16).then(|| [word(0), word(8)])
}

/// One 32-bit number: a `pollfd`'s descriptor, an address family.
pub(crate) fn int(address: usize) -> Option<i32> {
    let (bytes, read) = bytes::<4>(address)?;
    (read == 4).then(|| i32::from_ne_bytes(bytes))
}

/// All of so many bytes.
#[cfg(feature = "backtrace")]
pub(crate) fn copy(address: usize, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    memory()?.read_exact_at(&mut bytes, address as u64).ok()?;
    Some(bytes)
}

/// The words above a stack pointer, where the return addresses are.
#[cfg(any(feature = "backtrace", test))]
pub(crate) fn stack(pointer: usize) -> Vec<usize> {
    const DEEP: usize = 16 * 1024;
    let Some((bytes, read)) = bytes::<DEEP>(pointer) else {
        return Vec::new();
    };
    let words = bytes[..read].chunks_exact(size_of::<usize>());
    words.map(|word| usize::from_ne_bytes(word.try_into().expect("one word"))).collect()
}

/// Whether the C library keeps its own state there: in its writable data, or in the head of one of glibc's heaps, where
/// the lock of the heap's arena is.
pub(crate) fn is_c_librarys(address: usize) -> bool {
    /// glibc's heaps begin at multiples of this.
    const HEAP: usize = 64 << 20;
    /// From the head of a heap to the lock of its arena, in all versions so far.
    const HEAD: Range<usize> = 0x20..0x61;
    HEAD.contains(&(address % HEAP)) || c_library().iter().any(|range| range.contains(&address))
}

/// The writable data of the C library and of the dynamic linker, which share their locks.
fn c_library() -> &'static [Range<usize>] {
    static DATA: OnceLock<Vec<Range<usize>>> = OnceLock::new();
    DATA.get_or_init(|| data_of_c_library(&std::fs::read_to_string("/proc/self/maps").unwrap_or_default()))
}

fn data_of_c_library(maps: &str) -> Vec<Range<usize>> {
    // A library's uninitialized data follows its file's mappings without a name, in one mapping.
    let (mut data, mut after) = (Vec::new(), None);
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(((from, to), mode)) = fields.next().and_then(|range| range.split_once('-')).zip(fields.next()) else {
            continue;
        };
        let word = |hex| usize::from_str_radix(hex, 16).unwrap_or(0);
        let (from, to, path) = (word(from), word(to), fields.nth(3));
        let name = path.and_then(|path| path.rsplit('/').next());
        let named = name.is_some_and(|name| {
            name.starts_with("libc.so") || name.starts_with("libc-") || name.starts_with("ld-linux")
        });
        let follows = path.is_none() && after == Some(from);
        after = named.then_some(to);
        if (named || follows) && mode.starts_with("rw") {
            data.push(from..to);
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_librarys_data_is_its_writable_mappings_and_what_follows_them() {
        let maps = "\
7f10-7f20 r-xp 00000000 fe:00 12 /usr/lib/libc.so.6
7f20-7f30 rw-p 00000000 fe:00 12 /usr/lib/libc.so.6
7f30-7f40 rw-p 00000000 00:00 0
7f40-7f48 rw-p 00000000 00:00 0
7f50-7f60 rw-p 00000000 00:00 0
7f60-7f70 rw-p 00000000 fe:00 12 /usr/lib/ld-linux-x86-64.so.2
7f80-7f90 rw-p 00000000 fe:00 12 /usr/lib/libcrypto.so.3
";
        assert_eq!(data_of_c_library(maps), [0x7f20..0x7f30, 0x7f30..0x7f40, 0x7f60..0x7f70]);
    }

    #[test]
    fn a_lock_of_this_program_is_not_the_c_librarys() {
        let (boxed, local) = (Box::new(0u32), 0u32);
        static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
        for address in [&raw const *boxed as usize, &raw const local as usize, &raw const LOCK as usize] {
            assert!(!is_c_librarys(address), "{address:x}");
        }
        assert!(is_c_librarys(0x7ff9_2000_0030), "the arena of a heap");
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn the_c_library_of_this_program_has_data() {
        assert!(!c_library().is_empty());
        assert!(c_library().iter().all(|range| is_c_librarys(range.start) && is_c_librarys(range.end - 1)));
    }

    #[test]
    fn what_can_be_read_is_read_and_what_cannot_is_nothing() {
        let words = [-7i64, 1 << 40];
        assert_eq!(two_words(words.as_ptr() as usize), Some(words));
        let number = -1234i32;
        assert_eq!(int(&raw const number as usize), Some(number));
        assert_eq!((two_words(8), int(8), c_string(8), stack(8)), (None, None, None, Vec::new()));
    }

    #[test]
    fn a_string_ends_at_its_zero_and_without_one_near_it_is_none() {
        let of = |text: &[u8]| c_string(text.as_ptr() as usize);
        assert_eq!(of(b"/etc/passwd\0and more").as_deref(), Some("/etc/passwd"));
        assert_eq!(of(b"\0").as_deref(), Some(""));
        let longest = [vec![b'x'; 255], vec![0; 300]].concat();
        assert_eq!(of(&longest), Some("x".repeat(255)));
        let longer = [vec![b'x'; 256], vec![0; 300]].concat();
        assert_eq!(of(&longer), None);
    }

    #[test]
    fn of_a_stack_the_top_16_kib_are_copied() {
        let words: Vec<usize> = (1..=4096).collect();
        assert_eq!(stack(words.as_ptr() as usize), words[..16 * 1024 / size_of::<usize>()]);
    }
}
