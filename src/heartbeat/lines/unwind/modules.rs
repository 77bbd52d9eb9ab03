//! The modules of this process and their unwind information, all read from its memory: a file may be another by now.

use std::cell::OnceCell;
use std::ops::Range;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, Evaluation, FrameDescriptionEntry, NativeEndian, Pointer,
    Register, UnwindContext, UnwindExpression, UnwindSection, UnwindTableRow,
};

use crate::heartbeat::observer::sample::memory;

/// What the unwind information is read as.
pub(crate) type Bytes<'a> = EndianSlice<'a, NativeEndian>;

/// Unwind information larger than this is not read.
const LARGEST_MODULE: usize = 256 << 20;

const PT_LOAD: u64 = 1;
const PT_GNU_EH_FRAME: u64 = 0x6474_e550;

/// One line of `/proc/self/maps`, see proc_pid_maps(5).
struct Mapping {
    range: Range<usize>,
    executable: bool,
    offset: usize,
    path: String,
    /// Of the module whose ELF header is here, once that was asked for.
    unwind: OnceCell<Option<Unwind>>,
}

/// What is mapped, and what was read of it.
pub(crate) struct Modules {
    mappings: Vec<Mapping>,
}

/// The unwind information of one module: the table that finds a function's, and all of it.
struct Unwind {
    header: Vec<u8>,
    frames: Vec<u8>,
    bases: BaseAddresses,
}

impl Modules {
    pub(crate) fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/self/maps").unwrap_or_default())
    }

    fn parse(maps: &str) -> Self {
        Self { mappings: maps.lines().filter_map(Mapping::parse).collect() }
    }

    /// Whether there is code at `address`, and of which file.
    pub(crate) fn path_of_code(&self, address: usize) -> Option<&str> {
        self.mapping(address).map(|mapping| mapping.path.as_str())
    }

    /// Whether `address` is one that a call returns to. Elsewhere than on x86-64 all code is taken for that.
    pub(crate) fn follows_a_call(&self, address: usize) -> bool {
        const LONGEST_CALL: usize = 7;
        let before =
            self.mapping(address.wrapping_sub(1)).and_then(|_| memory::copy(address - LONGEST_CALL, LONGEST_CALL));
        before.is_some_and(|code| !cfg!(target_arch = "x86_64") || ends_with_a_call(&code))
    }

    fn mapping(&self, address: usize) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|mapping| mapping.range.start <= address);
        let mapping = &self.mappings[after.checked_sub(1)?];
        (mapping.executable && mapping.range.contains(&address)).then_some(mapping)
    }

    /// The function at `address`, if there is unwind information for it.
    pub(crate) fn code(&self, address: usize) -> Option<Code<'_>> {
        self.unwind(self.mapping(address)?)?.code(address)
    }

    fn unwind(&self, of: &Mapping) -> Option<&Unwind> {
        let first = |one: &&Mapping| one.path == of.path && one.offset == 0 && one.range.start <= of.range.start;
        let base = self.mappings.iter().rfind(first).filter(|_| !of.path.is_empty())?;
        base.unwind.get_or_init(|| Unwind::read(base.range.start)).as_ref()
    }
}

/// One function's unwind information.
pub(crate) struct Code<'a> {
    frames: EhFrame<Bytes<'a>>,
    bases: &'a BaseAddresses,
    entry: FrameDescriptionEntry<Bytes<'a>>,
}

impl<'a> Code<'a> {
    /// The rules that hold at `address`.
    pub(crate) fn row<'c>(
        &self,
        context: &'c mut UnwindContext<usize>,
        address: usize,
    ) -> Option<&'c UnwindTableRow<usize>> {
        self.entry.unwind_info_for_address(&self.frames, self.bases, context, address as u64).ok()
    }

    /// From which address on the frame is told by this register, and how far above the stack pointer it began right
    /// before.
    pub(crate) fn frame_set_to(
        &self,
        context: &mut UnwindContext<usize>,
        wanted: Register,
        stack_pointer: Register,
    ) -> Option<(usize, usize)> {
        let mut rows = self.entry.rows(&self.frames, self.bases, context).ok()?;
        let mut above = None;
        while let Some(row) = rows.next_row().ok()? {
            match row.cfa() {
                CfaRule::RegisterAndOffset { register, .. } if *register == wanted => {
                    return Some((usize::try_from(row.start_address()).ok()?, above?));
                }
                CfaRule::RegisterAndOffset { register, offset } if *register == stack_pointer => {
                    above = usize::try_from(*offset).ok();
                }
                _ => above = None,
            }
        }
        None
    }

    #[cfg(test)]
    pub(crate) fn range(&self) -> Range<usize> {
        self.entry.initial_address() as usize..self.entry.end_address() as usize
    }

    pub(crate) fn return_register(&self) -> Register {
        self.entry.cie().return_address_register()
    }

    /// Whether it is what the kernel has a signal handler return to.
    pub(crate) fn is_signal_trampoline(&self) -> bool {
        self.entry.is_signal_trampoline()
    }

    pub(crate) fn evaluation(&self, expression: UnwindExpression<usize>) -> Option<Evaluation<Bytes<'a>>> {
        Some(expression.get(&self.frames).ok()?.evaluation(self.entry.cie().encoding()))
    }
}

impl Mapping {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (range, mode, offset) = (fields.next()?, fields.next()?, fields.next()?);
        let path = fields.nth(2)?.trim_start().to_owned();
        let (from, to) = range.split_once('-')?;
        let word = |hex| usize::from_str_radix(hex, 16).ok();
        let (range, executable, offset) = (word(from)?..word(to)?, mode.contains('x'), word(offset)?);
        Some(Self { range, executable, offset, path, unwind: OnceCell::new() })
    }
}

/// A program header of a 64-bit ELF file.
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    in_file: u64,
    in_memory: u64,
}

impl Unwind {
    /// `base`: of the ELF header of a module.
    fn read(base: usize) -> Option<Self> {
        let segments = segments(base)?;
        let first = segments.iter().find(|segment| segment.kind == PT_LOAD && segment.offset == 0)?;
        let bias = (base as u64).wrapping_sub(first.address);
        let table = segments.iter().find(|segment| segment.kind == PT_GNU_EH_FRAME)?;
        let header_at = bias.wrapping_add(table.address);
        let header = memory::copy(header_at as usize, bounded(table.in_memory)?)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(header_at);
        let parsed = EhFrameHdr::new(&header, NativeEndian).parse(&bases, size_of::<usize>() as u8).ok()?;
        let Pointer::Direct(frames_at) = parsed.eh_frame_ptr() else { return None };
        // Nothing says how long it is; an entry of no length ends it.
        let holds = |segment: &&Segment| {
            let from = bias.wrapping_add(segment.address);
            segment.kind == PT_LOAD && (from..from.wrapping_add(segment.in_file)).contains(&frames_at)
        };
        let segment = segments.iter().find(holds)?;
        let end = bias.wrapping_add(segment.address).wrapping_add(segment.in_file);
        let frames = memory::copy(frames_at as usize, bounded(end - frames_at)?)?;
        Some(Self { header, frames, bases: bases.set_eh_frame(frames_at) })
    }

    fn code(&self, address: usize) -> Option<Code<'_>> {
        let (frames, bases) = (EhFrame::from(EndianSlice::new(&self.frames, NativeEndian)), &self.bases);
        let header = EhFrameHdr::new(&self.header, NativeEndian).parse(bases, size_of::<usize>() as u8).ok()?;
        let entry = header.table()?.fde_for_address(&frames, bases, address as u64, EhFrame::cie_from_offset).ok()?;
        Some(Code { frames, bases, entry })
    }
}

/// By a distance, or through a register or memory: `call` of x86-64, whose length follows from its second byte.
fn ends_with_a_call(code: &[u8]) -> bool {
    let indirect = |length: usize| {
        let call = &code[code.len() - length..];
        call[0] == 0xff && (call[1] >> 3) & 7 == 2 && length == length_of_call(call[1])
    };
    code.get(code.len().wrapping_sub(5)) == Some(&0xe8) || (2..=code.len()).any(indirect)
}

/// By its byte of mode, register and memory.
fn length_of_call(mode: u8) -> usize {
    let scaled = usize::from(mode & 7 == 4 && mode >> 6 != 3);
    2 + scaled
        + match mode >> 6 {
            0 if mode & 7 == 5 => 4,
            1 => 1,
            2 => 4,
            _ => 0,
        }
}

fn bounded(length: u64) -> Option<usize> {
    usize::try_from(length).ok().filter(|length| *length <= LARGEST_MODULE)
}

/// See elf(5). Others than 64-bit ones have none for us.
fn segments(base: usize) -> Option<Vec<Segment>> {
    let header = memory::copy(base, 64)?;
    if !header.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let [at, size, count] = [number(&header, 32, 8)?, number(&header, 54, 2)?, number(&header, 56, 2)?];
    let table = memory::copy(base.wrapping_add(at as usize), bounded(size * count)?)?;
    let segment = |entry: &[u8]| {
        Some(Segment {
            kind: number(entry, 0, 4)?,
            offset: number(entry, 8, 8)?,
            address: number(entry, 16, 8)?,
            in_file: number(entry, 32, 8)?,
            in_memory: number(entry, 40, 8)?,
        })
    };
    table.chunks_exact(bounded(size).filter(|size| *size > 0)?).map(segment).collect()
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + length)?;
    let mut word = [0; 8];
    if cfg!(target_endian = "little") {
        word[..length].copy_from_slice(bytes);
    } else {
        word[8 - length..].copy_from_slice(bytes);
    }
    Some(u64::from_ne_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_whatever_its_path_and_where_it_is_no_code_there_is_none() {
        let maps = "1000-2000 r--p 00000000 fe:00 27                         /home/me/my project/job\n\
                    2000-3000 r-xp 00001000 fe:00 27                         /home/me/my project/job\n\
                    4000-5000 rw-p 00000000 00:00 0 \n\
                    5000-6000 r-xp 00000000 fe:00 28                         /home/me/my\n";
        let modules = Modules::parse(maps);
        let paths = [0x1fff, 0x2000, 0x2fff, 0x3000, 0x4000, 0x5000, 0, usize::MAX].map(|at| modules.path_of_code(at));
        let (job, my) = (Some("/home/me/my project/job"), Some("/home/me/my"));
        assert_eq!(paths, [None, job, job, None, None, my, None, None]);
    }

    #[test]
    fn every_function_of_this_program_has_unwind_information_and_data_has_none() {
        let modules = Modules::read();
        let here = Modules::read as fn() -> Modules as usize;
        assert!(modules.code(here).is_some());
        static DATA: u64 = PT_LOAD;
        let (data, stack) = (&raw const DATA as usize, &raw const here as usize);
        assert!(modules.code(data).is_none() && modules.code(stack).is_none() && modules.code(8).is_none());
    }

    #[test]
    fn a_call_is_told_by_its_last_byte_whichever_kind_it_is() {
        let calls: [&[u8]; 7] = [
            &[0x90, 0x90, 0xe8, 1, 2, 3, 4],
            &[0x90, 0xff, 0x15, 1, 2, 3, 4],
            &[0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0],
            &[0x90, 0x90, 0x90, 0x90, 0x41, 0xff, 0xd3],
            &[0x90, 0x90, 0x90, 0x90, 0xff, 0x50, 0x18],
            &[0xff, 0x94, 0x24, 1, 2, 3, 4],
            &[0x90, 0x90, 0x90, 0xff, 0x54, 0xc8, 8],
        ];
        assert!(calls.iter().all(|code| ends_with_a_call(code)));
        let others: [&[u8]; 4] = [
            &[0x90; 7],
            &[0x90, 0x90, 0xe9, 1, 2, 3, 4],
            &[0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xe0],
            // Cut short.
            &[0x90, 0x90, 0x90, 0x90, 0xff, 0x15, 1],
        ];
        assert!(!others.iter().any(|code| ends_with_a_call(code)));
    }

    #[test]
    fn what_is_no_elf_file_has_no_segments() {
        let text = [b'x'; 4096];
        assert!(segments(text.as_ptr() as usize).is_none() && segments(8).is_none());
        // As long as the address space, by its own account.
        let mut header = [0xff; 4096];
        header[..5].copy_from_slice(b"\x7fELF\x02");
        assert!(segments(header.as_ptr() as usize).is_none());
    }
}
