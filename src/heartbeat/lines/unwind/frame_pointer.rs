//! Where the frame of a function with a frame pointer begins, if the register itself is not known: the code between
//! where the function set it and its first other instruction says how much it has pushed since.

use gimli::{Register, UnwindContext};

use crate::heartbeat::lines::unwind::modules::Code;
use crate::heartbeat::observer::sample::memory;

/// No function takes more code to set up its frame.
const PROLOGUE: usize = 128;

const FRAME_POINTER: Register = Register(6);
const SP_REGISTER: Register = Register(7);

/// How far above the stack pointer the frame begins, in the function that is at `address` and calls another.
pub(crate) fn frame_above_stack(
    code: &Code<'_>,
    context: &mut UnwindContext<usize>,
    register: Register,
    address: usize,
) -> Option<usize> {
    if register != FRAME_POINTER || !cfg!(target_arch = "x86_64") {
        return None;
    }
    let (set_at, above) = code.frame_set_to(context, FRAME_POINTER, SP_REGISTER)?;
    let length = address.checked_sub(set_at)?.min(PROLOGUE);
    above.checked_add(pushed(&memory::copy(set_at, length)?)?)
}

/// How many bytes the prologue of a function pushes and reserves. `None` where that depends on where the stack was.
fn pushed(mut code: &[u8]) -> Option<usize> {
    let number = |bytes: [u8; 4]| i32::from_le_bytes(bytes);
    let mut pushed = 0_i32;
    loop {
        let (length, more) = match *code {
            // push
            [0x50..=0x57, ..] => (1, 8),
            [0x41, 0x50..=0x57, ..] => (2, 8),
            // sub rsp, of one byte and of four
            [0x48, 0x83, 0xec, by, ..] => (4, i32::from(by as i8)),
            [0x48, 0x81, 0xec, a, b, c, d, ..] => (7, number([a, b, c, d])),
            // and rsp
            [0x48, 0x81 | 0x83, 0xe4, ..] => return None,
            // mov qword [rsp], 0, which touches each page
            [0x48, 0xc7, 0x04, 0x24, 0, 0, 0, 0, ..] => (8, 0),
            // lea r11, [rsp - n], up to where a loop of these touches each page: sub rsp, mov qword [rsp], cmp rsp, jne
            [0x4c, 0x8d, 0x9c, 0x24, a, b, c, d, 0x48, 0x81, 0xec, ..] => {
                (8 + 7 + 8 + 3 + 2, number([a, b, c, d]).checked_neg()?)
            }
            _ => return usize::try_from(pushed).ok(),
        };
        pushed = pushed.checked_add(more)?;
        code = code.get(length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_prologue_pushes_and_reserves_is_counted_up_to_the_first_other_instruction() {
        let call = [0xe8, 0, 0, 0, 0];
        let count = |parts: &[&[u8]]| pushed(&[&parts.concat()[..], &call].concat());
        let (push_rbx, push_r15) = (&[0x53][..], &[0x41, 0x57][..]);
        assert_eq!((count(&[]), count(&[push_r15, push_rbx])), (Some(0), Some(16)));
        assert_eq!(count(&[push_rbx, &[0x48, 0x83, 0xec, 0x28]]), Some(8 + 0x28));
        assert_eq!(count(&[push_r15, &[0x48, 0x81, 0xec, 0x88, 1, 0, 0]]), Some(8 + 0x188));
        assert_eq!(count(&[&[0x48, 0x83, 0xec, 0x80]]), None, "nothing is reserved by that");
        assert_eq!(count(&[push_rbx, &[0x48, 0x83, 0xe4, 0xc0]]), None, "an alignment depends on where the stack was");
        let touched = [0x48, 0xc7, 0x04, 0x24, 0, 0, 0, 0];
        let page = [&[0x48, 0x81, 0xec, 0, 0x10, 0, 0][..], &touched].concat();
        assert_eq!(count(&[push_rbx, &page, &page, &[0x48, 0x83, 0xec, 8]]), Some(8 + 0x2000 + 8));
        let end = [0x4c, 0x8d, 0x9c, 0x24, 0, 0xb0, 0xff, 0xff];
        let pages = [&end[..], &page, &[0x4c, 0x39, 0xdc, 0x75, 0xef]].concat();
        assert_eq!(count(&[push_rbx, &pages, &[0x48, 0x83, 0xec, 8]]), Some(8 + 0x5000 + 8));
    }

    #[test]
    fn code_that_ends_within_an_instruction_tells_nothing() {
        assert_eq!(pushed(&[0x53, 0x48, 0x83]), Some(8), "no instruction of a prologue");
        assert_eq!(pushed(&[0x4c, 0x8d, 0x9c, 0x24, 0, 0xb0, 0xff, 0xff, 0x48, 0x81, 0xec]), None);
        assert_eq!(pushed(&[]), Some(0));
    }
}
