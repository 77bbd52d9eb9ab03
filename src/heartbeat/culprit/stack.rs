//! The top of a thread's stack, copied, with what is known of its registers: all that unwinding needs.

use std::fmt;
use std::sync::Arc;

/// So many stacks of one stall are looked at for its source line. One look costs little, but the first reads the
/// symbols.
const STACKS: usize = 8;

/// Registers that unwinding follows, by their DWARF numbers, and those that a called function leaves as they were.
#[cfg(target_arch = "x86_64")]
mod arch {
    pub(crate) const COUNT: usize = 17;
    pub(crate) const STACK_POINTER: usize = 7;
    pub(crate) const PROGRAM_COUNTER: Option<usize> = Some(16);
    pub(crate) const PRESERVED: &[usize] = &[3, 6, 12, 13, 14, 15];
}

#[cfg(target_arch = "aarch64")]
mod arch {
    pub(crate) const COUNT: usize = 32;
    pub(crate) const STACK_POINTER: usize = 31;
    pub(crate) const PROGRAM_COUNTER: Option<usize> = None;
    pub(crate) const PRESERVED: &[usize] = &[19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29];
}

/// Of others nothing is followed, so unwinding ends at once.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod arch {
    pub(crate) const COUNT: usize = 1;
    pub(crate) const STACK_POINTER: usize = 0;
    pub(crate) const PROGRAM_COUNTER: Option<usize> = None;
    pub(crate) const PRESERVED: &[usize] = &[];
}

/// A thread's registers, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) program_counter: usize,
    values: [Option<usize>; arch::COUNT],
}

impl Registers {
    /// Of a thread that waits in a system call the kernel shows these two.
    pub(crate) fn of_wait(program_counter: usize, stack_pointer: usize) -> Self {
        let mut registers = Self { program_counter, values: [None; arch::COUNT] };
        registers.values[arch::STACK_POINTER] = Some(stack_pointer);
        registers.values[arch::PROGRAM_COUNTER.unwrap_or(arch::STACK_POINTER)] =
            Some(arch::PROGRAM_COUNTER.map_or(stack_pointer, |_| program_counter));
        registers
    }

    /// By its DWARF number; `None` for one that is not known.
    pub(crate) fn get(&self, number: u16) -> Option<usize> {
        self.values.get(usize::from(number)).copied().flatten()
    }

    pub(crate) fn stack_pointer(&self) -> usize {
        self.values[arch::STACK_POINTER].unwrap_or_default()
    }

    /// Those of the caller, before any rule of the called function is applied: what it does not preserve is not known.
    pub(crate) fn of_caller(&self, program_counter: usize, stack_pointer: usize) -> Self {
        let mut caller = Self::of_wait(program_counter, stack_pointer);
        for number in arch::PRESERVED {
            caller.values[*number] = self.values[*number];
        }
        caller
    }

    /// By its DWARF number; one that unwinding does not follow is left out.
    pub(crate) fn set(&mut self, number: u16, value: Option<usize>) {
        if let Some(register) = self.values.get_mut(usize::from(number)) {
            *register = value;
        }
    }

    /// The numbers of those that a called function restores.
    pub(crate) fn preserved() -> impl Iterator<Item = u16> {
        arch::PRESERVED.iter().map(|number| *number as u16)
    }
}

/// A copy of the top of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) registers: Registers,
    /// The address of the first word.
    base: usize,
    words: Vec<usize>,
}

impl Stack {
    /// `words`: from the stack pointer on.
    pub(crate) fn new(registers: Registers, words: Vec<usize>) -> Self {
        Self { registers, base: registers.stack_pointer(), words }
    }

    /// The word at `address`, if that was copied.
    pub(crate) fn word(&self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.base)?;
        (offset % size_of::<usize>() == 0).then(|| self.words.get(offset / size_of::<usize>()).copied())?
    }

    /// The words from `address` on.
    pub(crate) fn from(&self, address: usize) -> &[usize] {
        let first = address.saturating_sub(self.base).div_ceil(size_of::<usize>());
        self.words.get(first..).unwrap_or_default()
    }
}

/// What the source line of a culprit can be told from: some of the stacks that were copied. No part of what it says, so
/// two culprits that differ in nothing else are the same.
#[derive(Clone, Default)]
pub(crate) struct StackCopies(Vec<Arc<Stack>>);

impl StackCopies {
    /// A few of them, spread evenly.
    pub(crate) fn of(stacks: impl Iterator<Item = Arc<Stack>>) -> Self {
        let all: Vec<_> = stacks.collect();
        let step = all.len().div_ceil(STACKS).max(1);
        Self(all.into_iter().step_by(step).collect())
    }

    pub(crate) fn stacks(&self) -> &[Arc<Stack>] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for StackCopies {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for StackCopies {}

impl fmt::Debug for StackCopies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stacks", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(base: usize, words: &[usize]) -> Stack {
        Stack::new(Registers::of_wait(1, base), words.to_vec())
    }

    #[test]
    fn a_word_is_read_where_it_was_copied_and_nowhere_else() {
        let stack = stack(0x1000, &[7, 8, 9]);
        assert_eq!([0x1000, 0x1008, 0x1010].map(|at| stack.word(at)), [Some(7), Some(8), Some(9)]);
        assert_eq!([0xff8, 0x1004, 0x1018, usize::MAX].map(|at| stack.word(at)), [None; 4]);
        assert_eq!((stack.from(0x1009), stack.from(0x1010), stack.from(0x1018)), (&[9][..], &[9][..], &[][..]));
        assert_eq!(stack.from(0), [7, 8, 9]);
    }

    #[test]
    fn a_caller_keeps_what_is_preserved_and_nothing_else_is_known_of_it() {
        let mut callee = Registers::of_wait(1, 0x1000);
        for number in Registers::preserved() {
            assert_eq!(callee.get(number), None, "nothing is known of it at first");
            callee.set(number, Some(77));
        }
        callee.set(0, Some(77));
        callee.set(u16::MAX, Some(77));
        let caller = callee.of_caller(2, 0x2000);
        assert_eq!((caller.program_counter, caller.stack_pointer()), (2, 0x2000));
        assert!(Registers::preserved().all(|number| caller.get(number) == Some(77)));
        assert_eq!((caller.get(0), caller.get(u16::MAX)), (None, None));
    }

    #[test]
    fn of_many_stacks_a_few_are_kept_spread_evenly_over_all() {
        let kept = |of: usize| {
            let evidence = StackCopies::of((0..of).map(|word| Arc::new(stack(0, &[word]))));
            evidence.stacks().iter().map(|stack| stack.words[0]).collect::<Vec<_>>()
        };
        assert_eq!((kept(0), kept(3)), (vec![], vec![0, 1, 2]));
        assert_eq!(kept(9), [0, 2, 4, 6, 8]);
        assert_eq!(kept(800), [0, 100, 200, 300, 400, 500, 600, 700]);
    }
}
